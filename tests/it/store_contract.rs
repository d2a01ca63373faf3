//! The contract of stores (`src/store/mod.rs`), checked on each: embedded, and tiered over a real Redis.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use larder::clock::{Clock, Timestamp};
use larder::policy::accept_encoding::Codings;
use larder::policy::{CacheKey, VaryFields};
use larder::purge::{
    Epoch, IndexBounds, IntentId, NormalizedPath, Purge, PurgeIntent, PurgeMode, ReadVersion, Target,
    Validity,
};
use larder::store::memory::MemoryStore;
use larder::store::{FetchToken, Store};
use larder::stored_response::{StoredEntry, Variants};

use crate::support::{Redis, body, eventually, response, store_settings, targets, tiered_store};

const KEY: CacheKey = CacheKey([1; 32]);
const OTHER: CacheKey = CacheKey([2; 32]);
const HOUR: Duration = Duration::from_secs(3600);

/// A store under test; Redis lives as long as it.
struct Subject {
    name: &'static str,
    store: Arc<dyn Store>,
    clock: Clock,
    _redis: Option<Redis>,
}

async fn subjects() -> Vec<Subject> {
    let clock = Clock::system();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(1 << 20, Epoch(7), clock.clone()));
    let mut subjects = vec![Subject { name: "embedded", store, clock: clock.clone(), _redis: None }];
    for (name, more) in [
        ("strict", ", max_lag: 0s, memory: 1MiB"),
        ("bounded", ", max_lag: 60s, memory: 1MiB"),
        ("without a first tier", ", max_lag: 60s, memory: 0"),
    ] {
        let redis = Redis::start().await;
        let store = tiered_store(&store_settings(&redis.url(), more), IndexBounds::default()).await;
        subjects.push(Subject { name, store, clock: clock.clone(), _redis: Some(redis) });
    }
    subjects
}

impl Subject {
    async fn fill(&self, fill: FetchToken, body: &str, tags: &[&str]) {
        let expires_at = self.clock.now().plus(HOUR);
        let stored = response(&fill, body, tags, expires_at);
        self.store.insert(fill, stored).await.expect(self.name);
    }

    async fn put(&self, key: &CacheKey, body: &str, tags: &[&str]) {
        self.fill(self.store.begin_fetch(key), body, tags).await;
    }

    async fn body(&self, key: &CacheKey) -> Option<String> {
        body(&*self.store, key).await
    }

    async fn purge(&self, purge: Purge) {
        self.store.purge(purge).await.expect(self.name);
    }

    fn later(&self) -> Timestamp {
        self.clock.now().plus(HOUR)
    }
}

fn tag(tag: &str) -> Purge {
    Purge::hard(vec![Target::tag(tag)])
}

#[tokio::test]
async fn what_was_inserted_is_recalled_and_nothing_else() {
    for subject in subjects().await {
        assert_eq!(subject.body(&KEY).await, None, "{}", subject.name);
        subject.put(&KEY, "one", &["a"]).await;
        subject.put(&OTHER, "other", &["b"]).await;
        for _ in 0..2 {
            assert_eq!(subject.body(&KEY).await.as_deref(), Some("one"), "{}", subject.name);
            assert_eq!(subject.body(&OTHER).await.as_deref(), Some("other"), "{}", subject.name);
        }
        subject.put(&KEY, "two", &["a"]).await;
        assert_eq!(subject.body(&KEY).await.as_deref(), Some("two"), "{}", subject.name);
        assert_eq!(subject.body(&CacheKey([3; 32])).await, None, "{}", subject.name);
    }
}

#[tokio::test]
async fn a_purge_reaches_what_it_names_and_nothing_else() {
    let path = |path| NormalizedPath::new(path);
    let shop = || Some("shop.test".to_owned());
    let naming = [
        Target::tag("A"),
        Target::Everything,
        Target::Path { host: None, path: path("/shop/items/1/") },
        Target::Path { host: shop(), path: path("/shop/items/1") },
        Target::Url { host: shop(), path: path("/shop/items/1"), query: "q=1".into() },
        Target::Prefix { host: None, path: path("/shop") },
    ];
    let others = [
        Target::tag("c"),
        Target::Path { host: Some("other.test".into()), path: path("/shop/items/1") },
        Target::Url { host: None, path: path("/shop/items/1"), query: "q=2".into() },
        Target::Prefix { host: None, path: path("/shop/items/10") },
    ];
    for subject in subjects().await {
        for target in naming.clone() {
            subject.put(&KEY, "body", &["a", "b"]).await;
            subject.purge(Purge::hard(vec![target.clone()])).await;
            assert_eq!(subject.body(&KEY).await, None, "{}: {target:?}", subject.name);
        }
        subject.put(&KEY, "body", &["a", "b"]).await;
        subject.purge(Purge::hard(others.to_vec())).await;
        assert!(subject.body(&KEY).await.is_some(), "{}", subject.name);
    }
}

