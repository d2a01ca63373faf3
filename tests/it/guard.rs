//! `guard: true`: a write is forwarded only once every replica will see that it is under way; so neither a crash nor the
//! loss of Redis in the middle of it leaves anything stale.

use std::time::Duration;

use larder::clock::Clock;

use crate::support::{Answer, HOST, Line, Process, Redis, Relay, Replica, Upstream, eventually};

const ROUTES: &str = "routes: [{path: /a, ttl: 1h, tags: [a]}, {path: /b, ttl: 1h, tags: [b]}, {path: /w, purges: [a], guard: true}]";

/// Strict, with a deadline that a busy machine keeps.
const STORE: &str = "max_lag: 0s, timeout: 2s";

#[tokio::test]
async fn a_guarded_write_is_not_forwarded_without_redis() {
    let mut redis = Redis::start().await;
    let upstream = Upstream::start();
    let routes = format!("{ROUTES}\ndefaults: {{guard: false}}");
    let replica = Replica::start(&redis, &upstream, STORE, &routes).await;
    redis.kill();
    replica.is_cut_off().await;
    let refused = replica.request("POST", "/w").body("new").await.assert_status(503);
    refused.assert_header("retry-after", "1").assert_header("larder-position", None);
    assert_eq!(upstream.count("/w"), 0);
    // An unguarded write is forwarded; its answer does not claim that the purge is recorded.
    replica.request("POST", "/b").await.assert_status(200).assert_header("larder-position", None);
    replica.get("/a").await.assert_status(200);
}

#[tokio::test]
async fn writes_are_guarded_by_default_where_max_lag_is_zero() {
    let mut redis = Redis::start().await;
    let upstream = Upstream::start();
    let routes = "routes: [{path: /a, ttl: 1h}, {path: /b, guard: false}]";
    let strict = Replica::start(&redis, &upstream, STORE, routes).await;
    let bounded = Replica::start(&redis, &upstream, "max_lag: 1s", routes).await;
    redis.kill();
    strict.is_cut_off().await;
    bounded.is_cut_off().await;
    strict.request("POST", "/a").await.assert_status(503);
    strict.request("POST", "/b").await.assert_status(200);
    bounded.request("POST", "/a").await.assert_status(200);
    strict.get("/a").await.assert_status(200);
}

#[tokio::test]
async fn a_guarded_write_in_progress_hides_its_targets() {
    let redis = Redis::start().await;
    let upstream = Upstream::start();
    let one = Replica::start(&redis, &upstream, STORE, ROUTES).await;
    let other = Replica::start(&redis, &upstream, STORE, ROUTES).await;
    for path in ["/a", "/b"] {
        one.get(path).await;
        other.has(path).await;
    }
    let held = upstream.hold("/w");
    let write = one.request("POST", "/w").spawn();
    held.arrived().await;
    for replica in [&one, &other] {
        replica.get("/a").await.assert_fwd("uri-miss");
        replica.get("/b").await.assert_hit();
    }
    held.release();
    let position = write.await.unwrap().assert_status(200).header("larder-position");
    assert!(position.is_some());
    for replica in [&one, &other] {
        replica.get("/a").await.assert_status(200);
        replica.has("/a").await;
    }
}

#[tokio::test]
async fn a_guarded_write_that_did_not_happen_purges_nothing() {
    let redis = Redis::start().await;
    let upstream = Upstream::start();
    upstream.on("/w", Answer::status(422));
    let replica = Replica::start(&redis, &upstream, STORE, ROUTES).await;
    replica.get("/a").await.assert_text("GET /a #1");
    replica.request("POST", "/w").await.assert_status(422);
    // The mark is lifted behind the response; what was stored is removed where a reader finds it dead.
    let reply = replica.has("/a").await;
    assert!(["GET /a #1", "GET /a #2", "GET /a #3"].contains(&reply.text()), "{reply}");
    assert_eq!(
        redis.command(&["ZSCAN", "{larder}:index", "0", "MATCH", "m*", "COUNT", "10000"]).await.trim(),
        "0"
    );
}

#[tokio::test]
async fn a_kill_between_change_and_purge_leaves_nothing_stale() {
    let redis = Redis::start().await;
    let upstream = Upstream::start();
    let other = Replica::start(&redis, &upstream, STORE, ROUTES).await;
    let yaml = format!("store: {{redis: \"{}\", {STORE}}}\n{ROUTES}", redis.url());
    let mut killed = Process::with(&yaml, &upstream).await;
    killed.is_connected().await;
    upstream.on("/a", Answer::ok("old"));
    other.has("/a").await.assert_text("old");
    let held = upstream.hold("/w");
    let write = tokio::spawn(killed.request("POST", "/w").header("host", HOST).attempt());
    held.arrived().await;
    upstream.on("/a", Answer::ok("new"));
    killed.signal("KILL");
    killed.ended().await;
    assert!(write.await.unwrap().is_err());
    other.get("/a").await.assert_text("new");
    other.get("/b").await;
    other.has("/b").await;
}

#[tokio::test]
async fn the_embedded_store_keeps_the_mark_as_well() {
    let upstream = Upstream::start();
    let larder = crate::support::Larder::with(ROUTES, &upstream);
    larder.get("/a").await;
    larder.get("/a").await.assert_hit();
    let held = upstream.hold("/w");
    let write = larder.request("POST", "/w").spawn();
    held.arrived().await;
    larder.get("/a").await.assert_fwd("uri-miss");
    held.release();
    write.await.unwrap().assert_status(200);
    larder.get("/a").await;
    larder.get("/a").await.assert_hit();
}

/// larder may have stood still since the mark was put: it is put again before the first byte of the write goes out.
#[tokio::test]
async fn a_short_intent_is_renewed_before_the_write_is_sent() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let line = Relay::to(redis.address()).await;
    let yaml = format!(
        "upstream: {{url: \"${{UPSTREAM}}\", connect_timeout: 1s, response_timeout: 1s}}\n\
         store: {{redis: \"{}\", max_lag: 0s, timeout: 10s}}\n{ROUTES}",
        line.url()
    );
    let replica = Replica::with(&yaml, &upstream, Clock::system());
    replica.is_connected().await;
    let purges = || replica.metric("larder_redis_commands_total{command=\"purge\",result=\"answered\"}");
    let before = purges().await;
    line.set(Line::Late(Duration::from_millis(1500)));
    let write = replica.request("POST", "/w").spawn();
    eventually("the mark came too late twice", || async { (purges().await >= before + 2.0).then_some(()) })
        .await;
    assert_eq!(upstream.count("/w"), 0);
    line.set(Line::Whole);
    write.await.unwrap().assert_status(200);
    assert_eq!(upstream.count("/w"), 1);
}

/// 202: the upstream has taken the write, and has not done it.
#[tokio::test]
async fn an_accepted_write_stays_in_doubt_for_a_while() {
    const ROUTES: &str =
        "routes: [{path: /a, ttl: 1h, tags: [a]}, {path: /w, purges: [a], accepted_settle: 20s}]";
    let upstream = Upstream::start();
    upstream.on("/w", Answer::status(202));
    upstream.on("/a", Answer::ok("old"));
    let larder = crate::support::Larder::with(ROUTES, &upstream);
    larder.request("POST", "/w").await.assert_status(202);
    for _ in 0..2 {
        larder.get("/a").await.assert_text("old").assert_fwd("uri-miss");
    }
    upstream.on("/a", Answer::ok("new"));
    larder.after(21).get("/a").await.assert_text("new");
    larder.get("/a").await.assert_text("new").assert_hit();
}
