//! Responses are encrypted or signed in Redis: a tenant of the same server can't forge them.

use larder::clock::Clock;

use crate::support::{Answer, Redis, Replica, Upstream, eventually};

const ROUTES: &str = "
routes:
  - {path: '/items/{id}', ttl: 1h, tags: [items]}
  - {path: '/orders/{id}', ttl: 1h, tags: ['order:{id}']}
  - {path: /lang, ttl: 1h}
";

const OLD: &str = "{id: old, secret: an-old-secret-of-more-than-32-characters}";
const NEW: &str = "{id: new, secret: another-secret-of-more-than-32-characters}";
/// The name of `NEW`, and another secret.
const ANOTHER: &str = "{id: new, secret: yet-another-secret-of-more-than-32-characters}";

const MODES: [&str; 2] = ["encrypt", "sign"];

/// Without a first tier, so that every hit comes out of Redis.
fn start(redis: &Redis, seal: Option<(&str, &[&str])>, upstream: &Upstream) -> Replica {
    start_with(redis, seal, "larder", upstream)
}

fn start_with(redis: &Redis, seal: Option<(&str, &[&str])>, namespace: &str, upstream: &Upstream) -> Replica {
    start_routes(redis, seal, namespace, ROUTES, upstream)
}

fn start_routes(
    redis: &Redis,
    seal: Option<(&str, &[&str])>,
    namespace: &str,
    routes: &str,
    upstream: &Upstream,
) -> Replica {
    let seal = seal.map(|(mode, keys)| format!(", {mode}: {{keys: [{}]}}", keys.join(", ")));
    let store = format!(
        "store: {{redis: \"{}\", memory: 0, timeout: 1s, namespace: {namespace}{}}}\n",
        redis.url(),
        seal.unwrap_or_default()
    );
    Replica::with(&(store + routes), upstream, Clock::system())
}

async fn start_connected(redis: &Redis, seal: Option<(&str, &[&str])>, upstream: &Upstream) -> Replica {
    let replica = start(redis, seal, upstream);
    replica.is_connected().await;
    replica
}

/// Stores a response, and returns the name of its value.
async fn store(larder: &Replica, redis: &Redis, target: &str) -> String {
    let before = redis.responses().await;
    larder.get(target).await.assert_status(200);
    larder.has(target).await;
    eventually("its value", || async {
        redis.responses().await.into_iter().find(|key| !before.contains(key))
    })
    .await
}

/// Changes a value by Lua: `v` is the value.
async fn change(redis: &Redis, key: &str, expression: &str) {
    let script =
        format!("local v = redis.call('GET', KEYS[1]); redis.call('SET', KEYS[1], {expression}, 'KEEPTTL')");
    redis.command(&["EVAL", &script, "1", key]).await;
}

async fn contains(redis: &Redis, key: &str, text: &str) -> bool {
    let find = "return string.find(redis.call('GET', KEYS[1]), ARGV[1], 1, true) and 1 or 0";
    redis.command(&["EVAL", find, "1", key, text]).await == "1"
}

#[tokio::test]
async fn responses_are_unreadable_in_redis_and_hits_for_all_replicas() {
    for mode in MODES {
        let (redis, upstream) = (Redis::start().await, Upstream::start());
        let seal = Some((mode, &[NEW][..]));
        let one = start_connected(&redis, seal, &upstream).await;
        let other = start_connected(&redis, seal, &upstream).await;
        one.get("/items/1").await.assert_text("GET /items/1 #1").assert_stored();
        other.has("/items/1").await.assert_text("GET /items/1 #1");
        for key in redis.responses().await {
            assert_eq!(contains(&redis, &key, "GET /items").await, mode == "sign", "{key}");
            assert!(contains(&redis, &key, "lrdr").await, "{key}");
        }
        one.purge_tag("items").await;
        other.answers("/items/1", "GET /items/1 #2").await;
    }
}