#[tokio::test]
async fn a_fill_from_before_a_purge_is_void_after_it() {
    for subject in subjects().await {
        let before = subject.store.begin_fetch(&KEY);
        let (stamp, targets) = (before.read_version(), targets(&["a"]));
        assert_eq!(subject.store.validity(&stamp, &targets), Validity::Valid, "{}", subject.name);
        subject.purge(tag("a")).await;
        subject.fill(before, "old", &["a"]).await;
        assert_eq!(subject.body(&KEY).await, None, "{}", subject.name);
        assert_eq!(subject.store.validity(&stamp, &targets), Validity::Dead, "{}", subject.name);
        subject.put(&KEY, "new", &["a"]).await;
        assert_eq!(subject.body(&KEY).await.as_deref(), Some("new"), "{}", subject.name);
        // The variant of a fill is no younger than the fill.
        let before = subject.store.begin_fetch(&KEY);
        subject.purge(tag("a")).await;
        subject.fill(before.for_variant(OTHER), "old", &["a"]).await;
        assert_eq!(subject.body(&OTHER).await, None, "{}", subject.name);
    }
}

#[tokio::test]
async fn positions_grow() {
    for subject in subjects().await {
        let mut last = subject.store.begin_fetch(&KEY).read_version().version;
        for _ in 0..20 {
            let position = subject.store.purge(tag("a")).await.unwrap();
            assert!(position > last, "{}", subject.name);
            assert!(subject.store.begin_fetch(&KEY).read_version().version >= position, "{}", subject.name);
            last = position;
        }
    }
}

#[tokio::test]
async fn what_was_purged_softly_is_stale_until_it_is_purged_hard() {
    for subject in subjects().await {
        subject.put(&KEY, "body", &["a"]).await;
        let soft = || subject.store.get(&KEY).resolve();
        assert!(soft().await.unwrap().soft_purged.is_none(), "{}", subject.name);
        subject.purge(Purge { mode: PurgeMode::Soft, ..tag("a") }).await;
        assert!(soft().await.unwrap().soft_purged.is_some(), "{}", subject.name);
        subject.purge(tag("a")).await;
        assert!(soft().await.is_none(), "{}", subject.name);
    }
}

#[tokio::test]
async fn while_a_purge_is_in_doubt_nothing_it_names_is_kept() {
    for subject in subjects().await {
        let purge = Purge { in_doubt_for: Duration::from_millis(300), ..tag("a") };
        subject.purge(purge).await;
        subject.put(&KEY, "in doubt", &["a"]).await;
        assert_eq!(subject.body(&KEY).await, None, "{}", subject.name);
        subject.put(&OTHER, "untouched", &["b"]).await;
        assert!(subject.body(&OTHER).await.is_some(), "{}", subject.name);
        // A purge in between does not end it.
        subject.purge(tag("a")).await;
        subject.put(&KEY, "in doubt", &["a"]).await;
        assert_eq!(subject.body(&KEY).await, None, "{}", subject.name);
        let (store, targets) = (&subject.store, targets(&["a"]));
        eventually("the doubt ends", || async {
            (store.validity(&store.begin_fetch(&KEY).read_version(), &targets) == Validity::Valid)
                .then_some(())
        })
        .await;
        assert_eq!(subject.body(&KEY).await, None, "{}", subject.name);
        subject.put(&KEY, "settled", &["a"]).await;
        assert_eq!(subject.body(&KEY).await.as_deref(), Some("settled"), "{}", subject.name);
    }
}

#[tokio::test]
async fn keys_that_begin_alike_are_told_apart() {
    for subject in subjects().await {
        let mut other = KEY;
        other.0[31] ^= 1;
        subject.put(&KEY, "one", &["a"]).await;
        assert_eq!(subject.body(&other).await, None, "{}", subject.name);
        subject.put(&other, "other", &["a"]).await;
        assert_eq!(subject.body(&other).await.as_deref(), Some("other"), "{}", subject.name);
        // It may have had to make room.
        assert_ne!(subject.body(&KEY).await.as_deref(), Some("other"), "{}", subject.name);
    }
}

#[tokio::test]
async fn what_has_expired_is_gone() {
    for subject in subjects().await {
        let fill = subject.store.begin_fetch(&KEY);
        let expired = subject.clock.now();
        let stored = response(&fill, "body", &["a"], expired);
        // Whether that is an error is the store's affair.
        let _ = subject.store.insert(fill, stored).await;
        assert_eq!(subject.body(&KEY).await, None, "{}", subject.name);
    }
}

