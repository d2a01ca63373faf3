//! Stores without a proxy around them.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use larder::clock::{Clock, Timestamp};
use larder::config::{Config, StoreSettings};
use larder::policy::Fingerprint;
use larder::purge::{IndexBounds, NormalizedPath, Target, TargetId, ValidityCache};
use larder::store::tiered::TieredStore;
use larder::store::{FetchToken, ReplicaRegistry, ResponseStore};
use larder::stored_response::{StoredEntry, StoredFields, StoredHead, StoredResponse, Terms};

use super::eventually;

/// The settings of a `proxy.yaml`, with a deadline that a busy machine keeps.
pub fn store_settings(url: &str, more: &str) -> StoreSettings {
    let yaml = format!("upstream: http://127.0.0.1:1\nstore: {{redis: \"{url}\", timeout: 5s{more}}}");
    Config::parse(&yaml, "proxy.yaml", &|_| None, &Default::default()).unwrap().store
}

/// A store over Redis that has confirmed its view of purges.
pub async fn tiered_store(settings: &StoreSettings, bounds: IndexBounds) -> Arc<TieredStore> {
    let store = Arc::new(TieredStore::start_with_bounds(bounds, settings, Clock::system()).unwrap());
    is_connected(&store).await;
    store
}

pub async fn is_connected(store: &TieredStore) {
    let is_away = || store.remote_status().is_none_or(|remote| remote.is_unavailable());
    eventually("the store is connected", || async { (!is_away()).then_some(()) }).await;
}

/// A response to `GET /shop/items/1?q=1` on `shop.test`.
pub fn response(fill: &FetchToken, body: &str, tags: &[&str], expires_at: Timestamp) -> StoredEntry {
    let now = Clock::system().now();
    let head = StoredHead {
        key: *fill.key(),
        fingerprint: Fingerprint(9),
        status: StatusCode::OK,
        fields: StoredFields::new(&HeaderMap::new(), tags),
        terms: Terms { expires_at, ..Terms::unstored(now, now) }.into(),
        stamp: fill.read_version(),
        targets: targets(tags),
        fetched_here: false,
        found_valid: ValidityCache::default(),
        evaluated_under: Default::default(),
        usage: Default::default(),
    };
    let body = Bytes::copy_from_slice(body.as_bytes());
    StoredEntry::Response(StoredResponse { head: Arc::new(head), body })
}

/// Targets that purge [`response`].
pub fn targets(tags: &[&str]) -> Box<[TargetId]> {
    Target::ids_for_response("shop.test", &NormalizedPath::new("/shop/items/1"), "q=1", tags.iter().copied())
        .into()
}

/// The content of what is recalled.
pub async fn body(store: &dyn ResponseStore, key: &larder::policy::CacheKey) -> Option<String> {
    match store.get(key).resolve().await?.stored {
        StoredEntry::Response(response) => Some(String::from_utf8(response.body.to_vec()).unwrap()),
        StoredEntry::Variants(_) => None,
    }
}
