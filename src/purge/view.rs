//! The purge index as many threads read it: a version that is compared first, and a lock that is rarely taken.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{Confirmation, Incarnation, Index, Position, Purge, Stamp, TargetId, Validity};
use crate::clock::{Moment, Timestamp};

/// What this replica knows of purges.
#[derive(Debug)]
pub struct View {
    /// Grows with every change after which something valid may not be valid any more.
    version: AtomicU64,
    index: RwLock<Index>,
    /// The [`Moment`] at which the view was last known to be whole; zero: never.
    confirmed: AtomicU64,
}

/// The version of the view under which a stored response was last found valid; it spares the next look at the
/// index while nothing at all was purged.
#[derive(Debug, Default)]
pub struct FoundValid(AtomicU64);

impl View {
    pub fn new(index: Index) -> Self {
        Self { version: AtomicU64::new(1), index: RwLock::new(index), confirmed: AtomicU64::new(0) }
    }

    /// Brings the view up to date. Reports whether the index is another one than before.
    ///
    /// Replies may arrive in another order than their questions were sent in, so what does not join on to what is
    /// known here is passed over: it proves nothing.
    pub fn learn(&self, confirmation: &Confirmation) -> bool {
        let mut index = self.write();
        let is_new = index.incarnation() != confirmation.incarnation;
        if is_new {
            if !self.begins_again(confirmation) {
                return false;
            }
            // From here until the new index is whole, nothing is proved.
            self.confirmed.store(0, Ordering::Release);
            index.begin_again(confirmation.incarnation);
        } else if confirmation.after > index.high_water() {
            return false;
        }
        // Whoever makes or lifts a mark takes a position, so the higher mark is the later word.
        let is_last_word = confirmation.is_whole && confirmation.high_water >= index.high_water();
        index.learn(&confirmation.changes, confirmation.high_water, confirmation.now);
        if is_last_word {
            index.know_marks(&confirmation.changes);
        }
        if is_new || !confirmation.changes.is_empty() {
            self.version.fetch_add(1, Ordering::Release);
        }
        if confirmation.is_whole {
            self.confirmed.fetch_max(confirmation.asked_at.as_nanos(), Ordering::Release);
        }
        is_new
    }

    /// Whether [`View::learn`] would leave the present index for another one.
    pub fn leaves_for(&self, confirmation: &Confirmation) -> bool {
        self.incarnation() != confirmation.incarnation && self.begins_again(confirmation)
    }

    fn begins_again(&self, confirmation: &Confirmation) -> bool {
        let is_later = self.confirmed_at().is_none_or(|confirmed| confirmed <= confirmation.asked_at);
        confirmation.after == Position::default() && is_later
    }

    /// When everything that had been purged was known here; `None` if the view is not whole.
    ///
    /// Ask *before* judging: what is judged then is judged by this confirmation or a later one.
    pub fn confirmed_at(&self) -> Option<Moment> {
        match self.confirmed.load(Ordering::Acquire) {
            0 => None,
            nanos => Some(Moment::from_nanos(nanos)),
        }
    }

    pub fn incarnation(&self) -> Incarnation {
        self.read().incarnation()
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
mod memo_tests;
#[cfg(test)]
mod tests;
