//! Why entries are no longer in the first tier, for people: nothing depends on it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::policy::CacheKey;
use crate::policy::miss_reason::MissReason;
use crate::purge::PurgeVersion;

/// A later entry replaces an earlier one in its slot. 16 bytes each.
const SLOTS: usize = 1 << 14;

/// The reasons for the absence of the keys that were removed last, in a table of fixed size. A reader that meets a
/// writer may see the reason of another key.
pub(super) struct AbsenceLog(Box<[AbsenceSlot]>);

#[derive(Default)]
struct AbsenceSlot {
    key: AtomicU64,
    reason: AtomicU64,
}

/// Values of a slot below every version of a purge, which is a time in microseconds.
const EXPIRED: u64 = 1;
const EVICTED: u64 = 2;
const IN_DOUBT: u64 = 3;
const OTHER_RULES: u64 = 4;
const STORE_UNAVAILABLE: u64 = 5;

impl AbsenceLog {
    pub(super) fn new() -> Self {
        Self((0..SLOTS).map(|_| AbsenceSlot::default()).collect())
    }

    pub(super) fn record(&self, key: &[u8; 16], reason: MissReason) {
        let value = match reason {
            MissReason::Expired => EXPIRED,
            MissReason::Evicted => EVICTED,
            MissReason::Purged(version) => version.0,
            MissReason::OtherRules => OTHER_RULES,
            MissReason::StoreUnavailable => STORE_UNAVAILABLE,
            _ => IN_DOUBT,
        };
        let (slot, key) = self.slot(key);
        slot.key.store(key, Ordering::Relaxed);
        slot.reason.store(value, Ordering::Relaxed);
    }

    /// Removes the reason of a key if it is `reason`.
    pub(super) fn remove(&self, key: &CacheKey, reason: MissReason) {
        if self.find(key) == Some(reason)
            && let Some(key) = key.0.first_chunk()
        {
            self.slot(key).0.reason.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn find(&self, key: &CacheKey) -> Option<MissReason> {
        let (slot, key) = self.slot(key.0.first_chunk()?);
        if slot.key.load(Ordering::Relaxed) != key {
            return None;
        }
        match slot.reason.load(Ordering::Relaxed) {
            0 => None,
            EXPIRED => Some(MissReason::Expired),
            EVICTED => Some(MissReason::Evicted),
            IN_DOUBT => Some(MissReason::InDoubt),
            OTHER_RULES => Some(MissReason::OtherRules),
            STORE_UNAVAILABLE => Some(MissReason::StoreUnavailable),
            version => Some(MissReason::Purged(PurgeVersion(version))),
        }
    }

    /// The slot of a key, and what tells the key from others in it.
    fn slot(&self, key: &[u8; 16]) -> (&AbsenceSlot, u64) {
        let number = u128::from_le_bytes(*key);
        // The key is a hash.
        (&self.0[number as usize % self.0.len()], (number >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reason_for_a_key_is_found() {
        let log = AbsenceLog::new();
        let key = |byte| CacheKey([byte; 32]);
        let reasons = [
            MissReason::Expired,
            MissReason::Evicted,
            MissReason::InDoubt,
            MissReason::OtherRules,
            MissReason::StoreUnavailable,
            MissReason::Purged(PurgeVersion(1_764_000_000_000_000)),
        ];
        for reason in reasons {
            log.record(&[1; 16], reason);
            assert_eq!(log.find(&key(1)), Some(reason));
        }
        assert_eq!(log.find(&key(2)), None);
        log.remove(&key(1), MissReason::StoreUnavailable);
        assert_eq!(log.find(&key(1)), reasons.last().copied());
        log.remove(&key(1), reasons[5]);
        assert_eq!(log.find(&key(1)), None);
        // Another key in the same slot.
        let mut same_slot = [1; 32];
        same_slot[15] = 2;
        assert_eq!(log.find(&CacheKey(same_slot)), None);
    }
}
