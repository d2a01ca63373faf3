//! Responses in this process: a byte-bounded, scan-resistant cache. Whether they are valid is the view's to say.
//!
//! A purge never touches them: they are found dead when looked up, and leave then, or make room as the least useful.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use super::{Figures, Found};
use crate::clock::Timestamp;
use crate::policy::CacheKey;
use crate::purge::{Validity, View};
use crate::stored_response::{Stored, StoredResponse};

pub struct FirstTier {
    responses: Cache<Slot, Stored, Weigh, DefaultHashBuilder, CountEvictions>,
    evicted: Arc<AtomicU64>,
    /// It has no room for anything.
    is_off: bool,
}

/// The beginning of a key, which is a hash itself: a response has the whole of its key, and it is compared. What stands
/// under two keys of one slot takes turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Slot([u8; 16]);

impl Slot {
    fn of(key: &CacheKey) -> Self {
        let mut slot = [0; 16];
        slot.copy_from_slice(&key.0[..16]);
        Self(slot)
    }
}

/// A shard takes nothing larger than itself, so shards are no smaller than this.
const SMALLEST_SHARD: u64 = 32 * 1024 * 1024;

/// Only to size the memory of what was evicted lately; off by an order of magnitude is fine.
const TYPICAL_WEIGHT: u64 = 4 * 1024;

impl FirstTier {
    /// `capacity` is in bytes, headers and bookkeeping included.
    pub fn new(capacity: u64) -> Self {
        let evicted = Arc::new(AtomicU64::new(0));
        let options = OptionsBuilder::new()
            .shards(usize::try_from((capacity / SMALLEST_SHARD).clamp(1, 64)).unwrap_or(1))
            .weight_capacity(capacity)
            .estimated_items_capacity(usize::try_from((capacity / TYPICAL_WEIGHT).max(64)).unwrap_or(64))
            .build();
        let responses = match options {
            Ok(options) => Cache::with_options(
                options,
                Weigh,
                DefaultHashBuilder::default(),
                CountEvictions(evicted.clone()),
            ),
            // Both capacities are set right above.
            Err(error) => unreachable!("{error}"),
        };
        Self { responses, evicted, is_off: capacity == 0 }
    }

    /// What is here and valid. What is dead or expired leaves.
    pub fn find(&self, key: &CacheKey, view: &View, now: Timestamp) -> Option<Found> {
        if self.is_off {
            return None;
        }
        let slot = Slot::of(key);
        let stored = self.responses.get(&slot).filter(|stored| is_under(key, stored))?;
        let is_over = stored.expires_at() <= now;
        let validity = if is_over { Validity::Dead } else { judge(&stored, view) };
        if validity == Validity::Dead {
            self.responses.remove_if(&slot, |present| present.is(&stored));
        }
        Found::new(stored, validity)
    }

    /// What is here, valid or not.
    pub fn peek(&self, key: &CacheKey) -> Option<Stored> {
        self.responses.peek(&Slot::of(key)).filter(|stored| is_under(key, stored))
    }

    /// What is dead already is not taken, only to save the room: it would be found dead at every look-up.
    pub fn insert(&self, key: CacheKey, stored: Stored, view: &View) {
        if !self.is_off && judge(&stored, view) != Validity::Dead {
            self.responses.insert(Slot::of(&key), stored);
        }
    }

    /// All responses that are here, valid or not.
    pub fn known(&self) -> Vec<StoredResponse> {
        let response = |(_, stored): (Slot, Stored)| match stored {
            Stored::Response(response) => Some(response),
            Stored::Variants(_) => None,
        };
        self.responses.iter().filter_map(response).collect()
    }

    pub fn figures(&self, view: &View) -> Figures {
        Figures {
            entries: self.responses.len() as u64,
            bytes: self.responses.weight(),
            capacity: self.responses.capacity(),
            evicted: self.evicted.load(Ordering::Relaxed),
            purge_records: view.read().len() as u64,
        }
    }
}

/// `stored`, if it is valid.
pub fn found(stored: Stored, view: &View) -> Option<Found> {
    let validity = judge(&stored, view);
    Found::new(stored, validity)
}

fn judge(stored: &Stored, view: &View) -> Validity {
    match stored {
        Stored::Variants(_) => Validity::Valid,
        Stored::Response(response) => {
            let head = &response.head;
            view.judge_again(&head.found_valid, &head.stamp, &head.targets)
        }
    }
}

fn is_under(key: &CacheKey, stored: &Stored) -> bool {
    match stored {
        Stored::Response(response) => response.head.key == *key,
        // They name fields, and no response: what these make of a key is another key.
        Stored::Variants(_) => true,
    }
}

#[derive(Clone)]
struct Weigh;

impl Weighter<Slot, Stored> for Weigh {
    fn weight(&self, _: &Slot, stored: &Stored) -> u64 {
        match stored {
            Stored::Response(response) => response.weight(),
            Stored::Variants(variants) => 256 + 64 * variants.fields.len() as u64,
        }
    }
}

#[derive(Clone)]
struct CountEvictions(Arc<AtomicU64>);

impl Lifecycle<Slot, Stored> for CountEvictions {
    /// Evicted entries are dropped outside the shard's lock.
    type RequestState = Vec<Stored>;

    fn on_evict(&self, evicted: &mut Vec<Stored>, _: Slot, stored: Stored) {
        self.0.fetch_add(1, Ordering::Relaxed);
        evicted.push(stored);
    }
}