#[tokio::test]
async fn forged_swapped_and_truncated_values_are_counted_misses() {
    for mode in MODES {
        let (redis, upstream) = (Redis::start().await, Upstream::start());
        let larder = start_connected(&redis, Some((mode, &[NEW])), &upstream).await;
        let mut rejected = 0.0;
        for what in ["first byte", "head", "route", "last byte", "cut", "longer", "other key", "other route"]
        {
            redis.flush_responses().await;
            let value = store(&larder, &redis, "/items/1").await;
            match what {
                "first byte" => change(&redis, &value, "'L' .. string.sub(v, 2)").await,
                "head" => change(&redis, &value, "string.sub(v, 1, 150) .. 'x' .. string.sub(v, 152)").await,
                // The fingerprint of its rules.
                "route" => {
                    change(&redis, &value, "string.sub(v, 1, 54) .. 'xxxxxxxx' .. string.sub(v, 63)").await;
                }
                "last byte" => {
                    let last = "string.char((string.byte(v, #v) + 1) % 256)";
                    change(&redis, &value, &format!("string.sub(v, 1, #v - 1) .. {last}")).await;
                }
                "cut" => change(&redis, &value, "string.sub(v, 1, #v - 1)").await,
                "longer" => change(&redis, &value, "v .. 'x'").await,
                _ => {
                    let target = if what == "other key" { "/items/2" } else { "/orders/1" };
                    let other = store(&larder, &redis, target).await;
                    redis.command(&["COPY", &other, &value, "REPLACE"]).await;
                }
            }
            let reply = larder.get("/items/1").await.assert_status(200);
            assert!(!reply.is_hit() && reply.text().starts_with("GET /items/1 #"), "{mode}, {what}: {reply}");
            rejected += 1.0;
            larder.metric_becomes("larder_redis_values_rejected_total", rejected).await;
            larder.has("/items/1").await.assert_status(200);
        }
    }
}

/// A whole value with a right checksum, and the id of a key that is in use: the signature alone is wrong.
#[tokio::test]
async fn a_value_made_by_somebody_without_the_secret_is_a_miss() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = start_connected(&redis, Some(("sign", &[NEW])), &upstream).await;
    let value = store(&larder, &redis, "/items/1").await;
    assert_eq!(redis.command(&["COPY", &value, "signed"]).await, "1");
    // Somebody who runs larder without the secret, for the same epoch.
    let plain = start_connected(&redis, None, &upstream).await;
    plain.get("/items/1").await.assert_text("GET /items/1 #2").assert_status(200);
    plain.has("/items/1").await.assert_text("GET /items/1 #2");
    let signed = "local s = redis.call('GET', 'signed'); local v = redis.call('GET', KEYS[1])
        local kind = string.char(string.byte(v, 6) + 32)
        local forged = string.sub(v, 1, 5) .. kind .. string.sub(v, 7, 96) .. string.sub(s, 97, 136) .. string.sub(v, 97)
        redis.call('SET', KEYS[1], forged, 'KEEPTTL')";
    redis.command(&["EVAL", signed, "1", &value]).await;
    larder.get("/items/1").await.assert_text("GET /items/1 #3");
    larder.metric_becomes("larder_redis_values_rejected_total", 1.0).await;
}

/// A value that was copied while it was valid, and is written back.
#[tokio::test]
async fn a_replayed_value_is_a_miss_once_it_is_purged() {
    for mode in MODES {
        let (redis, upstream) = (Redis::start().await, Upstream::start());
        let larder = start_connected(&redis, Some((mode, &[NEW])), &upstream).await;
        let value = store(&larder, &redis, "/items/1").await;
        assert_eq!(redis.command(&["COPY", &value, "copy"]).await, "1");
        larder.purge_tag("items").await;
        let replay = || async {
            assert_eq!(redis.command(&["COPY", "copy", &value, "REPLACE"]).await, "1");
        };
        replay().await;
        larder.get("/items/1").await.assert_text("GET /items/1 #2").assert_stored();
        larder.has("/items/1").await.assert_text("GET /items/1 #2");
        // Also for a replica that has known nothing but the index.
        replay().await;
        let other = start_connected(&redis, Some((mode, &[NEW])), &upstream).await;
        other.get("/items/1").await.assert_text("GET /items/1 #3");
        // And in another epoch, whatever became of the purge.
        replay().await;
        redis.command(&["DEL", "{larder}:index"]).await;
        let third = start_connected(&redis, Some((mode, &[NEW])), &upstream).await;
        third.get("/items/1").await.assert_text("GET /items/1 #4");
    }
}

/// The index is not signed, as `docs/security.md` says: whoever writes to it can withhold a purge from a replica that has not
/// read it, and bring back what was valid before.
#[tokio::test]
async fn who_writes_to_the_index_can_bring_back_what_was_valid() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let seal = Some(("encrypt", &[NEW][..]));
    let larder = start_connected(&redis, seal, &upstream).await;
    let value = store(&larder, &redis, "/items/1").await;
    let replay = || async {
        assert_eq!(redis.command(&["COPY", "copy", &value, "REPLACE"]).await, "1");
    };
    assert_eq!(redis.command(&["COPY", &value, "copy"]).await, "1");
    redis.command(&["DEL", &value]).await;
    larder.get("/items/1").await.assert_text("GET /items/1 #2");
    larder.has("/items/1").await.assert_text("GET /items/1 #2");
    // Older, and within its lifetime.
    replay().await;
    larder.has("/items/1").await.assert_text("GET /items/1 #1");
    larder.purge_tag("items").await;
    replay().await;
    let withhold = "local last = -redis.call('ZSCORE', KEYS[1], 'w')
        for _, record in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], last, last)) do redis.call('ZREM', KEYS[1], record) end";
    redis.command(&["EVAL", withhold, "1", "{larder}:index"]).await;
    // The replica that knows the purge keeps to it.
    let late = start_connected(&redis, seal, &upstream).await;
    late.has("/items/1").await.assert_text("GET /items/1 #1");
    larder.get("/items/1").await.assert_text("GET /items/1 #3");
}

