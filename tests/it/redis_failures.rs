//! Redis fails in every way it can while replicas go on: no request fails for it, nothing purged comes back, and hits
//! are there again when it is.

use std::time::Instant;

use crate::support::{Answer, ITEMS, LONGEST, Redis, Replica, Upstream, eventually, timed};

const BOUNDED: &str = "max_lag: 200ms";
/// Longer than any test: the first tier answers while Redis is unavailable.
const LOOSE: &str = "max_lag: 10m";
const STRICT: &str = "max_lag: 0s";

/// R01
#[tokio::test]
async fn redis_may_come_later() {
    let (mut redis, upstream) = (Redis::start().await, Upstream::start());
    redis.kill();
    let one = Replica::start_alone(&redis.url(), &upstream, STRICT, ITEMS);
    for text in ["GET /items/1 #1", "GET /items/1 #2"] {
        let reply = one.get("/items/1").await.assert_text(text).assert_fwd("miss");
        reply.assert_detail("store-unavailable");
    }
    let ready = one.admin.get("/readyz").await.assert_status(200).json();
    assert_eq!(ready["status"], "degraded");
    assert_ne!(ready["redis"]["breaker"], "closed");
    // It says what is wrong, and not only that no answer came.
    eventually("the reason", || async {
        let health = one.admin.get("/healthz").await.json();
        health["redis"]["trouble"].as_str().filter(|why| why.contains("refused")).map(drop)
    })
    .await;
    eventually("the log says so", || async { one.log().contains("Redis is unavailable").then_some(()) })
        .await;
    redis.restart().await;
    one.is_connected().await;
    one.has("/items/1").await;
    let health = one.admin.get("/healthz").await.assert_status(200).json();
    assert_eq!((&health["status"], &health["redis"]["breaker"]), (&"ok".into(), &"closed".into()));
    assert_eq!(health["redis"]["connections"], 1);
}

/// R01: a crowd is one fetch at a time for each key, also without Redis.
#[tokio::test]
async fn without_redis_a_crowd_is_still_one() {
    let (mut redis, upstream) = (Redis::start().await, Upstream::start());
    redis.kill();
    for store in [BOUNDED, STRICT] {
        let one = Replica::start_alone(&redis.url(), &upstream, store, ITEMS);
        let before = upstream.count("/items/1");
        let held = upstream.hold("/items/1");
        let leader = one.get("/items/1").spawn();
        held.arrived().await;
        // Requests from now on may not have the earlier fetch, but they share the next one.
        let crowd: Vec<_> = (0..50).map(|_| one.get("/items/1").spawn()).collect();
        one.metric_becomes("larder_followers", 50.0).await;
        let next = upstream.hold("/items/1");
        held.release();
        leader.await.unwrap().assert_status(200);
        next.arrived().await;
        next.release();
        for follower in crowd {
            follower.await.unwrap().assert_status(200);
        }
        assert!(upstream.count("/items/1") - before <= 4, "{}", upstream.count("/items/1") - before);
    }
}

/// No await on the hit path.
#[tokio::test]
async fn bounded_a_hit_needs_no_redis() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let one = Replica::start(&redis, &upstream, LOOSE, ITEMS).await;
    one.get("/items/1").await.assert_stored();
    redis.holds(1).await;
    redis.stop();
    for _ in 0..200 {
        one.get("/items/1").await.assert_hit();
    }
    redis.cont();
}

/// R05, X12: the bound is measured, and not hoped for.
#[tokio::test]
async fn bounded_hits_end_when_nothing_was_confirmed_for_max_lag() {
    let (redis, _upstream, [one, other]) = Replica::two(BOUNDED, ITEMS).await;
    one.get("/items/1").await.assert_stored();
    redis.holds(1).await;
    other.has("/items/1").await;
    redis.stop();
    one.is_cut_off().await;
    let misses = "larder_redis_up";
    other.metric_becomes(misses, 0.0).await;
    eventually("the view is too old", || async { (!other.get("/items/1").await.is_hit()).then_some(()) })
        .await;
    // Once it is, it stays so.
    for _ in 0..20 {
        let reply = timed(other.get("/items/1")).await.assert_status(200);
        assert!(!reply.is_hit());
    }
    redis.cont();
    other.has("/items/1").await;
}

