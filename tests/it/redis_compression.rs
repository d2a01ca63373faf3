//! Responses are compressed in Redis: smaller there, and the same for every replica, whether it compresses or not.

use larder::clock::Clock;

use crate::support::{Answer, Redis, Replica, Upstream};

const ROUTES: &str = "routes: [{path: \"/items/{id}\", ttl: 1h, tags: [items]}, \
                      {path: \"/leased/{id}\", ttl: 1h, collapse: replicas}]";

const COMPRESS: &str = ", compress: {min_size: 100}";
const ENCRYPT: &str = ", encrypt: {keys: [{id: a, secret: a-secret-of-more-than-32-characters}]}";

/// Without a first tier, so that every hit comes out of Redis.
async fn start(redis: &Redis, more: &str, upstream: &Upstream) -> Replica {
    let store = format!("store: {{redis: \"{}\", memory: 0, timeout: 5s{more}}}\n", redis.url());
    let replica = Replica::with(&(store + ROUTES), upstream, Clock::system());
    replica.is_connected().await;
    replica
}

/// A list as APIs answer it.
fn list(items: usize) -> String {
    let item = |id: usize| format!("{{\"id\": {id}, \"title\": \"Course {id}\", \"published\": true}}");
    format!("[{}]", (0..items).map(item).collect::<Vec<_>>().join(", "))
}

/// Names and lengths of the stored responses.
async fn values(redis: &Redis) -> Vec<(String, usize)> {
    let mut values = Vec::new();
    for key in redis.responses().await {
        let length = redis.command(&["STRLEN", &key]).await.parse().expect("a length");
        values.push((key, length));
    }
    values
}

#[tokio::test]
async fn compressed_responses_are_hits_for_replicas_that_do_not() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    for (number, encrypt) in ["", ENCRYPT].into_iter().enumerate() {
        let compressing = start(&redis, &format!("{COMPRESS}{encrypt}"), &upstream).await;
        let plain = start(&redis, encrypt, &upstream).await;
        // Small enough to be compressed inline, and too large for it.
        for items in [100, 5_000] {
            for route in ["items", "leased"] {
                redis.flush_responses().await;
                let (path, body) = (format!("/{route}/{number}-{items}"), list(items));
                upstream.on(&path, Answer::ok(body.clone()));
                compressing.get(&path).await.assert_text(&body);
                compressing.has(&path).await.assert_text(&body);
                let stored = values(&redis).await;
                assert!(stored.iter().all(|(_, length)| *length < body.len() / 4), "{path}: {stored:?}");
                plain.get(&path).await.assert_hit().assert_text(&body);
            }
        }
        // And what others have written plain.
        upstream.on("/items/plain", Answer::ok(list(100)));
        plain.get("/items/plain").await.assert_status(200);
        plain.has("/items/plain").await;
        compressing.get("/items/plain").await.assert_hit().assert_text(&list(100));
        for replica in [&compressing, &plain] {
            assert_eq!(replica.metric("larder_redis_values_rejected_total").await, 0.0);
        }
        redis.flush_responses().await;
    }
}

#[tokio::test]
async fn bytes_are_counted_before_and_after() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let replica = start(&redis, COMPRESS, &upstream).await;
    let body = list(100);
    upstream.on("/items/1", Answer::ok(body.clone()));
    replica.get("/items/1").await.assert_status(200);
    replica.has("/items/1").await;
    let before = replica.metric("larder_redis_compressed_bytes_total{stage=\"before\"}").await;
    let after = replica.metric("larder_redis_compressed_bytes_total{stage=\"after\"}").await;
    assert!(before > body.len() as f64, "{before}");
    let stored: Vec<f64> = values(&redis).await.into_iter().map(|(_, length)| length as f64).collect();
    assert_eq!(stored, [after]);
}

#[tokio::test]
async fn a_damaged_value_is_a_counted_miss() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let replica = start(&redis, COMPRESS, &upstream).await;
    upstream.on("/items/1", Answer::ok(list(100)));
    for rejected in 1..=2 {
        replica.get("/items/1").await.assert_status(200);
        replica.has("/items/1").await;
        let (key, length) = values(&redis).await.remove(0);
        let at = if rejected == 1 { 120 } else { length - 1 };
        redis.command(&["SETRANGE", &key, &at.to_string(), "\u{1}\u{1}"]).await;
        assert!(!replica.get("/items/1").await.is_hit());
        replica.metric_becomes("larder_redis_values_rejected_total", f64::from(rejected)).await;
        redis.flush_responses().await;
    }
}
