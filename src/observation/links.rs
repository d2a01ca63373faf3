//! Which writes are followed by changes of which reads, with counter-examples.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::paths::ObservedPath;
use crate::clock::Timestamp;

/// Most writes that are remembered. An interval that begins before the first of them is not judged.
const MAX_WRITES: usize = 256;

/// Most writes in an interval that is judged: more of them say nothing.
const MAX_WRITES_BETWEEN: usize = 32;

/// Most kinds of writes, and most pairs of a read and a kind of write.
const MAX_KINDS: usize = 256;
const MAX_PAIRS: usize = 8_192;

/// A write as it is remembered.
#[derive(Debug)]
struct RecentWrite {
    kind: usize,
    /// The fingerprints of the values in its path.
    values: Vec<u64>,
    subject: Option<u64>,
    sent: Timestamp,
    state: WriteState,
}

#[derive(Clone, Copy, Debug)]
enum WriteState {
    UnderWay,
    Ended(Timestamp),
    Failed,
}

/// The time between two reads of the same request.
pub(super) struct ChangeInterval<'i> {
    /// The number of the read's template.
    pub read: usize,
    pub values: &'i [(ReadValue, u64)],
    pub subject: Option<u64>,
    pub from: Timestamp,
    pub to: Timestamp,
}

/// A value of a read: the one at this place in its path, or the parameter whose name has this fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum ReadValue {
    Path(usize),
    Parameter(u64),
}

/// A kind of write, as it is related to a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PossibleCause {
    pub write: usize,
    /// The first value that both have, with its place in the write's path.
    pub shared: Option<(ReadValue, usize)>,
    /// Both are by the same subject.
    pub is_own: bool,
}

/// Intervals with such a write in which the read changed, and in which it did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PairCounts {
    /// No other kind of write was between.
    pub alone_changed: u64,
    pub alone_same: u64,
    /// Others were, too.
    pub among_changed: u64,
    pub among_same: u64,
}

#[derive(Default)]
pub(super) struct WriteLinks {
    kinds: HashMap<String, usize>,
    /// Kinds so far, forgotten ones included.
    next_kind: usize,
    recent: VecDeque<RecentWrite>,
    /// The number of the first of them.
    first_number: u64,
    /// Writes under way that are not among them.
    unknown: usize,
    /// Nothing is known of writes before this moment.
    known_since: Timestamp,
    /// By the number of a read's template.
    pairs: HashMap<(usize, PossibleCause), PairCounts>,
}

impl WriteLinks {
    /// Remembers a write that is sent now. `None`: it is not kept, and [`WriteLinks::end`] has to say so, too.
    pub(super) fn begin(
        &mut self,
        name: String,
        (path, subject): (ObservedPath, Option<u64>),
        sent: Timestamp,
    ) -> Option<u64> {
        let known = self.kinds.get(&name).copied();
        let kind = match known {
            Some(kind) => kind,
            None if self.kinds.len() >= MAX_KINDS => return self.begin_unknown(),
            None => {
                self.next_kind += 1;
                self.kinds.insert(name, self.next_kind);
                self.next_kind
            }
        };
        if self.recent.len() >= MAX_WRITES {
            self.forget_first();
        }
        let (values, state) = (path.values, WriteState::UnderWay);
        self.recent.push_back(RecentWrite { kind, values, subject, sent, state });
        Some(self.first_number + self.recent.len() as u64 - 1)
    }

    /// A write is not kept: nothing is known of changes until it has ended.
    pub(super) fn begin_unknown(&mut self) -> Option<u64> {
        self.unknown += 1;
        None
    }

    /// A write has ended.
    pub(super) fn end(&mut self, number: Option<u64>, has_failed: bool, now: Timestamp) {
        let at = number.and_then(|number| number.checked_sub(self.first_number));
        let known = at.and_then(|at| self.recent.get_mut(usize::try_from(at).ok()?));
        if let Some(write) = known {
            write.state = if has_failed { WriteState::Failed } else { WriteState::Ended(now) };
            return;
        }
        self.unknown = self.unknown.saturating_sub(1);
        if !has_failed {
            self.known_since = self.known_since.max(now);
        }
    }

    fn forget_first(&mut self) {
        let Some(oldest) = self.recent.pop_front() else { return };
        self.first_number += 1;
        match oldest.state {
            WriteState::UnderWay => self.unknown += 1,
            WriteState::Ended(ended) => self.known_since = self.known_since.max(ended),
            WriteState::Failed => {}
        }
    }

