//! Conditions: the upstream is asked whether what is stored still holds, and clients are told whether theirs does.

use crate::support::{Answer, Larder, Received, Upstream, eventually};

const A: &str = "routes: [{path: /a, ttl: 10s, stale_if_error: 60s, tags: [a]}]";

/// An upstream whose content is always the same, and that knows it.
fn unchanging(request: &Received) -> Answer {
    match request.header("if-none-match").as_deref() {
        Some("\"1\"") => Answer::status(304).header("etag", "\"1\"").header("x-new", "yes"),
        _ => Answer::ok("content").header("etag", "\"1\"").header("x-old", "yes"),
    }
}

#[tokio::test]
async fn a_304_freshens_what_is_stored() {
    let upstream = Upstream::start();
    upstream.on("/a", unchanging);
    let larder = Larder::with(A, &upstream);
    larder.get("/a").await.assert_fwd("uri-miss");
    larder.after(12);
    let validated = larder.get("/a").await.assert_status(200).assert_fwd("stale").assert_text("content");
    assert_eq!(validated.cache_status("fwd-status").as_deref(), Some("304"));
    validated.assert_header("x-old", "yes").assert_header("x-new", "yes");
    larder.after(9);
    let hit = larder.get("/a").await.assert_hit().assert_text("content");
    assert_eq!(hit.remaining_ttl(), 1);
    hit.assert_header("x-new", "yes").assert_header("age", "9");
    assert_eq!(upstream.count("/a"), 2);
}

#[tokio::test]
async fn a_crowd_is_served_by_one_validation() {
    let upstream = Upstream::start();
    upstream.on("/a", unchanging);
    let larder = Larder::with(A, &upstream);
    larder.get("/a").await;
    larder.after(12);
    let held = upstream.hold_every("/a");
    let crowd: Vec<_> = (0..30).map(|_| larder.get("/a").spawn()).collect();
    held.arrived().await;
    held.release();
    for reply in crowd {
        reply.await.unwrap().assert_status(200).assert_text("content");
    }
    assert_eq!(upstream.count("/a"), 2);
}

#[tokio::test]
async fn last_modified_serves_where_there_is_no_entity_tag() {
    let upstream = Upstream::start();
    let date = "Thu, 20 Nov 2025 11:00:00 GMT";
    upstream.once("/a", Answer::ok("content").header("last-modified", date));
    upstream.on("/a", Answer::status(304));
    let larder = Larder::with(A, &upstream);
    larder.get("/a").await;
    larder.after(12);
    larder.get("/a").await.assert_status(200).assert_text("content");
    assert_eq!(upstream.last("/a").header("if-modified-since").as_deref(), Some(date));
}

#[tokio::test]
async fn a_new_response_replaces_what_is_stored() {
    let upstream = Upstream::start();
    upstream.once("/a", Answer::ok("old").header("etag", "\"1\""));
    upstream.on("/a", Answer::ok("new").header("etag", "\"2\""));
    let larder = Larder::with(A, &upstream);
    larder.get("/a").await.assert_text("old");
    larder.after(12);
    larder.get("/a").await.assert_fwd("stale").assert_stored().assert_text("new");
    larder.get("/a").await.assert_hit().assert_text("new").assert_header("etag", "\"2\"");
}

#[tokio::test]
async fn a_304_for_something_else_freshens_nothing() {
    let upstream = Upstream::start();
    upstream.once("/a", Answer::ok("old").header("etag", "\"1\""));
    upstream.once("/a", Answer::status(304).header("etag", "\"2\""));
    upstream.on("/a", Answer::ok("new").header("etag", "\"2\""));
    let larder = Larder::with(A, &upstream);
    larder.get("/a").await;
    larder.after(12);
    larder.get("/a").await.assert_status(200).assert_text("new");
    assert_eq!(upstream.last("/a").header("if-none-match"), None);
}

