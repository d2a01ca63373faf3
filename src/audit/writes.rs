//! The last writes, and how often a response had changed, or had not, after each kind of write.
//!
//! That is evidence: a write after which a route's responses had changed, and never had not, probably changes them.

use std::collections::{HashMap, HashSet, VecDeque};

use http::Method;
use serde::Serialize;

use super::compare::bounded;
use crate::clock::Timestamp;
use crate::policy::Route;

/// Most writes that are remembered.
const MAX_WRITES: usize = 1_024;

/// Most kinds of remembered writes that no route names, and the name of all others.
const MAX_UNROUTED_KINDS: usize = 64;
const OTHER_KINDS: &str = "another write without a route";

/// Most pairs of a reading route and a kind of write. Beyond it, the quarter that was seen longest ago goes.
const MAX_PAIRS: usize = 2_048;

/// Differences after a write that is no relative by its path, before it counts as likely.
const MIN_DIFFERENCES_OF_STRANGER: u32 = 3;

/// A write whose response went back.
#[derive(Clone, Debug)]
pub(crate) struct AcknowledgedWrite {
    /// The method and the path of the route, or the generalised path of the request.
    name: String,
    /// The name is a route's with a usual method, so there are only few like it.
    is_routed: bool,
    method: String,
    path: String,
    sent_at: Timestamp,
    ended_at: Timestamp,
}

/// The time in which a write may have changed a response, and whose response it is.
pub(super) struct ChangeWindow<'w> {
    pub route: &'w Route,
    pub path: &'w str,
    pub from: Timestamp,
    pub to: Timestamp,
}

/// A write that may have changed a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cause {
    /// The kind of write: `PATCH /api/courses/{id}`.
    pub write: String,
    /// The request.
    pub method: String,
    pub path: String,
    pub at: String,
    /// Audits of the route that found a difference after such a write, and those that found none.
    pub different: u32,
    pub same: u32,
    #[serde(skip)]
    pub is_likely: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    different: u32,
    same: u32,
    /// The number of its last use.
    used: u64,
}

/// How closely the paths of a write and a read belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum PathRelation {
    None,
    /// They share a word.
    Word,
    /// One lies below the other.
    Below,
}

#[derive(Default)]
pub(super) struct WriteHistory {
    pub(super) writes: VecDeque<AcknowledgedWrite>,
    /// The number of remembered writes by name, without those that a route names.
    unrouted: HashMap<String, usize>,
    pub(super) evidence: HashMap<(usize, String, PathRelation), Evidence>,
    uses: u64,
}

const USUAL_METHODS: [Method; 4] = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

impl AcknowledgedWrite {
    pub(crate) fn new(
        method: &Method,
        path: &str,
        route: Option<&Route>,
        (sent_at, ended_at): (Timestamp, Timestamp),
    ) -> Self {
        let place = route.map_or_else(|| generalise(path), |route| route.path.as_str().to_owned());
        Self {
            name: bounded(&format!("{method} {place}")),
            is_routed: route.is_some() && USUAL_METHODS.contains(method),
            method: bounded(method.as_str()),
            path: bounded(path),
            sent_at,
            ended_at,
        }
    }
}

impl WriteHistory {
    pub(super) fn add(&mut self, mut write: AcknowledgedWrite) {
        if self.writes.len() >= MAX_WRITES {
            let oldest = self.writes.pop_front();
            if let Some(oldest) = oldest.filter(|oldest| !oldest.is_routed) {
                self.forget_unrouted(&oldest.name);
            }
        }
        if !write.is_routed {
            if self.unrouted.len() >= MAX_UNROUTED_KINDS && !self.unrouted.contains_key(&write.name) {
                write.name = OTHER_KINDS.to_owned();
            }
            *self.unrouted.entry(write.name.clone()).or_default() += 1;
        }
        self.writes.push_back(write);
    }

