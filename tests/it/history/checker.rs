//! Judges a history. The upstream orders the versions, so no search is needed: each invariant is one look at what was
//! acknowledged before a read began.

mod convergence;
mod herd;

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::record::{Content, End, Fault, Harm, History, Read, Seen, Span, Write};

/// The promise of a mode.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// How long after its acknowledgement a purge may be unknown to other replicas; zero: strict.
    pub lag: u64,
    /// Writes are guarded: nothing is served from the store while one is under way, and a crash loses none.
    pub guarded: bool,
    /// After so long a write whose end nobody heard of has happened or never will, and is purged.
    pub unknown_after: u64,
    /// So long after the last fault everybody has the newest, and has it stored.
    pub converges_within: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Invariant {
    FreshAfterAcknowledgement,
    RealValue,
    NoGoingBack,
    PurgeEpoch,
    Owner,
    ExactlyOnce,
    UnknownOutcome,
    NoInventedErrors,
    Convergence,
    Herd,
    NoFalseAcknowledgement,
}

#[derive(Clone, Debug)]
pub struct Violation {
    pub invariant: Invariant,
    pub key: usize,
    pub span: Span,
    pub what: String,
}

/// Everything that is wrong with `history`, the shortest first.
pub fn check(history: &History, promise: Promise) -> Vec<Violation> {
    let judge = Judge::new(history, promise);
    let mut violations: Vec<Violation> = history.reads.iter().flat_map(|read| judge.read(read)).collect();
    violations.extend(judge.writes());
    violations.extend(judge.going_back());
    violations.extend(judge.acknowledgements());
    violations.extend(convergence::check_convergence(history, promise));
    violations.extend(herd::check_herds(history, promise));
    violations.sort_by_key(|violation| violation.span.ret - violation.span.inv);
    violations
}

/// The highest value that had come by an instant.
#[derive(Default)]
struct Highest(Vec<(u64, u64)>);

impl Highest {
    fn from_values(mut values: Vec<(u64, u64)>) -> Self {
        values.sort_unstable();
        let mut highest = 0;
        for (_, value) in &mut values {
            highest = highest.max(*value);
            *value = highest;
        }
        Self(values)
    }

    /// Strictly before `instant`.
    fn before(&self, instant: u64) -> u64 {
        let count = self.0.partition_point(|(at, _)| *at < instant);
        count.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

struct Judge<'h> {
    history: &'h History,
    promise: Promise,
    /// When each version took effect.
    applied: HashMap<(usize, u64), u64>,
    /// The version that each write made, and how often it was applied.
    made: HashMap<u64, (u64, u32)>,
    acknowledged: HashMap<usize, Highest>,
    /// By key, replica and how often that had been started anew.
    held_by: HashMap<(usize, usize, usize), Highest>,
    purged: HashMap<usize, Highest>,
    unknown: HashMap<usize, Highest>,
    /// Versions that may disappear again although their write was guarded, since the intent may be lost.
    unmarked: HashSet<(usize, u64)>,
}

impl<'h> Judge<'h> {
    fn new(history: &'h History, promise: Promise) -> Self {
        let applied = history.applies.iter().map(|apply| ((apply.key, apply.version), apply.at)).collect();
        let mut made: HashMap<u64, (u64, u32)> = HashMap::new();
        for apply in &history.applies {
            let (version, times) = made.entry(apply.write).or_default();
            (*version, *times) = (apply.version.max(*version), *times + 1);
        }
        let mut judge = Self {
            history,
            promise,
            applied,
            made,
            acknowledged: HashMap::new(),
            held_by: HashMap::new(),
            purged: HashMap::new(),
            unknown: HashMap::new(),
            unmarked: HashSet::new(),
        };
        judge.sort_out();
        judge
    }

