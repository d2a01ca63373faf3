//! Soon after the last fault all replicas have the newest version, and have it stored.

use std::collections::{HashMap, HashSet};

use super::{Invariant, Promise, Violation};
use crate::history::record::{History, Read, Seen};

pub fn check_convergence(history: &History, promise: Promise) -> Vec<Violation> {
    let Some(well_since) = history.well_since else { return Vec::new() };
    // A machine that stands still is one more fault.
    let stalled = history.stalled().map(|span| span.ret).filter(|ret| *ret > well_since).max();
    let from = stalled.unwrap_or(well_since) + promise.converges_within + promise.lag;
    let mut newest: HashMap<usize, u64> = HashMap::new();
    for apply in &history.applies {
        let version = newest.entry(apply.key).or_default();
        *version = apply.version.max(*version);
    }
    let mut reads: Vec<&Read> = history.reads.iter().filter(|read| read.span.inv >= from).collect();
    reads.sort_by_key(|read| read.span.inv);
    let mut asked = HashSet::new();
    let mut found = Vec::new();
    for read in reads {
        let is_first = asked.insert((read.replica, read.key, read.variant, read.identity));
        let expected = newest.get(&read.key).copied().unwrap_or_default();
        let is_newest = matches!(&read.seen, Seen::Content(content) if content.version == expected);
        if !is_newest || !(is_first || read.hit) {
            let what = format!("{read}\nall was well since {well_since}, with version {expected}");
            let (key, span) = (read.key, read.span);
            found.push(Violation { invariant: Invariant::Convergence, key, span, what });
        }
    }
    found
}
