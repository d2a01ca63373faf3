//! Replicas that share one Redis: what one stored the others answer from, and a purge through one holds for all.

use std::time::{Duration, Instant};

use crate::support::{Answer, HOST, Redis, Replica, Upstream};

const ROUTES: &str = "
routes:
  - path: /items/{id}
    ttl: 60s
    tags: [items, \"item:{id}\", \"kind:{response.header.X-Kind}\"]
  - path: /items/{item}/sell
    purges: [\"item:{item}\"]
";

/// A busy machine keeps this deadline, and nothing here is about another.
const BOUNDED: &str = "max_lag: 60s, timeout: 5s";
const STRICT: &str = "max_lag: 0s, timeout: 5s";

const ROUNDS: u32 = 30;

async fn two(redis: &Redis, upstream: &Upstream, store: &str) -> (Replica, Replica) {
    (
        Replica::start(redis, upstream, store, ROUTES).await,
        Replica::start(redis, upstream, store, ROUTES).await,
    )
}

#[tokio::test]
async fn what_one_replica_stored_the_other_answers_from() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    for (case, store) in [BOUNDED, STRICT, "memory: 0, timeout: 5s"].into_iter().enumerate() {
        let (one, other) = two(&redis, &upstream, store).await;
        let item = format!("/items/{case}");
        one.get(&item).await.assert_text(&format!("GET {item} #1")).assert_stored();
        redis.holds(case + 1).await;
        other.get(&item).await.assert_text(&format!("GET {item} #1")).assert_hit();
        other.get(&item).await.assert_hit();
        one.get(&item).await.assert_hit();
        assert_eq!(upstream.count(&item), 1, "{store}");
    }
}

#[tokio::test]
async fn all_of_a_response_comes_back() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let (one, other) = two(&redis, &upstream, BOUNDED).await;
    let answer = Answer::ok(vec![0xff; 70_000])
        .header("etag", "\"v1\"")
        .header("link", "</a>")
        .header("link", "</b>")
        .header("x-kind", "Book")
        .header("vary", "Accept-Language");
    upstream.on("/items/1", answer);
    one.get("/items/1").header("accept-language", "en").await.assert_stored();
    redis.holds(2).await;
    let hit = other.get("/items/1").header("accept-language", "en").await.assert_hit();
    assert_eq!(hit.body, vec![0xff; 70_000]);
    hit.assert_header("etag", "\"v1\"").assert_header("link", "</a>, </b>");
    other.get("/items/1").header("accept-language", "de").await.assert_fwd("vary-miss");
    other
        .get("/items/1")
        .header("accept-language", "en")
        .header("if-none-match", "\"v1\"")
        .await
        .assert_status(304);
}

#[tokio::test]
async fn strict_a_purge_through_one_holds_for_the_other_at_once() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let (one, other) = two(&redis, &upstream, STRICT).await;
    for round in 1..=50 {
        let expected = format!("GET /items/1 #{round}");
        one.get("/items/1").await.assert_text(&expected);
        redis.holds(1).await;
        other.get("/items/1").await.assert_text(&expected).assert_hit();
        match round % 3 {
            0 => one.purge_tag("item:1").await,
            1 => drop(one.request("POST", "/items/1/sell").await.assert_status(200)),
            _ => drop(one.request("PURGE", "/items/*").await.assert_status(200)),
        }
        redis.flush_responses().await;
    }
}

#[tokio::test]
async fn bounded_a_purge_wakes_the_other_long_before_its_time() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let (one, other) = two(&redis, &upstream, BOUNDED).await;
    other.listens(&redis).await;
    let began = Instant::now();
    for round in 1..=ROUNDS {
        let new = format!("version {round}");
        upstream.on("/items/1", Answer::ok(new.clone()));
        one.purge_tag("items").await;
        other.answers("/items/1", &new).await;
        // Its fetch just before it heard of the purge is purged, too.
        other.has("/items/1").await;
        other.get("/items/1").await.assert_text(&new);
    }
    // The timer alone would take half a second each time.
    assert!(began.elapsed() < Duration::from_millis(250) * ROUNDS, "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_replica_that_took_a_purge_holds_to_it_at_once() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let (one, _) = two(&redis, &upstream, BOUNDED).await;
    for round in 1..=20 {
        one.get("/items/1").await.assert_text(&format!("GET /items/1 #{round}")).assert_stored();
        one.get("/items/1").await.assert_hit();
        one.request("POST", "/items/1/sell").await.assert_status(200);
    }
}

