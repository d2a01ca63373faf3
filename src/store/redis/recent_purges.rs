//! Recent purges of this replica, to be replayed if another index takes the place of the present one.
//!
//! A new epoch makes nothing valid that was stored before. But two servers may both have been the primary for a while;
//! then a purge made on one is unknown to the other, which wins. And a doubt that Redis has lost is not over.
//!
//! Bounded: beyond the bound, everything is named. Does not talk to Redis.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Moment;
use crate::purge::{Epoch, Position, Target, TargetId};

const MAX_TARGETS: usize = 10_000;
const MAX_PAST_EPOCHS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct RecentPurges(Mutex<PurgedTargets>);

#[derive(Debug, Default)]
struct PurgedTargets {
    targets: HashSet<TargetId>,
    /// Until when these are in doubt.
    in_doubt: HashMap<TargetId, Moment>,
    /// Indexes that this replica was at, and is no more.
    past_epochs: VecDeque<Epoch>,
}

/// The purges to replay on the new index.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Replay {
    pub targets: Vec<TargetId>,
    pub in_doubt: Vec<TargetId>,
    pub in_doubt_for: Duration,
}

impl RecentPurges {
    /// Whether the position is of an epoch that this replica has left.
    pub(super) fn has_left(&self, position: &Position) -> bool {
        self.0.lock().past_epochs.iter().any(|epoch| position.has_epoch(*epoch))
    }

    /// Redis has it.
    pub(super) fn record_purge(&self, targets: &[TargetId], in_doubt_for: Duration, now: Moment) {
        let mut purged = self.0.lock();
        let everything = Target::Everything.id();
        if !purged.targets.contains(&everything) {
            purged.targets.extend(targets);
        }
        if purged.targets.len() > MAX_TARGETS {
            purged.targets = HashSet::from([everything]);
        }
        if in_doubt_for.is_zero() {
            return;
        }
        let until = now.plus(in_doubt_for);
        for id in targets {
            let doubtful = purged.in_doubt.entry(*id).or_insert(until);
            *doubtful = until.max(*doubtful);
        }
        if purged.in_doubt.len() > MAX_TARGETS {
            purged.in_doubt.retain(|_, until| *until > now);
        }
        if purged.in_doubt.len() > MAX_TARGETS {
            let last = purged.in_doubt.values().copied().max().unwrap_or(until);
            purged.in_doubt = HashMap::from([(everything, last)]);
        }
    }

    /// This replica goes from one index to another. Back to one that it has left, nobody knows what was purged in between.
    pub(super) fn on_epoch_change(&self, from: Epoch, to: Epoch, now: Moment) -> Replay {
        let mut purged = self.0.lock();
        purged.in_doubt.retain(|_, until| *until > now);
        let last = purged.in_doubt.values().copied().max().unwrap_or(now);
        let targets = if purged.past_epochs.contains(&to) {
            vec![Target::Everything.id()]
        } else {
            purged.targets.iter().copied().collect()
        };
        if !purged.past_epochs.contains(&from) {
            purged.past_epochs.push_back(from);
        }
        if purged.past_epochs.len() > MAX_PAST_EPOCHS {
            purged.past_epochs.pop_front();
        }
        Replay { targets, in_doubt: purged.in_doubt.keys().copied().collect(), in_doubt_for: last.since(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(name: &str) -> TargetId {
        Target::tag(name).id()
    }

    #[test]
    fn another_index_is_told_what_was_purged_and_what_is_in_doubt() {
        let (past, now) = (RecentPurges::default(), Moment::now());
        let [first, second, third] = [1, 2, 3].map(Epoch);
        past.record_purge(&[id("a")], Duration::ZERO, now);
        past.record_purge(&[id("b")], 30 * SECOND, now);
        past.record_purge(&[id("c")], SECOND, now);
        let mut again = past.on_epoch_change(first, second, now.plus(10 * SECOND));
        again.targets.sort_unstable();
        let mut all = vec![id("a"), id("b"), id("c")];
        all.sort_unstable();
        assert_eq!(again, Replay { targets: all, in_doubt: vec![id("b")], in_doubt_for: 20 * SECOND });
        let again = past.on_epoch_change(second, third, now.plus(40 * SECOND));
        assert_eq!((again.in_doubt, again.in_doubt_for), (vec![], Duration::ZERO));
        // It does not know what was purged on the third while it used the second.
        assert_eq!(past.on_epoch_change(third, second, now).targets, [Target::Everything.id()]);
    }

    #[test]
    fn what_is_too_much_is_everything() {
        let (past, now) = (RecentPurges::default(), Moment::now());
        for number in 0..=MAX_TARGETS {
            past.record_purge(&[id(&number.to_string())], SECOND, now);
        }
        past.record_purge(&[id("more")], Duration::ZERO, now);
        let again = past.on_epoch_change(Epoch(1), Epoch(2), now);
        let everything = vec![Target::Everything.id()];
        assert_eq!(again, Replay { targets: everything.clone(), in_doubt: everything, in_doubt_for: SECOND });
    }
}
