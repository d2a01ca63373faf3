//! HEAD: answered by what GET stored, and what its own answer says of that (RFC 9111 §4.3.5).

use crate::support::{Answer, Larder, Upstream};

const A: &str = "routes: [{path: /a, ttl: 60s}]";

fn stored() -> Answer {
    Answer::ok("content").header("etag", "\"1\"").header("x-kept", "1").header("x-changed", "old")
}

#[tokio::test]
async fn an_answer_that_describes_what_is_stored_freshens_it() {
    let upstream = Upstream::start();
    upstream.once("/a", stored());
    upstream.once("/a", stored().header("x-changed", "new"));
    let larder = Larder::with(A, &upstream);
    larder.get("/a").await;
    larder.after(60);
    let head = larder.request("HEAD", "/a").await.assert_fwd("stale").assert_stored();
    assert_eq!(upstream.last("/a").method, "HEAD");
    head.assert_text("");
    let hit = larder.get("/a").await.assert_hit().assert_text("content").assert_header("x-kept", "1");
    assert!(hit.header("x-changed").is_some_and(|changed| changed.ends_with("new")), "{hit}");
    assert_eq!(hit.remaining_ttl(), 60);
}

#[tokio::test]
async fn a_head_answer_that_proves_nothing_leaves_it_stale() {
    for answer in [
        Answer::ok("content").header("etag", "\"2\""),
        Answer::ok("more content").header("etag", "\"1\""),
        Answer::ok("content"),
        Answer::ok("content")
            .header("etag", "\"1\"")
            .header("last-modified", "Thu, 20 Nov 2025 10:00:00 GMT"),
        Answer::ok("content").header("etag", "\"1\"").header("cache-control", "no-store"),
        Answer::status(404).header("etag", "\"1\""),
        Answer::status(500),
    ] {
        let upstream = Upstream::start();
        upstream.once("/a", stored());
        upstream.once("/a", answer.clone());
        let larder = Larder::with(A, &upstream);
        larder.get("/a").await;
        larder.after(60);
        larder.request("HEAD", "/a").await.assert_fwd("stale");
        larder.get("/a").await.assert_fwd("stale");
        assert_eq!(upstream.count("/a"), 3, "{answer:?}");
    }
}

#[tokio::test]
async fn a_head_answer_brings_back_nothing_purged() {
    let upstream = Upstream::start();
    upstream.on("/a", stored());
    let larder = Larder::with(A, &upstream);
    larder.get("/a").await;
    larder.request("PURGE", "/a").header("purge-mode", "soft").await.assert_status(200);
    larder.request("HEAD", "/a").await.assert_fwd("stale");
    larder.get("/a").await.assert_fwd("stale");
    larder.request("PURGE", "/a").await.assert_status(200);
    larder.request("HEAD", "/a").await.assert_fwd("uri-miss");
    larder.get("/a").await.assert_fwd("uri-miss");
    // Purged while HEAD is at the upstream.
    larder.after(60);
    let held = upstream.hold("/a");
    let head = larder.request("HEAD", "/a").spawn();
    held.arrived().await;
    larder.request("PURGE", "/a").await.assert_status(200);
    held.release();
    head.await.unwrap().assert_status(200);
    larder.get("/a").await.assert_fwd("uri-miss");
}

#[tokio::test]
async fn what_is_stored_stands_in_where_get_would_have_it_too() {
    let upstream = Upstream::start();
    upstream.once("/a", stored());
    upstream.once("/a", Answer::status(503));
    upstream.once("/a", Answer::raw("no HTTP"));
    let larder = Larder::with("routes: [{path: /a, ttl: 60s, stale_if_error: 60s}]", &upstream);
    larder.get("/a").await;
    larder.after(60);
    for _ in 0..2 {
        let head = larder.request("HEAD", "/a").await.assert_status(200).assert_detail("stale-if-error");
        head.assert_header("content-length", "7").assert_text("");
    }
    larder.after(60);
    upstream.once("/a", Answer::status(503));
    larder.request("HEAD", "/a").await.assert_status(503);
}