    fn sort_out(&mut self) {
        let mut by_key: HashMap<usize, Vec<(u64, u64)>> = HashMap::new();
        let mut by_replica: HashMap<(usize, usize, usize), Vec<(u64, u64)>> = HashMap::new();
        let mut unknown: HashMap<usize, Vec<(u64, u64)>> = HashMap::new();
        for write in &self.history.writes {
            let version = self.made.get(&write.id).map_or(0, |(version, _)| *version);
            let known = (write.span.ret, version);
            let loses_mark = self.loses_mark(write, version);
            if loses_mark {
                self.unmarked.insert((write.key, version));
            }
            let here = (write.key, write.replica, self.life(write.replica, write.span.ret));
            match &write.end {
                End::Acknowledged => {
                    by_key.entry(write.key).or_default().push(known);
                    by_replica.entry(here).or_default().push(known);
                }
                End::NotRecorded => {
                    // The mark that a guard made still stands.
                    if self.promise.guarded && !loses_mark {
                        by_key.entry(write.key).or_default().push(known);
                    }
                    // And the replica knows for itself, as long as it lives.
                    by_replica.entry(here).or_default().push(known);
                }
                End::Unknown(_) if self.shows_in_time(write, loses_mark) => {
                    unknown.entry(write.key).or_default().push(known);
                }
                End::Unknown(_) | End::Refused => {}
            }
        }
        let keys = self.history.reads.iter().map(|read| read.key).max().map_or(0, |last| last + 1);
        for key in 0..keys {
            let covers = |named: Option<usize>| named.is_none_or(|named| named == key);
            let purges = self.history.purges.iter().filter(|purge| purge.acknowledged && covers(purge.key));
            let purges = purges.map(|purge| (purge.span.ret, purge.span.inv)).collect();
            self.purged.insert(key, Highest::from_values(purges));
        }
        self.acknowledged =
            by_key.into_iter().map(|(key, values)| (key, Highest::from_values(values))).collect();
        self.held_by =
            by_replica.into_iter().map(|(key, values)| (key, Highest::from_values(values))).collect();
        self.unknown = unknown.into_iter().map(|(key, values)| (key, Highest::from_values(values))).collect();
    }

    fn read(&self, read: &Read) -> Vec<Violation> {
        let content = match &read.seen {
            Seen::Content(content) => content,
            Seen::Failed(reason) => return self.failed(read, reason).into_iter().collect(),
        };
        let (key, began) = (read.key, read.span.inv);
        let Content { version, origin_at, owner, .. } = content;
        let mut found = Vec::new();
        let mut say = |invariant, what: String| {
            found.push(Violation { invariant, key, span: read.span, what: format!("{read}\n{what}") });
        };
        let by_all = before(self.acknowledged.get(&key), began.saturating_sub(self.promise.lag));
        let by_this = before(self.held_by.get(&(key, read.replica, self.life(read.replica, began))), began);
        let expected = by_all.max(by_this);
        if *version < expected {
            let what = format!("version {expected} had been acknowledged");
            say(Invariant::FreshAfterAcknowledgement, what);
        }
        let came = if *version == 0 { Some(0) } else { self.applied.get(&(key, *version)).copied() };
        if came.is_none_or(|came| came > read.span.ret)
            || !content.intact
            || (content.key, content.variant) != (key, read.variant)
        {
            say(
                Invariant::RealValue,
                "it is not what the upstream had, or not what was asked for".to_owned(),
            );
        }
        let purged = before(self.purged.get(&key), began.saturating_sub(self.promise.lag));
        if *origin_at < purged {
            say(Invariant::PurgeEpoch, format!("a purge that began at {purged} had been acknowledged"));
        }
        if owner.is_some() && *owner != read.identity {
            say(Invariant::Owner, "it was made for somebody else".to_owned());
        }
        let since = self.promise.unknown_after + self.promise.lag;
        let happened = before(self.unknown.get(&key), began.saturating_sub(since));
        if *version < happened {
            say(Invariant::UnknownOutcome, format!("version {happened} had come to be, unheard of"));
        }
        found
    }

    /// No answer, or not a good one, although nothing was wrong that could not be helped.
    fn failed(&self, read: &Read, reason: &str) -> Option<Violation> {
        let what = format!("{read}\nthe upstream was healthy: {reason}");
        (!self.is_excused(read.span, read.replica)).then_some(Violation {
            invariant: Invariant::NoInventedErrors,
            key: read.key,
            span: read.span,
            what,
        })
    }

    fn is_excused(&self, span: Span, replica: usize) -> bool {
        self.history.faults.iter().any(|fault| match fault.harms {
            Harm::Nothing | Harm::Store | Harm::Index => false,
            Harm::Upstream => fault.span.overlaps(&span),
            Harm::Frozen(harmed) | Harm::Ended(harmed) | Harm::Killed(harmed) => {
                harmed == replica && fault.span.overlaps(&span)
            }
        })
    }

    /// How often a replica had been ended by an instant.
    fn life(&self, replica: usize, instant: u64) -> usize {
        let ends = |fault: &&Fault| {
            let ended = matches!(fault.harms, Harm::Killed(ended) | Harm::Ended(ended) if ended == replica);
            ended && fault.span.inv <= instant
        };
        self.history.faults.iter().filter(ends).count()
    }

    fn is_during(&self, span: Span, harms: impl Fn(Harm) -> bool) -> bool {
        self.history.faults.iter().any(|fault| harms(fault.harms) && fault.span.overlaps(&span))
    }

    /// The documented residual: the index is lost together with the intent while a write is on its way. A response
    /// fetched then, before the write takes effect, is stored until the purge.
    fn loses_mark(&self, write: &Write, version: u64) -> bool {
        let applied = self.applied.get(&(write.key, version)).copied();
        let open = Span { inv: write.span.inv, ret: applied.unwrap_or(write.span.inv) };
        self.is_during(open, |harms| harms == Harm::Index)
    }