    /// Forgets reads with these numbers, and the kinds of writes whose paths are below a prefix.
    pub(super) fn forget_below(&mut self, prefix: &str, reads: &[usize]) {
        self.kinds.retain(|name, _| {
            let path = name.split_once(' ').map_or("", |(_, path)| path);
            !path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
        });
        let kinds = &self.kinds;
        let is_kept = |(read, cause): &(usize, PossibleCause)| {
            !reads.contains(read) && kinds.values().any(|kind| *kind == cause.write)
        };
        self.pairs.retain(|pair, _| is_kept(pair));
    }

    /// Whether it is known that no write was under way in this time.
    pub(super) fn is_quiet(&self, from: Timestamp, to: Timestamp) -> bool {
        self.is_known(from) && !self.recent.iter().any(|write| write.is_between(from, to))
    }

    /// Counts the result of an interval for each cause in it, and returns these if they are known and few.
    pub(super) fn record(
        &mut self,
        interval: &ChangeInterval<'_>,
        is_changed: bool,
    ) -> Option<BTreeSet<PossibleCause>> {
        if !self.is_known(interval.from) {
            return None;
        }
        let between = self.recent.iter().filter(|write| write.is_between(interval.from, interval.to));
        let between: Vec<&RecentWrite> = between.take(MAX_WRITES_BETWEEN + 1).collect();
        if between.len() > MAX_WRITES_BETWEEN {
            return None;
        }
        let causes: BTreeSet<PossibleCause> =
            between.into_iter().map(|write| interval.relate(write)).collect();
        let is_alone = causes.len() == 1;
        for cause in &causes {
            let pair = (interval.read, *cause);
            if self.pairs.len() >= MAX_PAIRS && !self.pairs.contains_key(&pair) {
                continue;
            }
            let counts = self.pairs.entry(pair).or_default();
            *match (is_alone, is_changed) {
                (true, true) => &mut counts.alone_changed,
                (true, false) => &mut counts.alone_same,
                (false, true) => &mut counts.among_changed,
                (false, false) => &mut counts.among_same,
            } += 1;
        }
        Some(causes)
    }

    /// When the last write ended after which this read has changed before, as far as few writes are between.
    pub(super) fn last_cause(&self, interval: &ChangeInterval<'_>) -> Option<Timestamp> {
        let is_cause = |counts: &PairCounts| {
            counts.alone_changed > 0 || counts.alone_same == 0 && counts.among_changed > counts.among_same
        };
        let between = self.recent.iter().rev().take(MAX_WRITES_BETWEEN);
        let mut causes = between.filter(|write| {
            write.is_between(interval.from, interval.to)
                && self.pairs.get(&(interval.read, interval.relate(write))).is_some_and(is_cause)
        });
        causes.next().map(|write| match write.state {
            WriteState::Ended(ended) => ended,
            WriteState::UnderWay | WriteState::Failed => interval.to,
        })
    }

    fn is_known(&self, from: Timestamp) -> bool {
        self.unknown == 0 && from > self.known_since
    }

    /// The names of the kinds, by their numbers.
    pub(super) fn names(&self) -> HashMap<usize, &str> {
        self.kinds.iter().map(|(name, kind)| (*kind, name.as_str())).collect()
    }

    /// The causes of each read, in the order of the writes' numbers.
    pub(super) fn causes(&self) -> BTreeMap<usize, BTreeMap<PossibleCause, PairCounts>> {
        let mut by_read: BTreeMap<usize, BTreeMap<PossibleCause, PairCounts>> = BTreeMap::new();
        for ((read, cause), counts) in &self.pairs {
            by_read.entry(*read).or_default().insert(*cause, *counts);
        }
        by_read
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.kinds.keys().map(|name| name.len() + 64).sum::<usize>()
            + self.recent.iter().map(|write| 8 * write.values.capacity()).sum::<usize>()
            + size_of::<RecentWrite>() * self.recent.capacity()
            + super::map_bytes::<((usize, PossibleCause), PairCounts)>(self.pairs.capacity())
    }
}

impl ChangeInterval<'_> {
    fn relate(&self, write: &RecentWrite) -> PossibleCause {
        let place = |value: u64| write.values.iter().position(|known| *known == value);
        let mut values = self.values.iter();
        let shared = values.find_map(|(name, value)| Some((*name, place(*value)?)));
        let is_own = self.subject.is_some() && self.subject == write.subject;
        PossibleCause { write: write.kind, shared, is_own }
    }
}

impl RecentWrite {
    /// Whether it may have changed something in this time.
    fn is_between(&self, from: Timestamp, to: Timestamp) -> bool {
        match self.state {
            WriteState::UnderWay => self.sent <= to,
            WriteState::Ended(ended) => ended >= from && self.sent <= to,
            WriteState::Failed => false,
        }
    }
}
