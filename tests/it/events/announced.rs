//! Purges as events for others: on a Redis channel, and on the admin listener as server-sent events.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{ROUTES, events_become, source_becomes};
use crate::support::{Larder, Line, Redis, Relay, Replica, Upstream, with_deadline};

/// Reads until what came ends so.
async fn read_until(stream: &mut UnixStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let length = with_deadline("a message", stream.read_buf(&mut read)).await.expect("a connection");
        assert_ne!(length, 0, "it ended before {end:?}");
    }
    String::from_utf8(read).expect("text")
}

#[tokio::test]
async fn each_purge_is_announced_on_a_channel_with_what_it_named() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = Replica::start(&redis, &upstream, "publish: \"shop:purges\", timeout: 5s", ROUTES).await;
    let mut subscriber = UnixStream::connect(redis.socket()).await.unwrap();
    subscriber.write_all(b"SUBSCRIBE shop:purges\r\n").await.unwrap();
    read_until(&mut subscriber, ":1\r\n").await;
    let purge = larder.admin.request("POST", "/purge").body(r#"{"tags": ["product:1", "a\"b"]}"#);
    let position = purge.await.assert_status(200).json()["position"].clone();
    let message = read_until(&mut subscriber, "}\r\n").await;
    let told: Value = serde_json::from_str(&message[message.find('{').unwrap()..]).unwrap();
    assert_eq!(told["position"], position);
    assert_eq!(told["targets"], json!(["tag product:1", "tag a\"b"]));
    assert_eq!((&told["source"], &told["soft"]), (&json!("admin"), &json!(false)));
    assert!(told["at"].as_u64().unwrap() > 1_700_000_000_000_000);
}

async fn subscribe(redis: &Redis, channel: &str) -> UnixStream {
    let mut subscriber = UnixStream::connect(redis.socket()).await.unwrap();
    subscriber.write_all(format!("SUBSCRIBE {channel}\r\n").as_bytes()).await.unwrap();
    read_until(&mut subscriber, ":1\r\n").await;
    subscriber
}

/// The positions of the next so many announcements.
async fn next_positions(subscriber: &mut UnixStream, count: usize) -> Vec<u64> {
    let mut positions = Vec::new();
    while positions.len() < count {
        let messages = read_until(subscriber, "}\r\n").await;
        let records = messages.lines().filter(|line| line.starts_with('{'));
        positions.extend(records.map(|record| {
            let record: Value = serde_json::from_str(record).expect("JSON");
            record["position"].as_u64().expect("a position")
        }));
    }
    positions
}

const BY_GUILD: &str = "publish: [every, {channel: 'guilds:{guildId}', tag: 'guild:{guildId}'}]";

#[tokio::test]
async fn a_subscriber_of_one_value_hears_the_purges_of_its_tag() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = Replica::start(&redis, &upstream, &format!("{BY_GUILD}, timeout: 5s"), ROUTES).await;
    let mut seven = subscribe(&redis, "guilds:7").await;
    let mut eight = subscribe(&redis, "guilds:8").await;
    let mut every = subscribe(&redis, "every").await;
    let first = purge(&larder, "guild:7").await;
    let second = purge(&larder, "GUILD:8").await;
    let third = purge(&larder, "courses").await;
    let both = larder.admin.request("POST", "/purge").body(r#"{"tags": ["guild:8", "courses", "guild:7"]}"#);
    let both = both.await.assert_status(200).json()["position"].as_u64().unwrap();
    for (subscriber, expected) in [
        (&mut seven, &[first, both][..]),
        (&mut eight, &[second, both]),
        (&mut every, &[first, second, third, both]),
    ] {
        assert_eq!(next_positions(subscriber, expected.len()).await, expected);
    }
}

