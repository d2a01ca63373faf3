//! The purge index as many threads read it: a version that is compared first, and a lock that is rarely taken.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{Index, Position, Purge, Stamp, TargetId, Validity};
use crate::clock::Timestamp;

/// What this replica knows of purges.
#[derive(Debug)]
pub struct View {
    /// Grows with every change after which something valid may not be valid any more.
    version: AtomicU64,
    index: RwLock<Index>,
}

/// The version of the view under which a stored response was last found valid; it spares the next look at the
/// index while nothing at all was purged.
#[derive(Debug, Default)]
pub struct FoundValid(AtomicU64);

impl View {
    pub fn new(index: Index) -> Self {
        Self { version: AtomicU64::new(1), index: RwLock::new(index) }
    }

    /// Records a purge. When this returns, no reader finds valid what the purge names.
    pub fn purge(&self, purge: &Purge, now: Timestamp) -> Position {
        self.change(|index| index.purge(purge, now))
    }

    /// Changes the index, and lets every [`FoundValid`] be looked up anew.
    pub fn change<T>(&self, change: impl FnOnce(&mut Index) -> T) -> T {
        let mut index = self.write();
        let result = change(&mut index);
        self.version.fetch_add(1, Ordering::Release);
        result
    }

    /// What a fetch that begins at `now` must carry.
    pub fn stamp(&self, now: Timestamp) -> Stamp {
        let index = self.read();
        if index.last_date_passed(now).is_none() {
            return index.stamp();
        }
        drop(index);
        let mut index = self.write();
        index.confirm(now);
        index.stamp()
    }

    pub fn judge(&self, stamp: &Stamp, targets: &[TargetId]) -> Validity {
        self.read().judge(stamp, targets)
    }

    /// As [`View::judge`], for something that is judged again and again.
    pub fn judge_again(&self, found: &FoundValid, stamp: &Stamp, targets: &[TargetId]) -> Validity {
        let version = self.version.load(Ordering::Acquire);
        if found.0.load(Ordering::Relaxed) == version {
            return Validity::Valid;
        }
        let validity = self.judge(stamp, targets);
        if validity == Validity::Valid {
            found.0.store(version, Ordering::Relaxed);
        }
        validity
    }

    pub fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purge::{Bounds, Incarnation, Target};

    #[test]
    fn what_was_found_valid_is_looked_up_again_after_a_purge() {
        let now = Timestamp::from_secs(1);
        let view = View::new(Index::new(Incarnation(1), now, Bounds::default()));
        let (found, stamp) = (FoundValid::default(), view.stamp(now));
        let (mine, other) = (Target::tag("mine"), Target::tag("other"));
        let judge = || view.judge_again(&found, &stamp, &[mine.id()]);
        assert_eq!((judge(), judge()), (Validity::Valid, Validity::Valid));
        view.purge(&Purge::hard(vec![other]), now);
        assert_eq!((judge(), judge()), (Validity::Valid, Validity::Valid));
        view.purge(&Purge::hard(vec![mine.clone()]), now);
        assert_eq!((judge(), judge()), (Validity::Dead, Validity::Dead));
    }
}
