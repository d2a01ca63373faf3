//! `refresh_ahead`: what is used is fetched anew before its end, and no hit waits for that.

use crate::support::{Answer, Larder, Redis, Replica, Upstream, eventually};

const ROUTES: &str = "
routes:
  - path: /ahead
    ttl: 100s
    refresh_ahead: 30s
    tags: [ahead]
  - path: /short
    ttl: 20s
    refresh_ahead: 5m
  - path: /plain
    ttl: 100s
";

/// Asks until the answer is this one, each time from the store.
async fn becomes(larder: &Larder, target: &str, text: &str) {
    eventually(text, || async { (larder.get(target).await.assert_hit().text() == text).then_some(()) }).await;
}

#[tokio::test]
async fn what_is_asked_for_with_little_left_is_fetched_anew_behind() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    for target in ["/ahead", "/plain"] {
        larder.get(target).await.assert_stored();
    }
    larder.after(69);
    larder.get("/ahead").await.assert_hit();
    assert_eq!(upstream.count("/ahead"), 1);
    larder.after(5);
    // The one who sets it off gets what is there.
    larder.get("/ahead").await.assert_hit().assert_text("GET /ahead #1");
    becomes(&larder, "/ahead", "GET /ahead #2").await;
    assert_eq!(larder.get("/ahead").await.remaining_ttl(), 100);
    larder.get("/plain").await.assert_hit().assert_text("GET /plain #1");
    assert_eq!(upstream.total(), 3);
    assert_eq!(larder.metric("larder_refreshed_ahead_total").await, 1.0);
}

#[tokio::test]
async fn what_nobody_asks_for_again_ends_as_it_would() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/ahead").await.assert_stored();
    larder.after(101);
    assert!(!larder.get("/ahead").await.is_hit());
    assert_eq!(upstream.count("/ahead"), 2);
}

#[tokio::test]
async fn a_crowd_sets_off_one_fetch_and_waits_for_none() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/ahead").await;
    larder.after(80);
    let held = upstream.hold_every("/ahead");
    for _ in 0..20 {
        larder.get("/ahead").await.assert_hit().assert_text("GET /ahead #1");
    }
    held.arrived().await;
    assert_eq!(upstream.count("/ahead"), 2);
}

#[tokio::test]
async fn short_lifetimes_are_refreshed_in_their_second_half() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/short").await;
    larder.after(9);
    larder.get("/short").await.assert_hit();
    assert_eq!(upstream.count("/short"), 1);
    larder.after(2);
    larder.get("/short").await.assert_hit();
    becomes(&larder, "/short", "GET /short #2").await;
}

#[tokio::test]
async fn what_may_not_be_stored_takes_the_place_of_nothing() {
    for bad in [
        Answer::status(500),
        Answer::status(404),
        Answer::ok("mine").header("set-cookie", "a=b"),
        Answer::ok("secret").header("cache-control", "no-store"),
        Answer::hang_up(),
        Answer::ok("cut").cut_after(1),
    ] {
        let upstream = Upstream::start();
        let larder = Larder::with(ROUTES, &upstream);
        larder.get("/ahead").await;
        upstream.on("/ahead", bad);
        larder.after(80);
        larder.get("/ahead").await.assert_hit();
        eventually("it is tried", || async { (upstream.count("/ahead") >= 2).then_some(()) }).await;
        for _ in 0..5 {
            larder.get("/ahead").await.assert_hit().assert_text("GET /ahead #1");
        }
        let tried = upstream.count("/ahead");
        larder.after(19);
        larder.get("/ahead").await.assert_hit().assert_text("GET /ahead #1");
        assert!(tried <= 3, "{tried} times");
    }
}

#[tokio::test]
async fn a_failed_refresh_is_retried_after_half_of_the_rest() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/ahead").await;
    larder.after(80);
    upstream.on("/ahead", Answer::status(500));
    let is_tried = |times: usize| {
        let upstream = &upstream;
        async move { eventually("a try", || async { (upstream.count("/ahead") == times).then_some(()) }).await }
    };
    larder.get("/ahead").await.assert_hit();
    is_tried(2).await;
    larder.after(9);
    larder.get("/ahead").await.assert_hit();
    larder.get("/plain").await;
    assert_eq!(upstream.count("/ahead"), 2);
    upstream.on("/ahead", Answer::numbered);
    larder.after(2);
    larder.get("/ahead").await.assert_hit();
    becomes(&larder, "/ahead", "GET /ahead #3").await;
}

#[tokio::test]
async fn a_purge_while_it_is_fetched_anew_kills_what_comes() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/ahead").await;
    larder.after(80);
    let held = upstream.hold("/ahead");
    larder.get("/ahead").await.assert_hit();
    held.arrived().await;
    larder.request("PURGE", "/x").header("cache-tag", "ahead").await.assert_status(200);
    held.release();
    larder.get("/ahead").await.assert_text("GET /ahead #3");
    assert_eq!(larder.get("/ahead").await.assert_hit().text(), "GET /ahead #3");
}

#[tokio::test]
async fn what_one_replica_has_renewed_the_others_take_from_redis() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let routes = "routes: [{path: /ahead, ttl: 10s, refresh_ahead: 5s}]";
    let one = Replica::start(&redis, &upstream, "timeout: 5s, max_lag: 5s", routes).await;
    let other = Replica::start(&redis, &upstream, "timeout: 5s, max_lag: 5s", routes).await;
    one.get("/ahead").await.assert_stored();
    redis.holds(1).await;
    other.get("/ahead").await.assert_hit();
    one.answers("/ahead", "GET /ahead #2").await;
    redis.has_text("GET /ahead #2").await;
    // This one holds the old response still; it takes the new one without asking the upstream.
    eventually("it has the new one", || async {
        let reply = other.get("/ahead").await;
        reply.is_hit().then_some(())?;
        (reply.text() == "GET /ahead #2").then_some(())
    })
    .await;
    assert_eq!(upstream.count("/ahead"), 2);
}
