//! What this replica has purged, to be purged again should another index take the place of the present one.
//!
//! A new index alone makes nothing valid that was stored before. But two servers may have taken themselves for the
//! primary for a while, and then what this replica purged on the one is not known on the other, which wins. And a doubt
//! that Redis has forgotten is not over.
//!
//! It is bounded: beyond that, everything is named. It never talks to Redis.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Moment;
use crate::purge::{Incarnation, Target, TargetId};

const MOST: usize = 10_000;
const MOST_LEFT: usize = 64;

#[derive(Debug, Default)]
pub struct Past(Mutex<Purged>);

#[derive(Debug, Default)]
struct Purged {
    targets: HashSet<TargetId>,
    /// Until when these are in doubt.
    doubtful: HashMap<TargetId, Moment>,
    /// Indexes that this replica was at, and is no more.
    left: VecDeque<Incarnation>,
}

/// What is to be purged on the index that is new here.
#[derive(Debug, PartialEq, Eq)]
pub struct Again {
    pub targets: Vec<TargetId>,
    pub doubtful: Vec<TargetId>,
    pub in_doubt_for: Duration,
}

impl Past {
    /// Redis has it.
    pub fn purged(&self, targets: &[TargetId], in_doubt_for: Duration, now: Moment) {
        let mut purged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let everything = Target::Everything.id();
        if !purged.targets.contains(&everything) {
            purged.targets.extend(targets);
        }
        if purged.targets.len() > MOST {
            purged.targets = HashSet::from([everything]);
        }
        if in_doubt_for.is_zero() {
            return;
        }
        let until = now.plus(in_doubt_for);
        purged.doubtful.retain(|_, until| *until > now);
        for id in targets {
            let doubtful = purged.doubtful.entry(*id).or_insert(until);
            *doubtful = until.max(*doubtful);
        }
        if purged.doubtful.len() > MOST {
            let last = purged.doubtful.values().copied().max().unwrap_or(until);
            purged.doubtful = HashMap::from([(everything, last)]);
        }
    }

    /// This replica goes from one index to another. Back to one that it has left, nobody knows what was purged in between.
    pub fn goes(&self, from: Incarnation, to: Incarnation, now: Moment) -> Again {
        let mut purged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        purged.doubtful.retain(|_, until| *until > now);
        let last = purged.doubtful.values().copied().max().unwrap_or(now);
        let targets = if purged.left.contains(&to) {
            vec![Target::Everything.id()]
        } else {
            purged.targets.iter().copied().collect()
        };
        if !purged.left.contains(&from) {
            purged.left.push_back(from);
        }
        if purged.left.len() > MOST_LEFT {
            purged.left.pop_front();
        }
        Again { targets, doubtful: purged.doubtful.keys().copied().collect(), in_doubt_for: last.since(now) }
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
        let (past, now) = (Past::default(), Moment::now());
        let [first, second, third] = [1, 2, 3].map(Incarnation);
        past.purged(&[id("a")], Duration::ZERO, now);
        past.purged(&[id("b")], 30 * SECOND, now);
        past.purged(&[id("c")], SECOND, now);
        let mut again = past.goes(first, second, now.plus(10 * SECOND));
        again.targets.sort_unstable();
        let mut all = vec![id("a"), id("b"), id("c")];
        all.sort_unstable();
        assert_eq!(again, Again { targets: all, doubtful: vec![id("b")], in_doubt_for: 20 * SECOND });
        let again = past.goes(second, third, now.plus(40 * SECOND));
        assert_eq!((again.doubtful, again.in_doubt_for), (vec![], Duration::ZERO));
        // Of what was purged on the third while this was at the second it knows nothing.
        assert_eq!(past.goes(third, second, now).targets, [Target::Everything.id()]);
    }

    #[test]
    fn what_is_too_much_is_everything() {
        let (past, now) = (Past::default(), Moment::now());
        for number in 0..=MOST {
            past.purged(&[id(&number.to_string())], SECOND, now);
        }
        past.purged(&[id("more")], Duration::ZERO, now);
        let again = past.goes(Incarnation(1), Incarnation(2), now);
        let everything = vec![Target::Everything.id()];
        assert_eq!(again, Again { targets: everything.clone(), doubtful: everything, in_doubt_for: SECOND });
    }
}