#[tokio::test]
async fn a_purge_that_redis_takes_late_is_told_to_its_subscribers() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let line = Relay::to(redis.address()).await;
    let store = format!("{BY_GUILD}, timeout: 1s");
    let larder = Replica::start_alone(&line.url(), &upstream, &store, ROUTES);
    larder.is_connected().await;
    let mut seven = subscribe(&redis, "guilds:7").await;
    line.set(Line::Cut);
    larder.is_cut_off().await;
    let waiting = larder.admin.request("POST", "/purge").body(r#"{"tags": ["guild:7"]}"#);
    waiting.await.assert_status(503);
    line.set(Line::Whole);
    let message = read_until(&mut seven, "}\r\n").await;
    assert!(message.contains(r#""source":"late""#), "{message}");
}

/// The events of a stream of them: name, id and data.
fn parsed(text: &str) -> Vec<(String, u64, Value)> {
    let events = text.split("\n\n").filter(|event| event.starts_with("id: "));
    events
        .map(|event| {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            let data = serde_json::from_str(field("data: ")).expect("JSON");
            (field("event: ").to_owned(), field("id: ").parse().expect("a position"), data)
        })
        .collect()
}

async fn purge(larder: &Larder, tag: &str) -> u64 {
    let purge = larder.admin.request("POST", "/purge").body(json!({ "tags": [tag] }).to_string());
    purge.await.assert_status(200).json()["position"].as_u64().expect("a position")
}

#[tokio::test]
async fn a_reader_is_told_of_each_purge_and_goes_on_where_it_was() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    purge(&larder, "before").await;
    let mut reader = larder.admin.get("/events").start().await;
    assert_eq!(reader.headers["content-type"], "text/event-stream");
    reader.read_until("retry: 1000\n\n").await;
    let first = purge(&larder, "one").await;
    let told = parsed(&reader.read_until("\n\n").await);
    assert_eq!((told[0].0.as_str(), told[0].1), ("purge", first));
    assert_eq!((&told[0].2["targets"], &told[0].2["mode"]), (&json!(["tag one"]), &json!("hard")));
    drop(reader);
    let missed = [purge(&larder, "two").await, purge(&larder, "three").await];
    let mut reader = larder.admin.get("/events").header("last-event-id", &first.to_string()).start().await;
    reader.read_until("retry: 1000\n\n").await;
    let mut told = parsed(&reader.read_until("\n\n").await);
    if told.len() < 2 {
        told.extend(parsed(&reader.read_until("\n\n").await));
    }
    assert_eq!(told.iter().map(|told| told.1).collect::<Vec<_>>(), missed);
}

#[tokio::test]
async fn a_reader_hears_of_other_replicas_purges() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let one = Replica::start(&redis, &upstream, "timeout: 5s", ROUTES).await;
    let other = Replica::start(&redis, &upstream, "timeout: 5s", ROUTES).await;
    let mut reader = one.admin.get("/events").start().await;
    reader.read_until("retry: 1000\n\n").await;
    let position = purge(&other, "one").await;
    assert_eq!(parsed(&reader.read_until("\n\n").await)[0].1, position);
}

#[tokio::test]
async fn only_an_operator_may_follow_and_a_shutdown_ends_it() {
    let upstream = Upstream::start();
    let mut larder = Larder::with(ROUTES, &upstream);
    larder.admin.get("/events").header("via", "1.1 proxy").await.assert_status(403);
    larder.admin.get("/events").header("last-event-id", "x").await.assert_status(400);
    let mut reader = larder.admin.get("/events").start().await;
    reader.read_until("retry: 1000\n\n").await;
    larder.shut_down();
    reader.whole().await.expect("it ends in order");
    larder.stopped().await.expect("no error");
}

/// Each of them purges for the other's announcement, and not for what is announced of that purge.
#[tokio::test]
async fn services_that_follow_each_other_come_to_rest() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let mut services = Vec::new();
    for (own, other) in [("a", "b"), ("b", "a")] {
        let store = format!("timeout: 5s, namespace: {own}, publish: from-{own}");
        let event = format!("{{name: shop, pubsub: from-{other}, purge: [\"product:{{event.json:/id}}\"]}}");
        let yaml = format!("{ROUTES}events: [{event}]\n");
        services.push(Replica::start(&redis, &upstream, &store, &yaml).await);
        source_becomes(&services[services.len() - 1], "ok").await;
    }
    let (one, other) = (&services[0], &services[1]);
    // The second one announced the purge of its start.
    events_become(one, "pubsub", "widened", 1.0).await;
    events_become(other, "pubsub", "ignored", 1.0).await;
    purge(one, "product:1").await;
    events_become(other, "pubsub", "widened", 1.0).await;
    events_become(one, "pubsub", "ignored", 1.0).await;
    redis.command(&["PUBLISH", "from-a", "{\"id\": 2}"]).await;
    events_become(other, "pubsub", "named", 1.0).await;
    events_become(one, "pubsub", "widened", 2.0).await;
    events_become(other, "pubsub", "ignored", 2.0).await;
    purge(one, "product:1").await;
    events_become(one, "pubsub", "ignored", 2.0).await;
    events_become(one, "pubsub", "widened", 2.0).await;
    events_become(other, "pubsub", "widened", 2.0).await;
}
