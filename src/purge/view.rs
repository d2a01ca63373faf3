//! The purge index as many threads read it: a version that is compared first, and a lock that is rarely taken.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{Epoch, Index, Purge, PurgeVersion, ReadVersion, SyncReply, TargetId, Validity};
use crate::clock::{Moment, Timestamp};

/// This replica's copy of the purge index.
#[derive(Debug)]
pub(crate) struct PurgeView {
    /// Grows with every change after which something valid may not be valid any more.
    version: AtomicU64,
    index: RwLock<Index>,
    /// The [`Moment`] as of which the view was last confirmed to be complete; zero: never.
    confirmed: AtomicU64,
    /// No purge waits for this replica any more. Written under the lock of `index`.
    has_left: AtomicBool,
}

/// The version of the view under which a stored response was last found valid. It spares the next look at the index
/// while nothing at all was purged.
#[derive(Debug, Default)]
pub struct ValidityCache(AtomicU64);

impl PurgeView {
    pub(crate) fn new(index: Index) -> Self {
        Self {
            version: AtomicU64::new(1),
            index: RwLock::new(index),
            confirmed: AtomicU64::new(0),
            has_left: false.into(),
        }
    }

    /// Brings the view up to date. Reports whether the epoch is another one than before.
    ///
    /// Replies may arrive in another order than their questions were sent in. One that does not join on to what is
    /// known here is dropped: it proves nothing.
    pub(crate) fn apply(&self, reply: &SyncReply) -> bool {
        let mut index = self.write();
        let is_new = index.epoch() != reply.epoch;
        if is_new {
            if !self.may_reset_epoch(reply) {
                return false;
            }
            // From here until the new index is complete, nothing is confirmed.
            self.confirmed.store(0, Ordering::Release);
            index.reset_epoch(reply.epoch);
        } else if reply.base > index.high_water() {
            return false;
        }
        index.apply(&reply.changes, reply.high_water, reply.server_time);
        if is_new || !reply.changes.is_empty() {
            self.version.fetch_add(1, Ordering::Release);
        }
        if reply.is_complete && reply.is_member && !self.has_left.load(Ordering::Relaxed) {
            self.confirmed.fetch_max(reply.sent_at.as_nanos(), Ordering::Release);
        }
        is_new
    }

    /// Whether [`PurgeView::apply`] would leave the present epoch for another one.
    pub(crate) fn would_reset_epoch(&self, reply: &SyncReply) -> bool {
        self.epoch() != reply.epoch && self.may_reset_epoch(reply)
    }

    fn may_reset_epoch(&self, reply: &SyncReply) -> bool {
        let is_later = self.confirmed_at().is_none_or(|confirmed| confirmed <= reply.sent_at);
        reply.base == PurgeVersion::default() && is_later
    }

    /// The moment as of which everything that had been purged was known here; `None` if the view is not complete.
    ///
    /// Ask *before* judging: what is judged then is judged by this confirmation or a later one.
    pub(crate) fn confirmed_at(&self) -> Option<Moment> {
        match self.confirmed.load(Ordering::Acquire) {
            0 => None,
            nanos => Some(Moment::from_nanos(nanos)),
        }
    }

    /// Ends the confirmation for good: this replica leaves the roll, so that no purge waits for it.
    pub(crate) fn leave(&self) {
        // No reply is applied meanwhile.
        let _index = self.write();
        self.has_left.store(true, Ordering::Relaxed);
        self.confirmed.store(0, Ordering::Release);
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.read().epoch()
    }

    /// Records a purge. When this returns, no reader finds valid what the purge names.
    pub(crate) fn purge(&self, purge: &Purge, now: Timestamp) -> PurgeVersion {
        self.change(|index| index.purge(purge, now))
    }

    /// Changes the index, and makes every [`ValidityCache`] ask it again.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Index) -> T) -> T {
        let mut index = self.write();
        let result = change(&mut index);
        self.version.fetch_add(1, Ordering::Release);
        result
    }

    /// Serves only responses under these rules from now on.
    pub(crate) fn set_rules(&self, rules: TargetId) {
        self.change(|index| index.set_rules(rules));
    }

    /// The read version of a fetch that begins at `now`, where the index is this process's own.
    pub(crate) fn read_version(&self, now: Timestamp) -> ReadVersion {
        self.read().read_version_at(now)
    }

    pub(crate) fn check_validity(&self, read: &ReadVersion, targets: &[TargetId]) -> Validity {
        self.read().check_validity(read, targets)
    }

    /// Like [`PurgeView::check_validity`], for a response that is looked up repeatedly.
    pub(crate) fn check_validity_cached(
        &self,
        cache: &ValidityCache,
        read: &ReadVersion,
        targets: &[TargetId],
    ) -> Validity {
        let version = self.version.load(Ordering::Acquire);
        if cache.0.load(Ordering::Relaxed) == version {
            return Validity::Valid;
        }
        let validity = self.check_validity(read, targets);
        if validity == Validity::Valid {
            cache.0.store(version, Ordering::Relaxed);
        }
        validity
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write()
    }
}

#[cfg(test)]
mod memo_tests;
#[cfg(test)]
mod tests;
