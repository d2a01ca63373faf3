//! Nothing from before a purge comes back: not by validation, and not from a write that its early answer ended too soon.

use crate::support::{Answer, Larder, Received, Upstream, with_deadline};

const YAML: &str = "
upstream: { url: '${UPSTREAM}', response_timeout: 5s }
routes:
  - path: /a
    ttl: 10s
    tags: [a]
";

/// A follower found it stale but valid, and waited for another's fetch while it was purged.
#[tokio::test]
async fn a_response_purged_while_waiting_is_not_validated() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    upstream.on("/a", Answer::ok("old").header("etag", "\"1\""));
    larder.get("/a").await.assert_stored();
    larder.after(11);

    // The leader's answer is for itself alone, so the follower will ask for itself.
    upstream.on("/a", |request: &Received| match request.header("if-none-match") {
        Some(_) if request.nth > 2 => Answer::status(304).header("etag", "\"1\""),
        _ if request.nth > 2 => Answer::ok("new").header("etag", "\"2\""),
        _ => Answer::ok("for one").header("set-cookie", "a=1"),
    });
    let held = upstream.hold("/a");
    let leader = larder.get("/a").spawn();
    held.arrived().await;
    let follower = larder.get("/a").spawn();
    larder.metric_becomes("larder_followers", 1.0).await;
    larder.request("PURGE", "/a").await.assert_status(200);
    held.release();
    leader.await.unwrap().assert_text("for one");
    follower.await.unwrap();
    assert_eq!(upstream.last("/a").header("if-none-match"), None, "the purged response was validated");
    larder.get("/a").await.assert_text("new");
}

/// The upstream answers before it has the whole write, and acts on it when it has.
#[tokio::test]
async fn a_write_that_was_answered_early_leaves_its_targets_in_doubt() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    upstream.take_over("/a", |mut wire| async move {
        if wire.head.method == "GET" {
            let _ = wire.write("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nold").await;
            return;
        }
        let _ = wire.read_chunk().await;
        let _ = wire.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        while !wire.read().await.is_empty() {}
    });
    let mut write = larder.raw().await;
    write.send("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n").await;
    assert_eq!(write.status().await, 200);
    // A response fetched now may be from before the write takes effect.
    larder.get("/a").await.assert_text("old");
    larder.get("/a").await.assert_fwd("uri-miss");
    larder.after(6);
    larder.get("/a").await.assert_stored();
    larder.get("/a").await.assert_hit();
    with_deadline("the end", async { drop(write) }).await;
}

/// While it is in doubt nothing is kept, and the first fetch is from before the others came; the next one is for all.
#[tokio::test]
async fn requests_for_a_target_in_doubt_share_a_later_fetch() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    upstream.once("/a", Answer::status(504));
    larder.request("POST", "/a").await.assert_status(504);

    let held = upstream.hold("/a");
    let crowd: Vec<_> = (0..20).map(|_| larder.get("/a").spawn()).collect();
    held.arrived().await;
    larder.metric_becomes("larder_followers", 19.0).await;
    let next = upstream.hold("/a");
    held.release();
    next.arrived().await;
    next.release();
    for reply in crowd {
        reply.await.unwrap().assert_status(200);
    }
    // The write, the first fetch, the next one, and a few for those who were late to be read; not one for each.
    assert!(upstream.count("/a") <= 10, "{}", upstream.count("/a"));
    larder.get("/a").await.assert_fwd("uri-miss");
    larder.after(6);
    larder.get("/a").await.assert_stored();
    larder.get("/a").await.assert_hit();
}

/// Two fetches side by side, of which the first to begin is the last to end.
#[tokio::test]
async fn a_slow_fetch_does_not_take_the_place_of_a_newer_one() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: /a, ttl: 60s, collapse: false}]", &upstream);
    let held = upstream.hold("/a");
    let slow = larder.get("/a").spawn();
    held.arrived().await;
    larder.after(1);
    larder.get("/a").await.assert_text("GET /a #2");
    held.release();
    slow.await.unwrap().assert_text("GET /a #1");
    larder.get("/a").await.assert_hit().assert_text("GET /a #2");
}