/// `on_store_loss: {serve: …}`
#[tokio::test]
async fn the_first_tier_goes_on_where_it_may() {
    let (mut redis, upstream) = (Redis::start().await, Upstream::start());
    let store = "max_lag: 20ms, on_store_loss: {serve: 10m}";
    let one = Replica::start(&redis, &upstream, store, ITEMS).await;
    one.get("/items/1").await.assert_stored();
    redis.kill();
    one.is_cut_off().await;
    for _ in 0..20 {
        one.get("/items/1").await.assert_hit();
    }
    // Responses fetched now are stored as well, and purges made here hold here.
    one.get("/items/2").await.assert_stored();
    one.get("/items/2").await.assert_hit();
    one.request("POST", "/items/1/sell").await.assert_status(200);
    one.get("/items/1").await.assert_text("GET /items/1 #2");
    one.get("/items/1").await.assert_text("GET /items/1 #3");
    one.get("/items/2").await.assert_hit();
}

/// R05: a hang, under both modes; writes go through, a PURGE is refused, and both hold when it is over.
#[tokio::test]
async fn a_hanging_redis_fails_no_request_and_loses_no_purge() {
    for store in [BOUNDED, STRICT] {
        let (redis, upstream, [one, other]) = Replica::two(store, ITEMS).await;
        for item in ["/items/1", "/items/2", "/items/3"] {
            upstream.on(item, Answer::ok("old"));
            one.get(item).await.assert_stored();
        }
        redis.holds(3).await;
        other.has("/items/1").await;
        redis.stop();
        one.is_cut_off().await;
        upstream.on("/items/1", Answer::ok("new"));
        upstream.on("/items/2", Answer::ok("new"));
        timed(one.request("POST", "/items/1/sell")).await.assert_status(200);
        timed(one.request("PURGE", "/items/2")).await.assert_status(503).assert_header("retry-after", "1");
        for item in ["/items/1", "/items/2"] {
            timed(one.get(item)).await.assert_text("new");
        }
        assert!(one.metric("larder_purges_waiting").await > 0.0);
        redis.cont();
        one.is_connected().await;
        one.metric_becomes("larder_purges_waiting", 0.0).await;
        for item in ["/items/1", "/items/2"] {
            one.get(item).await.assert_text("new");
            // It is bounded, so the other may be a moment behind.
            other.answers(item, "new").await;
        }
        one.has("/items/1").await;
        other.has("/items/3").await.assert_text("old");
    }
}

/// R05: a fill that was on its way when Redis hung changes nothing when it arrives late.
#[tokio::test]
async fn what_was_written_late_is_no_more_valid_than_it_was() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let one = Replica::start(&redis, &upstream, LOOSE, ITEMS).await;
    let other = Replica::start(&redis, &upstream, STRICT, ITEMS).await;
    upstream.on("/items/1", Answer::ok("old"));
    redis.stop();
    one.get("/items/1").await.assert_text("old");
    redis.cont();
    other.is_connected().await;
    one.is_connected().await;
    upstream.on("/items/1", Answer::ok("new"));
    other.request("POST", "/items/1/sell").await.assert_status(200);
    other.get("/items/1").await.assert_text("new");
    other.has("/items/1").await.assert_text("new");
}

/// Killed and started empty (R28), under both modes.
#[tokio::test]
async fn killed_and_empty_it_is_filled_again() {
    for store in [BOUNDED, STRICT] {
        let (mut redis, upstream, [one, other]) = Replica::two(store, ITEMS).await;
        one.get("/items/1").await.assert_stored();
        redis.holds(1).await;
        redis.kill();
        for replica in [&one, &other] {
            timed(replica.get("/items/1")).await.assert_status(200);
        }
        one.is_cut_off().await;
        upstream.on("/items/1", Answer::ok("new"));
        timed(one.request("POST", "/items/1/sell")).await.assert_status(200);
        timed(one.get("/items/1")).await.assert_text("new");
        redis.restart().await;
        let began = Instant::now();
        for replica in [&one, &other] {
            replica.is_connected().await;
            replica.answers("/items/1", "new").await;
            replica.has("/items/1").await.assert_text("new");
        }
        assert!(began.elapsed() < LONGEST, "{:?}", began.elapsed());
    }
}

