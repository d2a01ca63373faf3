//! A rolling update: replicas of the former release have a purge index of their own in the same Redis, and what the ones
//! purge the others don't serve. The scripts beside this file are that release's.

use std::time::Duration;

use larder::clock::Clock;
use larder::policy::CacheKey;
use larder::purge::{IndexBounds, Purge, Target, TargetId, Validity};
use larder::store::tiered::TieredStore;
use larder::store::{PurgeStore, ReplicaRegistry, ResponseStore};

use crate::support::{Redis, body, response, store_settings, targets, tiered_store};

const KEY: CacheKey = CacheKey([1; 32]);
const HOUR: Duration = Duration::from_secs(3600);
const HIGH: &str = "1000000000000";

const SYNC: &str = concat!(include_str!("begin.lua"), include_str!("tell.lua"));
const PURGE: &str = concat!(include_str!("begin.lua"), include_str!("purge.lua"), include_str!("tell.lua"));

/// A replica of the former release.
struct Former<'r>(&'r Redis);

impl Former<'_> {
    /// It has confirmed its view, and said that it is there.
    async fn starts(&self) {
        self.sync().await;
        let now = Clock::system().now().as_micros();
        let beat = format!("1 {now} 60000000 ff");
        self.0.command(&["HSET", "{larder}:replicas", "former", &beat]).await;
    }

    /// All that its index has, as one text.
    async fn sync(&self) -> String {
        self.0.command(&["EVAL", SYNC, "1", "{larder}:purged", "nonce", "none", "0", "1000"]).await
    }

    async fn purges(&self, tag: &str, in_doubt_for: &str) {
        let target = text(&Target::tag(tag).id());
        let args = ["EVAL", PURGE, "1", "{larder}:purged", "nonce", "none", "0", "1000"];
        let more = [in_doubt_for, "h", "1000", HIGH, "wake", "everything", "", "", "1", "", "0", &target];
        let reply = self.0.command(&[&args[..], &more[..]].concat()).await;
        assert!(!reply.starts_with('-'), "{reply}");
    }
}

/// The test's client sends only text.
fn text(id: &TargetId) -> String {
    String::from_utf8(id.0.to_vec()).expect("a tag with such an id")
}

/// Tags whose ids are text.
fn tags() -> impl Iterator<Item = String> {
    (0..)
        .map(|number| number.to_string())
        .filter(|tag| Target::tag(tag).id().0.iter().all(|b| (33..127).contains(b)))
}

async fn put(store: &TieredStore, tag: &str) {
    let fill = store.begin_fetch(&KEY);
    let stored = response(&fill, "body", &[tag], Clock::system().now().plus(HOUR));
    store.insert(fill, stored).await.expect("stored");
}

async fn start(redis: &Redis) -> std::sync::Arc<TieredStore> {
    tiered_store(&store_settings(&redis.url(), ", max_lag: 0s"), IndexBounds::default()).await
}

#[tokio::test]
async fn what_the_former_release_purges_is_purged_here() {
    let redis = Redis::start().await;
    let (former, tag, other) = (Former(&redis), tags().next().unwrap(), tags().nth(1).unwrap());
    former.starts().await;
    let store = start(&redis).await;
    put(&store, &tag).await;
    former.purges(&other, "0").await;
    assert!(body(&*store, &KEY).await.is_some());
    former.purges(&tag, "0").await;
    assert_eq!(body(&*store, &KEY).await, None);
    put(&store, &tag).await;
    assert!(body(&*store, &KEY).await.is_some());
    // In doubt for an hour there is in doubt for an hour here.
    former.purges(&tag, "3600000000").await;
    assert_eq!(body(&*store, &KEY).await, None);
    put(&store, &tag).await;
    assert_eq!(body(&*store, &KEY).await, None);
    let settled = store.begin_fetch(&KEY).read_version();
    let settled = larder::purge::ReadVersion { time: Clock::system().now().plus(2 * HOUR), ..settled };
    assert_eq!(store.validity(&settled, &targets(&[&tag])), Validity::Valid);
    // A purge that was lost there may have named anything.
    put(&store, &other).await;
    assert!(body(&*store, &KEY).await.is_some());
    redis.command(&["UNLINK", "{larder}:purged"]).await;
    assert_eq!(body(&*store, &KEY).await, None);
}

#[tokio::test]
async fn the_former_release_hears_of_purges_in_a_mixed_fleet() {
    let redis = Redis::start().await;
    let (former, tag) = (Former(&redis), tags().next().unwrap());
    former.starts().await;
    let store = start(&redis).await;
    let record = format!("h{}", text(&Target::tag(&tag).id()));
    assert!(!former.sync().await.contains(&record));
    store.purge(Purge::hard(vec![Target::tag(&tag)])).await.unwrap();
    assert!(former.sync().await.contains(&record));
    // A purge that was reported there does not come back as another one.
    put(&store, &tag).await;
    assert!(body(&*store, &KEY).await.is_some());
    let names = store.replicas().await.unwrap().into_iter().map(|replica| replica.name).collect::<Vec<_>>();
    assert!(names.contains(&"former".to_owned()) && names.len() == 2, "{names:?}");
    // Once the last of them has gone, its index goes, and nothing is purged for that.
    redis.command(&["DEL", "{larder}:replicas"]).await;
    store.purge(Purge::hard(vec![Target::tag("another")])).await.unwrap();
    assert_eq!(redis.command(&["EXISTS", "{larder}:purged"]).await, "0");
    assert!(body(&*store, &KEY).await.is_some());
}
