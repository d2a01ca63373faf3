//! A Redis channel: what is heard is purged, and what may not have been heard is purged with all that it could have named.

use ::larder::clock::Clock;

use super::{ALL, ROUTES, TWO, events_become, hits, missed, source_becomes};
use crate::support::{Larder, Redis, Replica, Upstream, eventually};

const NOTHING: [&str; 0] = [];

fn yaml(redis: &Redis) -> String {
    format!(
        "{ROUTES}events:\n  - {{name: shop, pubsub: changes, redis: \"{}\", \
         purge: [products, \"product:{{event.json:/id}}\"]}}\n",
        redis.url()
    )
}

#[tokio::test]
async fn an_unreadable_message_purges_all_it_could_name() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = Larder::with(&yaml(&redis), &upstream);
    source_becomes(&larder, "ok").await;
    assert_eq!(hits(&larder).await, NOTHING);
    assert_eq!(redis.command(&["PUBLISH", "changes", "{\"id\": 1}"]).await, "1");
    events_become(&larder, "pubsub", "named", 1.0).await;
    assert_eq!(hits(&larder).await, [TWO]);
    redis.command(&["PUBLISH", "changes", "7 }"]).await;
    events_become(&larder, "pubsub", "malformed", 1.0).await;
    assert_eq!(hits(&larder).await, NOTHING);
}

#[tokio::test]
async fn a_pattern_hears_many_channels_and_their_names_are_tags() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let yaml = yaml(&redis)
        .replace("pubsub: changes", "pubsub: \"product:*\"")
        .replace("[products, \"product:{event.json:/id}\"]", "[\"{event.channel}\"]");
    let larder = Larder::with(&yaml, &upstream);
    source_becomes(&larder, "ok").await;
    hits(&larder).await;
    assert_eq!(hits(&larder).await, ALL);
    // The content does not matter, the channel names the product.
    for (number, (channel, message)) in
        [("product:1", "gone"), ("product:9", "{\"id\": 2}")].iter().enumerate()
    {
        assert_eq!(redis.command(&["PUBLISH", channel, message]).await, "1");
        events_become(&larder, "pubsub", "named", number as f64 + 1.0).await;
    }
    assert_eq!(redis.command(&["PUBLISH", "products", "x"]).await, "0");
    // Wake-ups of replicas are no events.
    assert_eq!(redis.command(&["PUBLISH", "product:x:wake", "x"]).await, "1");
    redis.command(&["PUBLISH", "product:9", "x"]).await;
    events_become(&larder, "pubsub", "named", 3.0).await;
    assert_eq!(hits(&larder).await.len(), ALL.len() - 1);
}

#[tokio::test]
async fn a_replica_that_joins_one_that_listens_purges_nothing() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let yaml = format!("store: {{redis: \"{}\", max_lag: 0s, timeout: 5s}}\n{}", redis.url(), yaml(&redis));
    let start = async || {
        let replica = Replica::with(&yaml, &upstream, Clock::system());
        replica.is_connected().await;
        source_becomes(&replica, "ok").await;
        replica
    };
    let mut one = start().await;
    assert_eq!(missed(&one).await, 1);
    hits(&one).await;
    redis.holds(ALL.len()).await;
    let two = start().await;
    assert_eq!(missed(&two).await, 0);
    assert_eq!(hits(&two).await, ALL);
    // It listens itself, and the next one may rely on it.
    one.shut_down();
    one.stopped().await.expect("a clean end");
    redis.command(&["PUBLISH", "changes", "{\"id\": 1}"]).await;
    events_become(&two, "pubsub", "named", 1.0).await;
    assert_eq!(hits(&two).await, [TWO]);
    redis.holds(ALL.len()).await;
    // One that starts while no other is known to listen would purge.
    eventually("it is known to listen", async || {
        let key = redis.command(&["KEYS", "*:events:shop:*"]).await;
        (redis.command(&["HGET", key.trim(), "until"]).await.trim() != "0").then_some(())
    })
    .await;
    let three = start().await;
    assert_eq!(missed(&three).await, 0);
    assert_eq!(hits(&three).await, ALL);
}

#[tokio::test]
async fn a_lost_connection_purges_all_it_could_have_announced() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = Larder::with(&yaml(&redis), &upstream);
    source_becomes(&larder, "ok").await;
    hits(&larder).await;
    assert_eq!(hits(&larder).await, ALL);
    let before = missed(&larder).await;
    redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    eventually("it is known that something may be missing", || async {
        (missed(&larder).await > before).then_some(())
    })
    .await;
    assert_eq!(hits(&larder).await, NOTHING);
    assert!(larder.log().contains("possible event gap"));
    redis.command(&["PUBLISH", "changes", "{\"id\": 1}"]).await;
    events_become(&larder, "pubsub", "named", 1.0).await;
    assert_eq!(hits(&larder).await, [TWO]);
}

/// The driver connects anew by itself, which must not hide that nothing is heard.
#[tokio::test]
async fn a_server_that_is_away_is_told_until_it_returns() {
    let (mut redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = Larder::with(&yaml(&redis), &upstream);
    source_becomes(&larder, "ok").await;
    let before = missed(&larder).await;
    redis.kill();
    source_becomes(&larder, "away").await;
    assert_eq!(larder.metric("larder_event_source_up{source=\"shop\",kind=\"pubsub\"}").await, 0.0);
    redis.restart().await;
    source_becomes(&larder, "ok").await;
    assert_eq!(missed(&larder).await, before + 1);
}