/// R12
#[tokio::test]
async fn flushed_nothing_stored_before_is_served_again() {
    for store in [BOUNDED, STRICT] {
        let (redis, upstream, [one, other]) = Replica::two(store, ITEMS).await;
        one.get("/items/1").await.assert_stored();
        one.has("/items/1").await;
        // A slow miss from before, whose purge is lost with the index.
        upstream.once("/items/2", Answer::ok("old"));
        let held = upstream.hold("/items/2");
        let slow = other.get("/items/2").spawn();
        held.arrived().await;
        upstream.on("/items/2", Answer::ok("new"));
        one.purge_tag("item:2").await;
        let indexes = one.metric("larder_purge_indexes_total").await;
        redis.flush().await;
        if store == BOUNDED {
            one.metric_becomes("larder_purge_indexes_total", indexes + 1.0).await;
            other.metric_becomes("larder_purge_indexes_total", indexes + 1.0).await;
        }
        one.get("/items/1").await.assert_text("GET /items/1 #2");
        held.release();
        slow.await.unwrap().assert_text("old");
        for replica in [&one, &other] {
            replica.get("/items/2").await.assert_text("new");
            assert_eq!(replica.metric("larder_purge_indexes_total").await, indexes + 1.0);
        }
        one.has("/items/1").await;
    }
}

/// R11: the index alone is evicted, and responses stay.
#[tokio::test]
async fn without_its_index_no_response_is_valid() {
    let (redis, upstream, [one, other]) = Replica::two(STRICT, ITEMS).await;
    upstream.on("/items/1", Answer::ok("old"));
    one.get("/items/1").await.assert_stored();
    redis.holds(1).await;
    upstream.on("/items/1", Answer::ok("new"));
    one.purge_tag("item:1").await;
    assert_eq!(redis.command(&["UNLINK", "{larder}:index"]).await, "1");
    other.get("/items/1").await.assert_text("new");
    one.get("/items/1").await.assert_text("new");
}

/// R27: also the purges of a replica that nobody else heard of.
#[tokio::test]
async fn an_old_snapshot_brings_nothing_back() {
    for store in [BOUNDED, STRICT] {
        let (mut redis, upstream, [one, other]) = Replica::two(store, ITEMS).await;
        upstream.on("/items/1", Answer::ok("old"));
        one.get("/items/1").await.assert_stored();
        redis.holds(1).await;
        other.has("/items/1").await;
        assert_eq!(redis.command(&["SAVE"]).await, "OK");
        upstream.on("/items/1", Answer::ok("new"));
        one.purge_tag("item:1").await;
        redis.restart().await;
        assert_eq!(redis.responses().await.len(), 1, "the old response is there again");
        for replica in [&one, &other] {
            replica.answers("/items/1", "new").await;
            replica.is_connected().await;
            replica.has("/items/1").await.assert_text("new");
        }
        let late = Replica::start(&redis, &upstream, store, ITEMS).await;
        late.get("/items/1").await.assert_text("new");
    }
}

/// R10
#[tokio::test]
async fn full_it_takes_no_response_and_every_purge() {
    let (redis, upstream, [one, other]) = Replica::two(STRICT, ITEMS).await;
    upstream.on("/items/1", Answer::ok("old"));
    one.get("/items/1").await.assert_stored();
    redis.holds(1).await;
    other.has("/items/1").await;
    redis.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert!(redis.command(&["SET", "x", "y"]).await.starts_with("-OOM"));
    upstream.on("/items/1", Answer::ok("new"));
    one.purge_tag("item:1").await;
    other.get("/items/1").await.assert_text("new");
    one.get("/items/2").await.assert_status(200);
    one.metric_becomes("larder_redis_commands_total{command=\"set\",result=\"failed\"}", 1.0).await;
    // The first tier goes on.
    one.get("/items/2").await.assert_hit();
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    other.get("/items/3").await;
    redis.holds(2).await;
}
