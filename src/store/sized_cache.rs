//! A byte-bounded cache whose entries compete by how often they are used, whatever their sizes.
//!
//! An entry takes the place of others only if it was used more often than all of them together (the aggregated victims
//! of Einziger et al., *Lightweight Robust Size Aware Cache Management*, 2022). So requests for large entries evict no
//! more uses than they are themselves.

mod past_uses;
mod shard;

use std::hash::{BuildHasher, Hash, Hasher};

use parking_lot::RwLock;
use quick_cache::DefaultHashBuilder;

use crate::clock::Timestamp;
use shard::CacheShard;

pub(super) struct SizedCache<V> {
    shards: Box<[RwLock<CacheShard<V>>]>,
    /// Seeded at random: clients can't choose the shard or the bucket of an entry.
    hasher: DefaultHashBuilder,
}

/// The first half of a key, which is a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryId(pub [u8; 16]);

/// The values that an insertion took out of the cache, to be dropped outside the shard's lock.
pub(super) struct Displaced<V> {
    /// The former value of the same entry.
    pub _replaced: Option<V>,
    /// The entries that made room. The inserted one is among them if it was not worth the room.
    pub evicted: Vec<(EntryId, V)>,
}

/// Smallest size of a shard. A shard can't hold an entry larger than itself.
const MIN_SHARD_BYTES: u64 = 32 * 1024 * 1024;
const MAX_SHARDS: u64 = 64;

impl Hash for EntryId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(u128::from_le_bytes(self.0));
    }
}

impl<V: Clone> SizedCache<V> {
    /// `capacity` is the sum of the entries' weights, in bytes.
    pub(super) fn new(capacity: u64) -> Self {
        let shards = (capacity / MIN_SHARD_BYTES).clamp(1, MAX_SHARDS);
        let hasher = DefaultHashBuilder::default();
        let shard = |_| RwLock::new(CacheShard::new(capacity / shards, hasher.clone()));
        Self { shards: (0..shards).map(shard).collect(), hasher }
    }

    fn shard(&self, id: &EntryId) -> &RwLock<CacheShard<V>> {
        // The lower bits choose the bucket within the shard.
        &self.shards[(self.hasher.hash_one(id) >> 32) as usize % self.shards.len()]
    }

    /// Counts as a use.
    pub(super) fn get(&self, id: &EntryId) -> Option<V> {
        self.shard(id).read().get(id).cloned()
    }

    pub(super) fn peek(&self, id: &EntryId) -> Option<V> {
        self.shard(id).read().peek(id).cloned()
    }

    /// Counts as a use, too: something was fetched for a request. An entry larger than a shard is not kept.
    pub(super) fn insert(&self, id: EntryId, value: V, weight: u64, now: Timestamp) -> Displaced<V> {
        self.shard(&id).write().insert((id, value), weight, now)
    }

    /// The weight of the largest entry that is kept.
    pub(super) fn max_weight(&self) -> u64 {
        self.shards[0].read().capacity()
    }

    pub(super) fn remove_if(&self, id: &EntryId, condition: impl FnOnce(&V) -> bool) {
        let removed = {
            let mut shard = self.shard(id).write();
            shard.peek(id).is_some_and(condition).then(|| shard.remove(id))
        };
        drop(removed);
    }

    pub(super) fn values(&self) -> Vec<V> {
        self.shards.iter().flat_map(|shard| shard.read().values().cloned().collect::<Vec<_>>()).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    pub(super) fn weight(&self) -> u64 {
        self.shards.iter().map(|shard| shard.read().weight()).sum()
    }

    pub(super) fn capacity(&self) -> u64 {
        self.shards.iter().map(|shard| shard.read().capacity()).sum()
    }
}

#[cfg(test)]
mod tests;