#[tokio::test]
async fn values_of_another_namespace_or_secret_are_not_believed() {
    for mode in MODES {
        let (redis, upstream) = (Redis::start().await, Upstream::start());
        let larder = start_connected(&redis, Some((mode, &[NEW])), &upstream).await;
        let value = store(&larder, &redis, "/items/1").await;
        let staging = start_with(&redis, Some((mode, &[NEW])), "staging", &upstream);
        staging.is_connected().await;
        staging.get("/items/1").await.assert_status(200);
        staging.has("/items/1").await;
        let its_value = value.replace("larder:", "staging:");
        assert_eq!(redis.command(&["COPY", &its_value, &value, "REPLACE"]).await, "1");
        larder.get("/items/1").await.assert_text("GET /items/1 #3");
        larder.metric_becomes("larder_redis_values_rejected_total", 1.0).await;
        larder.has("/items/1").await.assert_text("GET /items/1 #3");
        let other = start_connected(&redis, Some((mode, &[ANOTHER])), &upstream).await;
        other.get("/items/1").await.assert_text("GET /items/1 #4");
        other.metric_becomes("larder_redis_values_rejected_total", 1.0).await;
    }
}

#[tokio::test]
async fn keys_are_rotated_without_losing_what_is_stored() {
    for mode in MODES {
        let (redis, upstream) = (Redis::start().await, Upstream::start());
        let before = start_connected(&redis, Some((mode, &[OLD])), &upstream).await;
        store(&before, &redis, "/items/1").await;
        let during = start_connected(&redis, Some((mode, &[NEW, OLD])), &upstream).await;
        during.get("/items/1").await.assert_hit();
        store(&during, &redis, "/items/2").await;
        // A replica without the new key fetches for itself, and leaves the value to those that have it.
        let count = redis.responses().await.len();
        assert!(!before.get("/items/2").await.is_hit());
        assert_eq!(redis.responses().await.len(), count);
        let after = start_connected(&redis, Some((mode, &[NEW])), &upstream).await;
        assert!(!after.get("/items/1").await.is_hit());
        after.metric_becomes("larder_redis_values_rejected_total", 1.0).await;
    }
}

/// One replica after another gets the other setting.
#[tokio::test]
async fn replicas_go_over_from_one_seal_to_another() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let signs = start_connected(&redis, Some(("sign", &[NEW])), &upstream).await;
    store(&signs, &redis, "/items/1").await;
    let encrypts = start_connected(&redis, Some(("encrypt", &[NEW])), &upstream).await;
    encrypts.get("/items/1").await.assert_hit();
    store(&encrypts, &redis, "/items/2").await;
    signs.get("/items/2").await.assert_hit();
    // A replica without keys can't read them, and does not take them for damaged.
    let plain = start_connected(&redis, None, &upstream).await;
    plain.get("/items/2").await.assert_text("GET /items/2 #2").assert_status(200);
    plain.metric_becomes("larder_redis_values_rejected_total", 1.0).await;
}

#[tokio::test]
async fn plain_values_are_not_believed_and_variants_are_sealed_too() {
    for mode in MODES {
        let (redis, upstream) = (Redis::start().await, Upstream::start());
        let plain = start_connected(&redis, None, &upstream).await;
        store(&plain, &redis, "/items/1").await;
        let sealing = start_connected(&redis, Some((mode, &[NEW])), &upstream).await;
        assert!(!sealing.get("/items/1").await.is_hit());
        sealing.has("/items/1").await;
        upstream.on("/lang", Answer::ok("hallo").header("vary", "Accept-Language"));
        sealing.get("/lang").header("Accept-Language", "de").await.assert_status(200);
        eventually("a variant", || async {
            sealing.get("/lang").header("Accept-Language", "de").await.is_hit().then_some(())
        })
        .await;
    }
}