#[tokio::test]
async fn a_slow_miss_purged_by_another_replica_is_not_served() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let (one, other) = two(&redis, &upstream, STRICT).await;
    for (case, tag) in ["items", "item:1", "kind:book"].into_iter().enumerate() {
        upstream.once("/items/1", Answer::ok("old").header("x-kind", "book"));
        let held = upstream.hold("/items/1");
        let slow = other.get("/items/1").spawn();
        held.arrived().await;
        one.purge_tag(tag).await;
        held.release();
        // It was asked for before the purge, so it may have the old data; nobody else may.
        slow.await.unwrap().assert_text("old");
        upstream.once("/items/1", Answer::ok("new").header("x-kind", "book"));
        let replicas = if case % 2 == 0 { [&one, &other] } else { [&other, &one] };
        for replica in replicas {
            replica.get("/items/1").await.assert_text("new");
        }
        one.purge_tag(tag).await;
    }
}

#[tokio::test]
async fn nobody_joins_a_fetch_that_the_other_replica_has_purged() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let (one, other) = two(&redis, &upstream, STRICT).await;
    upstream.once("/items/1", Answer::ok("old"));
    let held = upstream.hold("/items/1");
    let slow = other.get("/items/1").spawn();
    held.arrived().await;
    one.purge_tag("item:1").await;
    upstream.on("/items/1", Answer::ok("new"));
    let follower = other.get("/items/1").spawn();
    held.release();
    slow.await.unwrap().assert_text("old");
    follower.await.unwrap().assert_text("new");
}

#[tokio::test]
async fn a_soft_purge_makes_stale_for_all_replicas() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let (one, other) = two(&redis, &upstream, STRICT).await;
    upstream.on("/items/1", Answer::ok("v1").header("etag", "\"v1\""));
    one.get("/items/1").await.assert_stored();
    redis.holds(1).await;
    other.get("/items/1").await.assert_hit();
    let soft = one.request("PURGE", "/items/1").header("purge-mode", "soft");
    soft.await.assert_status(200);
    upstream.once("/items/1", Answer::status(304).header("etag", "\"v1\""));
    other.get("/items/1").await.assert_text("v1").assert_fwd("stale");
    assert_eq!(upstream.last("/items/1").header("if-none-match").as_deref(), Some("\"v1\""));
    other.get("/items/1").await.assert_hit();
}

/// R23
#[tokio::test]
async fn two_namespaces_in_one_redis_know_nothing_of_each_other() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let shop = Replica::start(&redis, &upstream, "namespace: shop, max_lag: 0s, timeout: 5s", ROUTES).await;
    let test =
        Replica::start(&redis, &upstream, "namespace: shop-test, max_lag: 0s, timeout: 5s", ROUTES).await;
    shop.get("/items/1").await.assert_text("GET /items/1 #1");
    shop.get("/items/1").await.assert_hit();
    test.get("/items/1").await.assert_text("GET /items/1 #2");
    test.get("/items/1").await.assert_hit();
    test.request("PURGE", "/*").await.assert_status(200);
    shop.get("/items/1").await.assert_hit();
    test.get("/items/1").await.assert_text("GET /items/1 #3");
}

#[tokio::test]
async fn databases_of_one_redis_are_apart_as_well() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let other = redis.url().replace("/0", "/3");
    let zero = Replica::start(&redis, &upstream, STRICT, ROUTES).await;
    let three = Replica::start_alone(&other, &upstream, STRICT, ROUTES);
    three.is_connected().await;
    zero.get("/items/1").await.assert_text("GET /items/1 #1");
    three.get("/items/1").await.assert_text("GET /items/1 #2");
    three.purge_tag("items").await;
    zero.get("/items/1").await.assert_hit();
    three.get("/items/1").await.assert_text("GET /items/1 #3");
}

#[tokio::test]
async fn responses_for_another_credential_stay_apart() {
    let routes = "routes: [{path: /me, ttl: 60s, per: authorization}]";
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let one = Replica::start(&redis, &upstream, STRICT, routes).await;
    let other = Replica::start(&redis, &upstream, STRICT, routes).await;
    one.get("/me").header("authorization", "Bearer ann").await.assert_text("GET /me #1").assert_stored();
    redis.holds(1).await;
    other.get("/me").header("authorization", "Bearer ann").await.assert_text("GET /me #1").assert_hit();
    other.get("/me").header("authorization", "Bearer bob").await.assert_text("GET /me #2");
    assert_eq!(upstream.last("/me").header("host").as_deref(), Some(HOST));
}
