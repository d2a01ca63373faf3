//! Rules have a place in the order of purges: what one configuration calls `courses` another may call `catalog`, in a
//! reload and in a rolling deployment, and no acknowledged write is missed for that.

use crate::support::{Answer, HOST, Larder, Process, Redis, Replica, Upstream};

const STRICT: &str = "max_lag: 0s, timeout: 5s";
const BOUNDED: &str = "max_lag: 2s, timeout: 5s";

fn routes(tag: &str, ttl: &str) -> String {
    format!(
        "routes:\n  - {{path: /courses, ttl: {ttl}, tags: [{tag}]}}\n  - {{path: \"/courses/{{id}}\", ttl: {ttl}, tags: [{tag}, \"{tag}:{{id}}\"]}}\n"
    )
}

async fn reads(larder: &Larder, text: &str) {
    larder.request("GET", "/courses").header("host", HOST).await.assert_text(text);
}

/// A write is under way while the rules change, and what is fetched under the new ones is from before it.
async fn a_reload_under_a_write_misses_nothing(larder: &Larder, upstream: &Upstream, more: &str) {
    upstream.on("/courses", Answer::ok("old"));
    let held = upstream.hold("/courses/7");
    let write = larder.request("PUT", "/courses/7").header("host", HOST).spawn();
    held.arrived().await;
    larder.reconfigure(&format!("{more}{}", routes("catalog", "1h"))).await;
    for _ in 0..3 {
        reads(larder, "old").await;
    }
    upstream.on("/courses", Answer::ok("new"));
    held.release();
    write.await.unwrap().assert_status(200);
    reads(larder, "new").await;
}

#[tokio::test]
async fn a_reload_under_a_write_misses_nothing_in_the_embedded_store() {
    let upstream = Upstream::start();
    let larder = Larder::with(&routes("courses", "1h"), &upstream);
    a_reload_under_a_write_misses_nothing(&larder, &upstream, "").await;
}

#[tokio::test]
async fn a_reload_under_a_write_misses_nothing_over_redis() {
    for guard in [true, false] {
        let (redis, upstream) = (Redis::start().await, Upstream::start());
        let defaults = format!("defaults: {{guard: {guard}}}\n");
        let rules = format!("{defaults}{}", routes("courses", "1h"));
        let replica = Replica::start(&redis, &upstream, STRICT, &rules).await;
        let more = format!("store: {{redis: \"{}\", {STRICT}}}\n{defaults}", redis.url());
        a_reload_under_a_write_misses_nothing(&replica, &upstream, &more).await;
    }
}

#[tokio::test]
async fn in_a_rolling_deployment_each_write_is_seen_under_both_rules() {
    for store in [STRICT, BOUNDED] {
        let (redis, upstream) = (Redis::start().await, Upstream::start());
        let old = Replica::start(&redis, &upstream, store, &routes("courses", "1h")).await;
        let new = Replica::start(&redis, &upstream, store, &routes("catalog", "1h")).await;
        for (round, writer) in [&old, &new, &old, &new].into_iter().enumerate() {
            upstream.on("/courses", Answer::ok(round.to_string()));
            old.request("PURGE", "/courses").header("purge-wait", "applied").await.assert_status(200);
            for replica in [&old, &new] {
                replica.has("/courses").await.assert_text(&round.to_string());
            }
            upstream.on("/courses", Answer::ok(format!("{round} changed")));
            let written = writer.request("PUT", "/courses/7").await.assert_status(200);
            let position = written.header("larder-position").expect("a position");
            for replica in [&old, &new] {
                let read = replica.get("/courses").header("larder-position", &position).await;
                read.assert_text(&format!("{round} changed"));
            }
        }
        // Once the old ones have gone, what they stored is not served; nor is it when they come back.
        upstream.on("/courses", Answer::ok("by the old"));
        old.request("PUT", "/courses/7").await.assert_status(200);
        old.has("/courses").await.assert_text("by the old");
        old.ends().await;
        upstream.on("/courses", Answer::ok("by the new"));
        new.request("PUT", "/courses/7").await.assert_status(200);
        new.has("/courses").await.assert_text("by the new");
        let back = Replica::start(&redis, &upstream, store, &routes("courses", "1h")).await;
        back.get("/courses").await.assert_text("by the new");
    }
}

#[tokio::test]
async fn a_reload_without_new_tags_or_purges_costs_no_hit() {
    let upstream = Upstream::start();
    let larder = Larder::with(&routes("courses", "1h"), &upstream);
    larder.get("/courses").await;
    larder.get("/courses").await.assert_hit();
    larder.reconfigure(&routes("courses", "2h")).await;
    larder.get("/courses").await.assert_hit();
    let more = "  - {path: /users, ttl: 1h}\n  - {path: \"/users/{id}\", ttl: 1h}\n";
    larder.reconfigure(&format!("{}{more}", routes("courses", "2h"))).await;
    larder.get("/courses").await.assert_hit();
    // Another name and back: what was not written in between is still there.
    larder.reconfigure(&routes("catalog", "1h")).await;
    larder.get("/courses/8").await;
    larder.reconfigure(&routes("courses", "1h")).await;
    larder.get("/courses").await.assert_hit();
    larder.reconfigure(&routes("catalog", "1h")).await;
    larder.request("PUT", "/courses/7").header("host", HOST).await.assert_status(200);
    larder.reconfigure(&routes("courses", "1h")).await;
    larder.get("/courses").await.assert_fwd("uri-miss");

    let redis = Redis::start().await;
    let one = Replica::start(&redis, &upstream, STRICT, &routes("courses", "1h")).await;
    one.has("/courses").await;
    redis.holds(1).await;
    one.ends().await;
    let next = Replica::start(&redis, &upstream, STRICT, &routes("courses", "1h")).await;
    next.get("/courses").await.assert_hit();
}