/// Release 0.1.0 bound values to less, and gave its keys other names.
#[tokio::test]
async fn a_value_of_the_former_release_is_a_miss_and_stays() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = start_connected(&redis, Some(("encrypt", &[NEW])), &upstream).await;
    let value = store(&larder, &redis, "/items/1").await;
    change(&redis, &value, "string.sub(v, 1, 96) .. 'other id' .. string.sub(v, 105)").await;
    let other = start_connected(&redis, Some(("sign", &[NEW])), &upstream).await;
    let held = upstream.hold("/items/1");
    let reply = other.get("/items/1").spawn();
    held.arrived().await;
    other.metric_becomes("larder_redis_values_rejected_total", 1.0).await;
    assert!(contains(&redis, &value, "other id").await);
    held.release();
    assert_eq!(reply.await.unwrap().text(), "GET /items/1 #2");
}

/// The values of the routes without `encrypt` are sealed as the store says.
#[tokio::test]
async fn a_route_is_encrypted_or_readable_unlike_the_others() {
    for mode in MODES {
        let (redis, upstream) = (Redis::start().await, Upstream::start());
        let start = async || {
            let routes = "
routes:
  - {path: '/items/{id}', ttl: 1h}
  - {path: '/me/{id}', ttl: 1h, encrypt: true}
  - {path: '/news/{id}', ttl: 1h, encrypt: false}
";
            let replica = start_routes(&redis, Some((mode, &[NEW])), "larder", routes, &upstream);
            replica.is_connected().await;
            replica
        };
        let (one, other) = (start().await, start().await);
        for (path, is_readable) in [("/items/1", mode == "sign"), ("/me/1", false), ("/news/1", true)] {
            let value = store(&one, &redis, path).await;
            assert_eq!(
                contains(&redis, &value, &format!("GET {path} #1")).await,
                is_readable,
                "{mode} {path}"
            );
            other.get(path).await.assert_hit().assert_text(&format!("GET {path} #1"));
            change(&redis, &value, "string.sub(v, 1, #v - 1) .. string.char((string.byte(v, #v) + 1) % 256)")
                .await;
            other.get(path).await.assert_text(&format!("GET {path} #2"));
            other.has(path).await;
        }
        // Variants are sealed like the responses.
        let answer = Answer::ok("GET /me/2").header("vary", "Accept-Language");
        upstream.on("/me/2", answer);
        let before = redis.responses().await;
        one.get("/me/2").await.assert_stored();
        let values = eventually("a variant and its kind", || async {
            let values: Vec<_> =
                redis.responses().await.into_iter().filter(|key| !before.contains(key)).collect();
            (values.len() == 2).then_some(values)
        })
        .await;
        for value in values {
            assert!(
                !contains(&redis, &value, "accept-language").await && !contains(&redis, &value, "GET").await
            );
        }
    }
}

#[tokio::test]
async fn a_readable_value_is_replaced_once_its_route_encrypts() {
    let before = "routes: [{path: '/items/{id}', ttl: 1h}]";
    let after = "routes: [{path: '/items/{id}', ttl: 1h, encrypt: true}]";
    for seal in [None, Some(("sign", &[NEW][..]))] {
        let (redis, upstream) = (Redis::start().await, Upstream::start());
        let readable = start_routes(&redis, seal, "larder", before, &upstream);
        readable.is_connected().await;
        let value = store(&readable, &redis, "/items/1").await;
        assert!(contains(&redis, &value, "GET /items/1 #1").await);
        let encrypts = start_routes(&redis, Some(("sign", &[NEW])), "larder", after, &upstream);
        encrypts.is_connected().await;
        encrypts.get("/items/1").await.assert_text("GET /items/1 #2").assert_stored();
        encrypts.has("/items/1").await.assert_text("GET /items/1 #2");
        assert!(!contains(&redis, &value, "GET /items/1").await);
        // A replica that has not been changed yet neither serves nor needs it.
        assert!(!readable.get("/items/1").await.is_hit());
    }
}

/// `store`, and the keys with it, is not touched by a reload.
#[tokio::test]
async fn a_route_that_encrypts_since_a_reload_writes_nothing_readable() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = Replica::start(&redis, &upstream, "timeout: 1s", "").await;
    let yaml = format!(
        "store: {{redis: '{}', timeout: 1s, sign: {{keys: [{NEW}]}}}}\n\
         routes: [{{path: /a, ttl: 1h}}, {{path: /me, ttl: 1h, encrypt: true}}]",
        redis.url()
    );
    larder.reconfigure(&yaml).await;
    larder.get("/me").await.assert_stored();
    larder.has("/me").await;
    let before = redis.responses().await;
    store(&larder, &redis, "/a").await;
    // The one that was written first would be there, too.
    assert_eq!((before.len(), redis.responses().await.len()), (0, 1));
}
