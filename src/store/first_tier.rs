//! The first tier: a byte-bounded cache of entries in this process. The view judges their validity.
//!
//! A purge does not touch entries. A dead one is removed when it is looked up, or evicted as the least useful.

use std::sync::atomic::{AtomicU64, Ordering};

use super::absence_log::AbsenceLog;
use super::sized_cache::{EntryId, SizedCache};
use super::{StoreStats, ValidEntry};
use crate::clock::Timestamp;
use crate::policy::CacheKey;
use crate::policy::miss_reason::MissReason;
use crate::purge::{PurgeView, Validity};
use crate::stored_response::{StoredEntry, StoredResponse};

pub(super) struct FirstTier {
    /// Under the first halves of keys. A response carries its whole key, which is compared. Two keys with the same first
    /// half evict each other.
    responses: SizedCache<StoredEntry>,
    evicted: AtomicU64,
    pub(super) absences: AbsenceLog,
    /// The capacity is zero.
    is_disabled: bool,
}

impl FirstTier {
    /// `capacity` is in bytes, headers and bookkeeping included.
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            responses: SizedCache::new(capacity),
            evicted: AtomicU64::default(),
            absences: AbsenceLog::new(),
            is_disabled: capacity == 0,
        }
    }

    /// The valid entry under `key`. Removes a dead or expired one.
    pub(super) fn get(&self, key: &CacheKey, view: &PurgeView, now: Timestamp) -> Option<ValidEntry> {
        if self.is_disabled {
            return None;
        }
        let id = entry_id(key);
        let stored = self.responses.get(&id).filter(|stored| has_key(key, stored))?;
        let is_expired = stored.expires_at() <= now;
        let validity = if is_expired { Validity::Dead } else { validity(&stored, view) };
        if validity == Validity::Dead {
            let reason = if is_expired { MissReason::Expired } else { find_purge(&stored, view) };
            self.absences.record(&id.0, reason);
            self.responses.remove_if(&id, |present| present.ptr_eq(&stored));
        }
        ValidEntry::new(stored, validity)
    }

    /// The entry under `key`, valid or not. Does not count as a use.
    pub(super) fn peek(&self, key: &CacheKey) -> Option<StoredEntry> {
        self.responses.peek(&entry_id(key)).filter(|stored| has_key(key, stored))
    }

    /// Does not insert an entry that is dead already: every look-up would find it dead. Returns whether an entry of this
    /// size fits at all.
    pub(super) fn insert(
        &self,
        key: CacheKey,
        stored: StoredEntry,
        view: &PurgeView,
        now: Timestamp,
    ) -> bool {
        if self.is_disabled {
            return true;
        }
        if validity(&stored, view) == Validity::Dead {
            self.record_absence(&key, find_purge(&stored, view));
            return true;
        }
        let (id, weight) = (entry_id(&key), weight(&stored));
        for (other, _) in &self.responses.insert(id, stored, weight, now).evicted {
            self.evicted.fetch_add(1, Ordering::Relaxed);
            self.absences.record(&other.0, MissReason::Evicted);
        }
        weight <= self.responses.max_weight()
    }

    pub(super) fn record_absence(&self, key: &CacheKey, reason: MissReason) {
        self.absences.record(&entry_id(key).0, reason);
    }

    /// All responses, valid or not.
    pub(super) fn responses(&self) -> Vec<StoredResponse> {
        let response = |stored| match stored {
            StoredEntry::Response(response) => Some(response),
            StoredEntry::Variants(_) => None,
        };
        self.responses.values().into_iter().filter_map(response).collect()
    }

    pub(super) fn stats(&self, view: &PurgeView) -> StoreStats {
        StoreStats {
            entries: self.responses.len() as u64,
            bytes: self.responses.weight(),
            capacity: self.responses.capacity(),
            evicted: self.evicted.load(Ordering::Relaxed),
            purge_records: view.read().len() as u64,
            ..StoreStats::default()
        }
    }
}

/// Judges an entry by the view as it is now.
pub(super) fn retain_valid(stored: StoredEntry, view: &PurgeView) -> Option<ValidEntry> {
    let validity = validity(&stored, view);
    ValidEntry::new(stored, validity)
}

/// The reason why an entry is dead: a purge, or a change of the rules.
pub(super) fn find_purge(stored: &StoredEntry, view: &PurgeView) -> MissReason {
    let StoredEntry::Response(response) = stored else { return MissReason::InDoubt };
    let (head, index) = (&response.head, view.read());
    match index.last_purge(&head.stamp, &head.targets) {
        Some((_, version)) => MissReason::Purged(version),
        None if index.has_other_rules(&head.targets) => MissReason::OtherRules,
        None => MissReason::InDoubt,
    }
}

fn validity(stored: &StoredEntry, view: &PurgeView) -> Validity {
    match stored {
        StoredEntry::Variants(_) => Validity::Valid,
        StoredEntry::Response(response) => {
            let head = &response.head;
            view.check_validity_cached(&head.found_valid, &head.stamp, &head.targets)
        }
    }
}

fn has_key(key: &CacheKey, stored: &StoredEntry) -> bool {
    match stored {
        StoredEntry::Response(response) => response.head.key == *key,
        // Variants don't carry their key. They only name fields, from which the key of a response is derived.
        StoredEntry::Variants(_) => true,
    }
}

fn entry_id(key: &CacheKey) -> EntryId {
    let mut id = [0; 16];
    id.copy_from_slice(&key.0[..16]);
    EntryId(id)
}

fn weight(stored: &StoredEntry) -> u64 {
    match stored {
        StoredEntry::Response(response) => response.weight(),
        StoredEntry::Variants(variants) => 256 + 64 * variants.fields.len() as u64,
    }
}