    /// Whether a write whose end nobody heard of is promised to be purged.
    fn shows_in_time(&self, write: &Write, loses_mark: bool) -> bool {
        let ends = |harms| harms == Harm::Killed(write.replica);
        if self.promise.guarded {
            // The proxy and the marks together.
            return !(loses_mark && self.is_during(write.span, ends));
        }
        // Its purge waits in a replica for Redis, or ended with the replica.
        let open = Span { ret: write.span.ret + self.promise.unknown_after, ..write.span };
        !self.is_during(open, |harms| {
            let replica = write.replica;
            let ended = [Harm::Killed(replica), Harm::Ended(replica), Harm::Frozen(replica)];
            [Harm::Store, Harm::Index].contains(&harms) || ended.contains(&harms)
        })
    }

    /// Purges that were acknowledged while that was impossible.
    fn acknowledgements(&self) -> Vec<Violation> {
        let is_impossible = |replica: usize, span: &Span| {
            let cuts_off = |fault: &Fault| {
                fault.away.is_some_and(|(whom, away)| {
                    whom.is_none_or(|whom| whom == replica) && away.contains(span)
                })
            };
            self.history.faults.iter().any(cuts_off)
        };
        let found =
            |key, span, what| Violation { invariant: Invariant::NoFalseAcknowledgement, key, span, what };
        let writes = self
            .history
            .writes
            .iter()
            .filter(|write| write.end == End::Acknowledged && is_impossible(write.replica, &write.span));
        let purges = self
            .history
            .purges
            .iter()
            .filter(|purge| purge.acknowledged && is_impossible(purge.replica, &purge.span));
        let writes = writes.map(|write| found(write.key, write.span, write.to_string()));
        let purges = purges.map(|purge| {
            let what = format!("purge of {:?} on {}", purge.key, purge.replica);
            found(purge.key.unwrap_or(0), purge.span, what)
        });
        writes.chain(purges).collect()
    }

    fn writes(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        for write in &self.history.writes {
            let times = self.made.get(&write.id).map_or(0, |(_, times)| *times);
            let is_right = match write.end {
                End::Acknowledged | End::NotRecorded => times == 1,
                End::Refused => times == 0,
                End::Unknown(_) => times <= 1,
            };
            let violation = |invariant, what: String| Violation {
                invariant,
                key: write.key,
                span: write.span,
                what: format!("{write}\n{what}"),
            };
            if !is_right {
                found.push(violation(
                    Invariant::ExactlyOnce,
                    format!("the upstream applied it {times} times"),
                ));
            }
            if let End::Unknown(reason) = &write.end
                && reason != LEFT
                && !self.is_excused(write.span, write.replica)
            {
                found.push(violation(Invariant::NoInventedErrors, "the upstream was healthy".to_owned()));
            }
        }
        found
    }

    /// Guarded: once a version was read, every later read sees it, acknowledged or not.
    ///
    /// Without a guard nothing keeps two fetches apart of which one read before a change and one after it, until its
    /// purge: so nothing is promised of it before it is acknowledged, and then [`Invariant::FreshAfterAcknowledgement`]
    /// is the stronger one.
    fn going_back(&self) -> Vec<Violation> {
        if !self.promise.guarded {
            return Vec::new();
        }
        let mut seen: HashMap<usize, Vec<(u64, u64)>> = HashMap::new();
        let contents = |read: &'h Read| match &read.seen {
            Seen::Content(content) => Some((read, content.version)),
            Seen::Failed(_) => None,
        };
        for (read, version) in self.history.reads.iter().filter_map(contents) {
            if !self.unmarked.contains(&(read.key, version)) {
                seen.entry(read.key).or_default().push((read.span.ret, version));
            }
        }
        let seen: HashMap<usize, Highest> =
            seen.into_iter().map(|(key, values)| (key, Highest::from_values(values))).collect();
        let reads = self.history.reads.iter().filter_map(contents);
        let back = reads.filter_map(|(read, version)| {
            let before = before(seen.get(&read.key), read.span.inv.saturating_sub(self.promise.lag));
            (version < before).then(|| Violation {
                invariant: Invariant::NoGoingBack,
                key: read.key,
                span: read.span,
                what: format!("{read}\nversion {before} had been seen"),
            })
        });
        back.collect()
    }
}

/// Why the end of a write is unknown, where its client did not wait for it.
pub const LEFT: &str = "the client left";

fn before(highest: Option<&Highest>, instant: u64) -> u64 {
    highest.map_or(0, |highest| highest.before(instant))
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:?}: {}", self.invariant, self.span, self.what)
    }
}

#[cfg(test)]
#[path = "checker_tests.rs"]
mod tests;
