//! Stores without a proxy around them.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use larder::clock::{Clock, Timestamp};
use larder::config::{Config, StoreSettings};
use larder::policy::Fingerprint;
use larder::purge::{Bounds, FoundValid, LoosePath, Target, TargetId};
use larder::store::tiered::TieredStore;
use larder::store::{Fill, Store};
use larder::stored_response::{Stored, StoredFields, StoredHead, StoredResponse, Terms};

use super::eventually;

/// As `proxy.yaml` would say it; with a deadline that a busy machine keeps.
pub fn store_settings(url: &str, more: &str) -> StoreSettings {
    let yaml = format!("upstream: http://127.0.0.1:1\nstore: {{redis: \"{url}\", timeout: 5s{more}}}");
    Config::parse(&yaml, "proxy.yaml", &|_| None, &Default::default()).unwrap().store
}

/// A store over Redis that has confirmed its view of purges.
pub async fn tiered_store(settings: &StoreSettings, bounds: Bounds) -> Arc<TieredStore> {
    let redis = settings.redis.as_ref().unwrap();
    let store = Arc::new(TieredStore::start_within(bounds, settings, redis, Clock::system()).unwrap());
    is_connected(&store).await;
    store
}

pub async fn is_connected(store: &TieredStore) {
    let is_away = || store.remote().is_none_or(|remote| remote.is_away());
    eventually("the store is connected", || async { (!is_away()).then_some(()) }).await;
}

/// A response to `GET /shop/items/1?q=1` on `shop.test`.
pub fn response(fill: &Fill, body: &str, tags: &[&str], expires_at: Timestamp) -> Stored {
    let now = Clock::system().now();
    let head = StoredHead {
        key: *fill.key(),
        fingerprint: Fingerprint(9),
        status: StatusCode::OK,
        fields: StoredFields::new(&HeaderMap::new(), tags),
        terms: Terms { expires_at, ..Terms::unstored(now, now) }.into(),
        stamp: fill.stamp(),
        targets: targets(tags),
        found_valid: FoundValid::default(),
        judged_by: Default::default(),
        usage: Default::default(),
    };
    let body = Bytes::copy_from_slice(body.as_bytes());
    Stored::Response(StoredResponse { head: Arc::new(head), body })
}

/// What purges [`response`].
pub fn targets(tags: &[&str]) -> Box<[TargetId]> {
    Target::all_of("shop.test", &LoosePath::new("/shop/items/1"), "q=1", tags.iter().copied()).into()
}

/// The content of what is recalled.
pub async fn body(store: &dyn Store, key: &larder::policy::CacheKey) -> Option<String> {
    match store.recall(key).found().await?.stored {
        Stored::Response(response) => Some(String::from_utf8(response.body.to_vec()).unwrap()),
        Stored::Variants(_) => None,
    }
}