/// A replica with other rules joins while a guarded write is under way, whose replica dies then.
#[tokio::test]
async fn a_write_under_way_reaches_the_rules_of_a_replica_that_joins() {
    for store in [STRICT, BOUNDED] {
        let (redis, upstream) = (Redis::start().await, Upstream::start());
        let rules = |tag| format!("defaults: {{guard: true}}\n{}", routes(tag, "1h"));
        let yaml = format!("store: {{redis: \"{}\", {store}}}\n{}", redis.url(), rules("courses"));
        let mut writer = Process::with(&yaml, &upstream).await;
        writer.is_connected().await;
        upstream.on("/courses", Answer::ok("old"));
        let held = upstream.hold("/courses/7");
        let write = tokio::spawn(writer.request("PUT", "/courses/7").header("host", HOST).attempt());
        held.arrived().await;
        let joined = Replica::start(&redis, &upstream, store, &rules("catalog")).await;
        for _ in 0..3 {
            joined.get("/courses").await.assert_text("old").assert_fwd("uri-miss");
        }
        upstream.on("/courses", Answer::ok("new"));
        writer.signal("KILL");
        writer.ended().await;
        assert!(write.await.unwrap().is_err());
        for _ in 0..3 {
            joined.get("/courses").await.assert_text("new");
        }
    }
}

/// The rules change while the content of the write arrives, so its mark is recorded after that.
#[tokio::test]
async fn a_mark_by_former_rules_reaches_what_is_stored_under_the_new() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let rules = |tag| format!("defaults: {{guard: true}}\n{}", routes(tag, "1h"));
    let replica = Replica::start(&redis, &upstream, STRICT, &rules("courses")).await;
    upstream.on("/courses", Answer::ok("old"));
    let held = upstream.hold("/courses/7");
    let mut write = replica.raw().await;
    let head = format!(
        "PUT /courses/7 HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n"
    );
    assert!(write.send(head).await.head().await.starts_with("HTTP/1.1 100"));
    let yaml = format!("store: {{redis: \"{}\", {STRICT}}}\n{}", redis.url(), rules("catalog"));
    replica.reconfigure(&yaml).await;
    write.send("ab").await;
    held.arrived().await;
    for _ in 0..3 {
        replica.get("/courses").await.assert_text("old").assert_fwd("uri-miss");
    }
    upstream.on("/courses", Answer::ok("new"));
    held.release();
    assert_eq!(write.status().await, 200);
    replica.has("/courses").await.assert_text("new");
}

/// Its mark reaches them, and goes with the write.
#[tokio::test]
async fn a_write_that_ends_hides_nothing_under_rules_that_joined() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let rules = |tag| format!("defaults: {{guard: true}}\n{}", routes(tag, "1h"));
    let writer = Replica::start(&redis, &upstream, STRICT, &rules("courses")).await;
    let held = upstream.hold("/courses/7");
    let write = writer.request("PUT", "/courses/7").spawn();
    held.arrived().await;
    let joined = Replica::start(&redis, &upstream, STRICT, &rules("catalog")).await;
    joined.get("/courses").await.assert_fwd("uri-miss");
    joined.get("/courses").await.assert_fwd("uri-miss");
    held.release();
    write.await.unwrap().assert_status(200);
    joined.has("/courses").await;
    joined.get("/courses").await.assert_hit();
}

/// One replica keeps every query apart, and for the other all with the same page are one.
#[tokio::test]
async fn a_purged_url_is_gone_under_rules_that_select_its_query() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let plain = "routes:\n  - {path: /courses, ttl: 1h}\n";
    let selecting = "routes:\n  - {path: /courses, ttl: 1h, query: [page]}\n";
    let one = Replica::start(&redis, &upstream, STRICT, plain).await;
    let other = Replica::start(&redis, &upstream, STRICT, selecting).await;
    upstream.on("/courses", Answer::ok("old"));
    let url = "/courses?page=1&from=mail";
    for target in [url, "/courses?page=2"] {
        other.has(target).await.assert_text("old");
    }
    upstream.on("/courses", Answer::ok("new"));
    one.request("PURGE", url).await.assert_status(200);
    other.get(url).await.assert_text("new");
    // By its own rules the URL alone.
    other.has(url).await;
    other.has("/courses?page=2").await;
    other.request("PURGE", url).await.assert_status(200);
    other.get(url).await.assert_fwd("uri-miss");
    other.get("/courses?page=2").await.assert_hit();
}