#[tokio::test]
async fn variants_are_recalled_as_they_were_inserted() {
    let fields = vec![VaryFields::new(vec![HeaderName::from_static("accept")])];
    for subject in subjects().await {
        let variants = Variants {
            fields: fields.clone(),
            codings: Codings::default(),
            expires_at: subject.later(),
            withdrawn_at: None,
        };
        let stored = StoredEntry::Variants(Arc::new(variants));
        let fill = subject.store.begin_fetch(&KEY);
        subject.store.insert(fill, stored).await.expect(subject.name);
        let Some(StoredEntry::Variants(found)) = subject.store.get(&KEY).resolve().await.map(|f| f.stored)
        else {
            panic!("{}", subject.name)
        };
        assert_eq!(found.fields, fields, "{}", subject.name);
    }
}

#[tokio::test]
async fn nothing_of_another_index_is_valid() {
    for subject in subjects().await {
        let ours = subject.store.begin_fetch(&KEY).read_version();
        let targets = targets(&["a"]);
        for epoch in [Epoch::NONE, Epoch(ours.epoch.0 ^ 1)] {
            let stamp = ReadVersion { epoch, ..ours };
            assert_eq!(subject.store.validity(&stamp, &targets), Validity::Dead, "{}", subject.name);
        }
    }
}

#[tokio::test]
async fn a_purge_may_name_many_targets() {
    for subject in subjects().await {
        subject.put(&KEY, "body", &["24999"]).await;
        subject.put(&OTHER, "body", &["25000"]).await;
        let many = (0..25_000).map(|number| Target::tag(number.to_string())).collect();
        subject.purge(Purge::hard(many)).await;
        assert_eq!(subject.body(&KEY).await, None, "{}", subject.name);
        assert!(subject.body(&OTHER).await.is_some(), "{}", subject.name);
    }
}

#[tokio::test]
async fn a_mark_keeps_and_serves_nothing_until_it_is_lifted() {
    for subject in subjects().await {
        let mark =
            PurgeIntent { id: IntentId(*b"a write."), targets: targets(&["a"]).to_vec(), expires_in: HOUR };
        let lifts = || Some(mark.clone());
        subject.put(&KEY, "before", &["a"]).await;
        // Marked twice is marked once.
        subject.store.record_intent(mark.clone()).await.expect(subject.name);
        subject.store.record_intent(mark.clone()).await.expect(subject.name);
        let before = subject.store.begin_fetch(&KEY);
        assert_eq!(
            subject.store.validity(&before.read_version(), &targets(&["a"])),
            Validity::Dead,
            "{}",
            subject.name
        );
        assert_eq!(subject.body(&KEY).await, None, "{}", subject.name);
        // A purge of another's does not end it.
        subject.purge(tag("a")).await;
        subject.put(&KEY, "meanwhile", &["a"]).await;
        assert_eq!(subject.body(&KEY).await, None, "{}", subject.name);
        subject.purge(Purge { resolves: lifts(), ..tag("a") }).await;
        subject.fill(before, "old", &["a"]).await;
        assert_eq!(subject.body(&KEY).await, None, "{}", subject.name);
        subject.put(&KEY, "after", &["a"]).await;
        assert_eq!(subject.body(&KEY).await.as_deref(), Some("after"), "{}", subject.name);
        // A write that did not happen leaves no trace.
        subject.store.record_intent(mark.clone()).await.expect(subject.name);
        let meanwhile = subject.store.begin_fetch(&KEY);
        subject.purge(Purge { resolves: lifts(), ..Purge::hard(Vec::new()) }).await;
        subject.fill(meanwhile, "again", &["a"]).await;
        assert_eq!(subject.body(&KEY).await.as_deref(), Some("again"), "{}", subject.name);
    }
}

#[tokio::test]
async fn a_mark_that_nobody_lifts_ends_at_its_date() {
    for subject in subjects().await {
        let lasts = Duration::from_millis(300);
        let mark =
            PurgeIntent { id: IntentId(*b"a write."), targets: targets(&["a"]).to_vec(), expires_in: lasts };
        subject.put(&KEY, "before", &["a"]).await;
        subject.store.record_intent(mark).await.expect(subject.name);
        let (store, targets) = (&subject.store, targets(&["a"]));
        eventually("the doubt ends", || async {
            (store.validity(&store.begin_fetch(&KEY).read_version(), &targets) == Validity::Valid)
                .then_some(())
        })
        .await;
        assert_eq!(subject.body(&KEY).await, None, "{}", subject.name);
        subject.put(&KEY, "after", &["a"]).await;
        assert_eq!(subject.body(&KEY).await.as_deref(), Some("after"), "{}", subject.name);
    }
}
