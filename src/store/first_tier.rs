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
    responses: Cache<CacheKey, Entry, Weigh, DefaultHashBuilder, CountEvictions>,
    evicted: Arc<AtomicU64>,
    /// It has no room for anything.
    is_off: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    stored: Stored,
    expires_at: Timestamp,
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
        let entry = self.responses.get(key)?;
        let found = match &entry.stored {
            _ if entry.expires_at <= now => None,
            stored => found(stored, view),
        };
        if found.is_none() {
            self.responses.remove_if(key, |present| present.stored.is(&entry.stored));
        }
        found
    }

    /// What is here, valid or not.
    pub fn peek(&self, key: &CacheKey) -> Option<Stored> {
        self.responses.peek(key).map(|entry| entry.stored)
    }

    /// What is dead already is not taken, only to save the room: it would be found dead at every look-up.
    pub fn insert(&self, key: CacheKey, stored: Stored, expires_at: Timestamp, view: &View) {
        if !self.is_off && found(&stored, view).is_some() {
            self.responses.insert(key, Entry { stored, expires_at });
        }
    }

    /// All responses that are here, valid or not.
    pub fn known(&self) -> Vec<Arc<StoredResponse>> {
        let response = |(_, entry): (CacheKey, Entry)| match entry.stored {
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
pub fn found(stored: &Stored, view: &View) -> Option<Found> {
    let soft_purged = match stored {
        Stored::Variants(_) => false,
        Stored::Response(response) => {
            let head = &response.head;
            match view.judge_again(&head.found_valid, &head.stamp, &head.targets) {
                Validity::Valid => false,
                Validity::Stale => true,
                Validity::Dead => return None,
            }
        }
    };
    Some(Found { stored: stored.clone(), soft_purged })
}

#[derive(Clone)]
struct Weigh;

impl Weighter<CacheKey, Entry> for Weigh {
    fn weight(&self, _key: &CacheKey, entry: &Entry) -> u64 {
        match &entry.stored {
            Stored::Response(response) => response.weight(),
            Stored::Variants(variants) => 256 + 64 * variants.fields.len() as u64,
        }
    }
}

#[derive(Clone)]
struct CountEvictions(Arc<AtomicU64>);

impl Lifecycle<CacheKey, Entry> for CountEvictions {
    /// Evicted entries are dropped outside the shard's lock.
    type RequestState = Vec<Entry>;

    fn on_evict(&self, evicted: &mut Vec<Entry>, _key: CacheKey, entry: Entry) {
        self.0.fetch_add(1, Ordering::Relaxed);
        evicted.push(entry);
    }
}
