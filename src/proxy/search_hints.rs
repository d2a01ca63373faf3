//! Remembers the `No-Vary-Search` of the latest response of each path. It is a hint: `policy/no_vary_search.rs` says what
//! follows from it.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quick_cache::sync::Cache;

use super::client_request::ClientHead;
use crate::policy::no_vary_search::SearchVariance;

/// Maximum number of paths.
const MAX_PATHS: usize = 4096;

pub(super) struct SearchHints {
    by_path: Cache<u64, Arc<SearchVariance>>,
    /// Set at the first hint, so that nothing is hashed where no response has the field.
    has_any: AtomicBool,
    /// Seeded, so that no client can find two paths with one hash.
    hasher: RandomState,
}

impl Default for SearchHints {
    fn default() -> Self {
        Self { by_path: Cache::new(MAX_PATHS), has_any: AtomicBool::new(false), hasher: RandomState::new() }
    }
}

impl SearchHints {
    pub(super) fn find(&self, head: &ClientHead) -> Option<Arc<SearchVariance>> {
        if !self.has_any.load(Ordering::Relaxed) || head.parts.uri.query().is_none() {
            return None;
        }
        self.by_path.get(&self.hash(head))
    }

    pub(super) fn learn(&self, head: &ClientHead, variance: SearchVariance) {
        self.by_path.insert(self.hash(head), Arc::new(variance));
        self.has_any.store(true, Ordering::Relaxed);
    }

    /// Forgets a hint that has misled.
    pub(super) fn forget(&self, head: &ClientHead) {
        self.by_path.remove(&self.hash(head));
    }

    fn hash(&self, head: &ClientHead) -> u64 {
        self.hasher.hash_one((head.host.as_str(), head.parts.uri.path()))
    }
}