#[tokio::test]
async fn a_304_to_a_question_from_before_a_purge_brings_nothing_back() {
    let upstream = Upstream::start();
    upstream.on("/a", unchanging);
    let larder = Larder::with(A, &upstream);
    larder.get("/a").await;
    larder.after(12);
    let held = upstream.hold("/a");
    let validating = larder.get("/a").spawn();
    held.arrived().await;
    larder.admin.request("DELETE", "/cache/tags/a").await.assert_status(200);
    upstream.on("/a", Answer::ok("new").header("etag", "\"2\""));
    held.release();
    validating.await.unwrap().assert_status(200);
    larder.get("/a").await.assert_text("new");
}

#[tokio::test]
async fn after_a_soft_purge_only_a_strong_validator_brings_it_back() {
    for (etag, validates) in [("\"1\"", true), ("W/\"1\"", false)] {
        let upstream = Upstream::start();
        upstream.on("/a", move |request: &Received| match request.header("if-none-match") {
            Some(_) => Answer::status(304).header("etag", etag),
            None => Answer::ok(format!("whole #{}", request.nth)).header("etag", etag),
        });
        let larder = Larder::with(A, &upstream);
        larder.get("/a").await.assert_text("whole #1");
        larder.request("PURGE", "/a").header("purge-mode", "soft").await.assert_status(200);
        let reply = larder.get("/a").await.assert_status(200);
        assert_eq!(reply.text() == "whole #1", validates, "{etag}: {reply}");
        larder.get("/a").await.assert_hit();
    }
}

#[tokio::test]
async fn clients_with_the_stored_representation_are_told_so() {
    let upstream = Upstream::start();
    let date = "Thu, 20 Nov 2025 11:00:00 GMT";
    upstream.on("/a", Answer::ok("content").header("etag", "\"1\"").header("last-modified", date));
    let larder = Larder::with(A, &upstream);
    larder.get("/a").await;
    for (field, value, status) in [
        ("if-none-match", "\"1\"", 304),
        ("if-none-match", "W/\"1\"", 304),
        ("if-none-match", "\"0\", \"1\"", 304),
        ("if-none-match", "*", 304),
        ("if-none-match", "\"2\"", 200),
        ("if-modified-since", date, 304),
        ("if-modified-since", "Thu, 20 Nov 2025 10:00:00 GMT", 200),
    ] {
        let reply = larder.get("/a").header(field, value).await.assert_status(status).assert_hit();
        reply.assert_header("etag", "\"1\"").assert_text(if status == 304 { "" } else { "content" });
    }
    assert_eq!(upstream.count("/a"), 1);
}

#[tokio::test]
async fn a_conditional_miss_is_fetched_whole_for_the_next() {
    let upstream = Upstream::start();
    upstream.on("/a", unchanging);
    let larder = Larder::with(A, &upstream);
    larder.get("/a").header("if-none-match", "\"1\"").await.assert_status(304).assert_fwd("uri-miss");
    assert_eq!(upstream.last("/a").header("if-none-match"), None);
    // Its own client has its answer already while the rest of the content is still on its way to the store.
    eventually("it is stored", || async {
        larder.get("/a").await.assert_text("content").is_hit().then_some(())
    })
    .await;
    assert_eq!(upstream.count("/a"), 1);
}

#[tokio::test]
async fn ranges_come_out_of_the_whole() {
    let upstream = Upstream::start();
    upstream.on("/a", Answer::ok("0123456789").header("etag", "\"1\""));
    let larder = Larder::with(A, &upstream);
    larder.get("/a").await.assert_fwd("uri-miss");
    for (range, part) in [("bytes=0-3", "0123"), ("bytes=-2", "89"), ("bytes=8-", "89"), ("bytes=8-99", "89")]
    {
        larder.get("/a").header("range", range).await.assert_status(206).assert_hit().assert_text(part);
    }
    let none = larder.get("/a").header("range", "bytes=10-").await.assert_status(416);
    none.assert_header("content-range", "bytes */10");
    larder.get("/a").header("range", "lines=1").await.assert_status(200).assert_text("0123456789");
    let other = larder.get("/a").header("range", "bytes=0-1").header("if-range", "\"0\"");
    other.await.assert_status(200).assert_text("0123456789");
    assert_eq!(upstream.count("/a"), 1);
}