    fn forget_unrouted(&mut self, name: &str) {
        if let Some(count) = self.unrouted.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.unrouted.remove(name);
            }
        }
    }

    /// Counts the result of an audit for each kind of write in the window. Returns these, the likeliest first.
    pub(super) fn record(
        &mut self,
        window: &ChangeWindow<'_>,
        is_different: bool,
        sees_all_writes: bool,
    ) -> Vec<Cause> {
        let least_of_stranger = if sees_all_writes { 1 } else { MIN_DIFFERENCES_OF_STRANGER };
        let mut seen = HashSet::new();
        let mut causes = Vec::new();
        // The latest of each kind comes first.
        for write in self.writes.iter().rev() {
            let is_between = write.ended_at >= window.from && write.sent_at <= window.to;
            let relation = PathRelation::new(&write.path, window.path);
            if !is_between || !seen.insert((write.name.as_str(), relation)) {
                continue;
            }
            let key = (window.route.index, write.name.clone(), relation);
            if self.evidence.len() >= MAX_PAIRS && !self.evidence.contains_key(&key) {
                drop_least_used(&mut self.evidence);
            }
            self.uses += 1;
            let evidence = self.evidence.entry(key).or_default();
            evidence.used = self.uses;
            match is_different {
                true => evidence.different = evidence.different.saturating_add(1),
                false => evidence.same = evidence.same.saturating_add(1),
            }
            causes.push((relation, write.to_cause(*evidence, relation, least_of_stranger)));
        }
        let rank = |(relation, cause): &(PathRelation, Cause)| (cause.is_likely, *relation, cause.different);
        causes.sort_by_key(|cause| std::cmp::Reverse(rank(cause)));
        causes.into_iter().map(|(_, cause)| cause).collect()
    }
}

fn drop_least_used<K: Eq + std::hash::Hash>(evidence: &mut HashMap<K, Evidence>) {
    let mut uses: Vec<u64> = evidence.values().map(|pair| pair.used).collect();
    let (_, first_kept, _) = uses.select_nth_unstable(MAX_PAIRS / 4);
    evidence.retain(|_, pair| pair.used >= *first_kept);
}

impl AcknowledgedWrite {
    fn to_cause(&self, evidence: Evidence, relation: PathRelation, least_of_stranger: u32) -> Cause {
        let Evidence { different, same, .. } = evidence;
        let is_likely = match relation {
            PathRelation::None => different >= least_of_stranger && different > same.saturating_mul(4),
            PathRelation::Word | PathRelation::Below => different > same,
        };
        Cause {
            write: self.name.clone(),
            method: self.method.clone(),
            path: self.path.clone(),
            at: self.ended_at.to_rfc3339(3),
            different,
            same,
            is_likely,
        }
    }
}

impl PathRelation {
    fn new(write: &str, read: &str) -> Self {
        let (write, read) = (segments(write), segments(read));
        let (shorter, longer) = if write.len() < read.len() { (&write, &read) } else { (&read, &write) };
        if shorter.len() > 1 && longer.starts_with(shorter) {
            return PathRelation::Below;
        }
        let is_word = |segment: &&&str| {
            segment.len() > 2 && !segment.starts_with(|c: char| c.is_ascii_digit()) && **segment != "api"
        };
        match write.iter().filter(is_word).any(|word| read.contains(word)) {
            true => PathRelation::Word,
            false => PathRelation::None,
        }
    }
}

fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|segment| !segment.is_empty()).collect()
}

/// The path with `{}` in place of segments that look like values.
fn generalise(path: &str) -> String {
    let is_value = |segment: &str| segment.len() > 24 || segment.bytes().any(|byte| byte.is_ascii_digit());
    let is_version = |segment: &str| segment.len() < 4 && segment.starts_with('v');
    let mut out = String::new();
    for segment in segments(path).into_iter().take(8) {
        out.push('/');
        out.push_str(if is_value(segment) && !is_version(segment) { "{}" } else { segment });
    }
    if out.is_empty() { "/".into() } else { out }
}
