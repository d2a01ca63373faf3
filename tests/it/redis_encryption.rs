//! Responses are encrypted in Redis: a tenant of the same server can neither read nor forge them.

use larder::clock::Clock;

use crate::support::{Answer, Redis, Replica, Upstream, eventually};

const ROUTES: &str = "routes: [{path: \"/items/{id}\", ttl: 1h, tags: [items]}, {path: \"/lang\", ttl: 1h}]";

const OLD: &str = "{id: old, secret: an-old-secret-of-more-than-32-characters}";
const NEW: &str = "{id: new, secret: another-secret-of-more-than-32-characters}";

/// Without a first tier, so that every hit comes out of Redis.
fn start(redis: &Redis, keys: &[&str], upstream: &Upstream) -> Replica {
    let encrypt = match keys {
        [] => String::new(),
        keys => format!(", encrypt: {{keys: [{}]}}", keys.join(", ")),
    };
    let store = format!("store: {{redis: \"{}\", memory: 0, timeout: 1s{encrypt}}}\n", redis.url());
    Replica::with(&(store + ROUTES), upstream, Clock::system())
}

#[tokio::test]
async fn responses_are_unreadable_in_redis_and_hits_for_all_replicas() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let (one, other) = (start(&redis, &[NEW], &upstream), start(&redis, &[NEW], &upstream));
    one.is_connected().await;
    other.is_connected().await;
    one.get("/items/1").await.assert_text("GET /items/1 #1").assert_stored();
    other.has("/items/1").await.assert_text("GET /items/1 #1");
    for key in redis.responses().await {
        let find = "return string.find(redis.call('GET', KEYS[1]), ARGV[1], 1, true) and 1 or 0";
        assert_eq!(redis.command(&["EVAL", find, "1", &key, "GET /items"]).await, "0", "{key}");
        assert_eq!(redis.command(&["EVAL", find, "1", &key, "lrdr"]).await, "1", "{key}");
    }
    one.purge_tag("items").await;
    other.get("/items/1").await.assert_text("GET /items/1 #2");
}

#[tokio::test]
async fn forged_swapped_and_truncated_values_are_counted_misses() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = start(&redis, &[NEW], &upstream);
    larder.is_connected().await;
    let mut rejected = 0.0;
    for change in ["truncate", "swap", "forge"] {
        redis.flush_responses().await;
        larder.get("/items/1").await.assert_status(200);
        redis.holds(1).await;
        let first = redis.responses().await;
        larder.has("/items/1").await;
        larder.get("/items/2").await.assert_status(200);
        larder.has("/items/2").await;
        redis.holds(2).await;
        let all = redis.responses().await;
        let second = all.iter().find(|key| !first.contains(key)).expect("another");
        match change {
            "truncate" => redis.command(&["SETRANGE", &first[0], "100", ""]).await,
            "swap" => redis.command(&["COPY", second, &first[0], "REPLACE"]).await,
            _ => redis.command(&["SETRANGE", &first[0], "150", "x"]).await,
        };
        if change == "truncate" {
            redis.command(&["EVAL", "local v = redis.call('GET', KEYS[1]); redis.call('SET', KEYS[1], string.sub(v, 1, #v - 1))", "1", &first[0]]).await;
        }
        assert!(!larder.get("/items/1").await.is_hit(), "{change}");
        rejected += 1.0;
        larder.metric_becomes("larder_redis_values_rejected_total", rejected).await;
        larder.has("/items/1").await.assert_status(200);
    }
}

#[tokio::test]
async fn keys_are_rotated_without_losing_what_is_stored() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let before = start(&redis, &[OLD], &upstream);
    before.is_connected().await;
    before.get("/items/1").await.assert_status(200);
    before.has("/items/1").await;
    let during = start(&redis, &[NEW, OLD], &upstream);
    during.is_connected().await;
    during.get("/items/1").await.assert_hit();
    during.get("/items/2").await.assert_status(200);
    during.has("/items/2").await;
    // A replica without the new key fetches for itself, and leaves the value to those that have it.
    let count = redis.responses().await.len();
    assert!(!before.get("/items/2").await.is_hit());
    assert_eq!(redis.responses().await.len(), count);
    let after = start(&redis, &[NEW], &upstream);
    after.is_connected().await;
    assert!(!after.get("/items/1").await.is_hit());
    after.metric_becomes("larder_redis_values_rejected_total", 1.0).await;
}

#[tokio::test]
async fn plain_values_are_not_believed_and_variants_are_encrypted_too() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let plain = start(&redis, &[], &upstream);
    plain.is_connected().await;
    plain.get("/items/1").await.assert_status(200);
    plain.has("/items/1").await;
    let encrypted = start(&redis, &[NEW], &upstream);
    encrypted.is_connected().await;
    assert!(!encrypted.get("/items/1").await.is_hit());
    eventually("it is stored again, encrypted", || async {
        encrypted.get("/items/1").await.is_hit().then_some(())
    })
    .await;
    upstream.on("/lang", Answer::ok("hallo").header("vary", "Accept-Language"));
    encrypted.get("/lang").header("Accept-Language", "de").await.assert_status(200);
    eventually("a variant", || async {
        encrypted.get("/lang").header("Accept-Language", "de").await.is_hit().then_some(())
    })
    .await;
}