#[tokio::test]
async fn preconditions_that_only_the_upstream_can_judge_go_there() {
    let upstream = Upstream::start();
    let larder = Larder::with(A, &upstream);
    larder.get("/a").await;
    larder.get("/a").header("if-match", "\"9\"").await.assert_fwd("bypass").assert_text("GET /a #2");
    assert_eq!(upstream.last("/a").header("if-match").as_deref(), Some("\"9\""));
    larder.get("/a").await.assert_hit().assert_text("GET /a #1");
}

/// Only a short content is read to its end where nobody wants it.
#[tokio::test]
async fn a_304_in_place_of_a_short_response_keeps_the_connection() {
    let upstream = Upstream::start();
    let answer = |size: usize| Answer::ok(vec![b'x'; size]).header("cache-control", "no-store");
    upstream.on("/long", answer(300_000).header("etag", "\"1\""));
    let larder = Larder::with("routes: [{path: \"/{*x}\", max_size: 100KiB}]", &upstream);
    let ask = async |path: &str| {
        larder.get(path).header("if-none-match", "\"1\"").await.assert_status(304);
        upstream.last(path).connection
    };
    let mut connections = std::collections::HashSet::new();
    for _ in 0..5 {
        assert!(connections.insert(ask("/long").await), "its end was read");
    }
    let known = std::cell::RefCell::new(std::collections::HashSet::new());
    eventually("a connection is used again", || async {
        let (answer, feed) = Answer::fed();
        upstream.once("/short", answer.header("cache-control", "no-store").header("etag", "\"1\""));
        // The content comes when the client has its answer.
        let connection = ask("/short").await;
        feed.send("short").await;
        feed.end().await;
        (!known.borrow_mut().insert(connection)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_condition_is_answered_by_a_response_that_is_not_stored() {
    const ROUTES: &str = "routes: [{path: \"/{*x}\", max_size: 100KiB}]";
    let date = "Thu, 20 Nov 2025 11:00:00 GMT";
    for (name, value, size) in [
        ("cache-control", "no-store", 5000),
        ("cache-control", "private, max-age=60", 5000),
        ("x-lifetime", "none", 5000),
        ("set-cookie", "a=b", 5000),
        ("vary", "*", 5000),
        ("cache-control", "max-age=60", 300_000),
    ] {
        let upstream = Upstream::start();
        upstream.on("/a", move |_: &Received| {
            let answer = Answer::ok(vec![b'x'; size]).header(name, value);
            answer.header("etag", "\"1\"").header("last-modified", date)
        });
        let larder = Larder::with(ROUTES, &upstream);
        for (field, condition, status) in [
            ("if-none-match", "\"1\"", 304),
            ("if-none-match", "\"0\", W/\"1\"", 304),
            ("if-none-match", "\"2\"", 200),
            ("if-modified-since", date, 304),
            ("if-modified-since", "Thu, 20 Nov 2025 10:59:59 GMT", 200),
        ] {
            let reply = larder.get("/a").header(field, condition).await.assert_status(status);
            assert_eq!(reply.body.len(), if status == 304 { 0 } else { size }, "{value}: {condition}");
            let reply = reply.assert_header("etag", "\"1\"");
            if name == "set-cookie" {
                reply.assert_header(name, value);
            }
        }
        larder.get("/a").header("cookie", "s=1").header("if-none-match", "\"1\"").await.assert_status(304);
        assert_eq!(upstream.count("/a"), 6, "{value}");
    }
}
