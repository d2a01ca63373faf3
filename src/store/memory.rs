//! The embedded store: responses in a byte-bounded, scan-resistant cache, and the purge index beside it.
//!
//! A purge is acknowledged when the view has it. It never touches the responses: they are found dead when looked
//! up, and leave then, or make room as the least useful.

use std::future::ready;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use super::{Figures, Fill, Found, Recall, Store, StoreError, Waiting};
use crate::clock::{Clock, Timestamp};
use crate::policy::CacheKey;
use crate::purge::{Bounds, Incarnation, Index, Position, Purge, Stamp, TargetId, Validity, View};
use crate::stored_response::Stored;

pub struct MemoryStore {
    view: View,
    responses: Cache<CacheKey, Entry, Weigh, DefaultHashBuilder, CountEvictions>,
    evicted: std::sync::Arc<AtomicU64>,
    clock: Clock,
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

impl MemoryStore {
    /// `capacity` is in bytes, headers and bookkeeping included.
    pub fn new(capacity: u64, incarnation: Incarnation, clock: Clock) -> Self {
        let index = Index::new(incarnation, clock.now(), Bounds::default());
        let evicted = std::sync::Arc::new(AtomicU64::new(0));
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
        Self { view: View::new(index), responses, evicted, clock }
    }

    /// What is here and valid. What is dead or expired leaves.
    fn find(&self, key: &CacheKey) -> Option<Found> {
        let entry = self.responses.get(key)?;
        let found = match &entry.stored {
            _ if entry.expires_at <= self.clock.now() => None,
            Stored::Variants(_) => Some(false),
            Stored::Response(response) => {
                let head = &response.head;
                match self.view.judge_again(&head.found_valid, &head.stamp, &head.targets) {
                    Validity::Valid => Some(false),
                    Validity::Stale => Some(true),
                    Validity::Dead => None,
                }
            }
        };
        match found {
            Some(soft_purged) => Some(Found { stored: entry.stored, soft_purged }),
            None => {
                self.responses.remove_if(key, |present| present.stored.is(&entry.stored));
                None
            }
        }
    }
}

impl Store for MemoryStore {
    fn recall(&self, key: &CacheKey) -> Recall {
        Recall::Ready(self.find(key))
    }

    fn recall_here(&self, key: &CacheKey) -> Option<Found> {
        self.find(key)
    }

    fn permit(&self, key: &CacheKey) -> Fill {
        Fill::new(*key, self.view.stamp(self.clock.now()))
    }

    fn judge(&self, stamp: &Stamp, targets: &[TargetId]) -> Validity {
        self.view.judge(stamp, targets)
    }

    fn insert(&self, fill: Fill, stored: Stored, expires_at: Timestamp) -> Waiting<Result<(), StoreError>> {
        let purged = match &stored {
            Stored::Response(response) => {
                self.judge(&response.head.stamp, &response.head.targets) == Validity::Dead
            }
            Stored::Variants(_) => false,
        };
        // Only to save the room: were it inserted, every look-up would find it dead.
        if !purged {
            self.responses.insert(*fill.key(), Entry { stored, expires_at });
        }
        Box::pin(ready(Ok(())))
    }

    fn purge(&self, purge: Purge) -> Waiting<Result<Position, StoreError>> {
        Box::pin(ready(Ok(self.view.purge(&purge, self.clock.now()))))
    }

    fn figures(&self) -> Figures {
        Figures {
            entries: self.responses.len() as u64,
            bytes: self.responses.weight(),
            capacity: self.responses.capacity(),
            evicted: self.evicted.load(Ordering::Relaxed),
            purge_records: self.view.read().len() as u64,
        }
    }
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
struct CountEvictions(std::sync::Arc<AtomicU64>);

impl Lifecycle<CacheKey, Entry> for CountEvictions {
    /// Evicted entries are dropped outside the shard's lock.
    type RequestState = Vec<Entry>;

    fn on_evict(&self, evicted: &mut Vec<Entry>, _key: CacheKey, entry: Entry) {
        self.0.fetch_add(1, Ordering::Relaxed);
        evicted.push(entry);
    }
}
