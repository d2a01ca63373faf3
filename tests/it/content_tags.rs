//! Tags that stand in the content of a response: each value is one, and what was purged while it was being fetched is
//! never served from it, although nobody knew its tags then.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::{Answer, Feed, Larder, Received, Redis, Replica, Streaming, Upstream};

const ROUTES: &str = "
routes:
  - path: /lists/{id}
    ttl: 60s
    max_json: 300KiB
    tags: [\"list:{id}\", \"product:{response.json:$.items[*].id}\", \"brand:{response.json:/brand}\"]
  - path: /sold/{id}
    purges: [\"product:{id}\"]
";

const LIST: &str = "/lists/1";

/// A list of products, with the number of its fetch.
fn list(products: &str, nth: usize) -> Answer {
    Answer::json(format!("{{\"items\": [{products}], \"brand\": \"B\", \"nth\": {nth}}}"))
}

fn nth(text: &str) -> u64 {
    let json: serde_json::Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("no list: {text}"));
    json["nth"].as_u64().expect("a number")
}

/// Lists of products 1 and 2.
fn start() -> (Upstream, Larder) {
    let upstream = upstream();
    let larder = Larder::with(ROUTES, &upstream);
    (upstream, larder)
}

fn upstream() -> Upstream {
    let upstream = Upstream::start();
    upstream.on(LIST, |request: &Received| list(r#"{"id": 1}, {"id": "two"}"#, request.nth));
    upstream
}

async fn purge_tag(larder: &Larder, tag: &str) {
    larder.request("PURGE", "/any").header("cache-tag", tag).await.assert_status(200);
}

#[tokio::test]
async fn each_value_is_a_tag_and_others_purge_nothing() {
    for (tag, reaches) in [
        ("list:1", true),
        ("product:1", true),
        ("PRODUCT:TWO", true),
        ("brand:b", true),
        ("product:3", false),
        ("product:", false),
        ("product:1two", false),
        ("brand:1", false),
    ] {
        let (_upstream, larder) = start();
        larder.get(LIST).await.assert_stored();
        larder.get(LIST).await.assert_hit();
        purge_tag(&larder, tag).await;
        assert_eq!(larder.get(LIST).await.is_hit(), !reaches, "{tag}");
    }
}

#[tokio::test]
async fn untaggable_content_is_not_stored_and_says_why() {
    let ids = |count: usize| (0..count).map(|id| format!("{{\"id\": {id}}}")).collect::<Vec<_>>().join(",");
    let html = Answer::ok("<html>").header("content-type", "text/html");
    let typeless = Answer::ok("{}");
    let brotli = Answer::json("x").header("content-encoding", "br");
    let large = Answer::json(format!("\"{}\"", "x".repeat(300 << 10)));
    let large_unannounced = Answer::json("").chunks(vec![format!("\"{}\"", "x".repeat(300 << 10))]);
    let twice = Answer::json(r#"{"brand": "a", "brand": "b"}"#);
    for (answer, why, is_known_from_the_head) in [
        (html, "not-json", true),
        (typeless, "not-json", true),
        (brotli, "encoded-json", true),
        (large, "json-too-large", true),
        (large_unannounced, "json-too-large", false),
        (Answer::json("{\"items\": ["), "malformed-json", false),
        (twice, "malformed-json", false),
        (list(&ids(600), 1), "too-many-tags", false),
        (list("{\"id\": [1]}", 1), "unusable-json", false),
        (list("{\"id\": 1.5}", 1), "unusable-json", false),
        (list(&format!("{{\"id\": \"{}\"}}", "x".repeat(2000)), 1), "too-many-tags", false),
    ] {
        let (upstream, larder) = start();
        upstream.on(LIST, answer);
        let first = larder.get(LIST).await.assert_status(200);
        if is_known_from_the_head {
            first.assert_not_stored(why);
        }
        // The second knows what became of the first.
        larder.get(LIST).await.assert_not_stored(why);
        let counted = larder.admin.get("/metrics").await;
        let is_counted = |line: &str| line.starts_with("larder_not_stored") && line.contains(why);
        assert!(counted.text().lines().any(is_counted), "{why}: {}", counted.text());
        // No longer than the upstream makes it so.
        upstream.on(LIST, list("", 9));
        larder.get(LIST).await;
        larder.get(LIST).await.assert_hit();
    }
}

#[tokio::test]
async fn a_content_without_values_has_no_tags_of_its_own() {
    let (upstream, larder) = start();
    upstream.on(LIST, Answer::json(r#"{"items": [{"id": null}, {}], "nth": 1}"#));
    larder.get(LIST).await.assert_stored();
    purge_tag(&larder, "product:null").await;
    larder.get(LIST).await.assert_hit();
    purge_tag(&larder, "list:1").await;
    larder.get(LIST).await.assert_fwd("uri-miss");
}

#[tokio::test]
async fn a_zipped_list_is_asked_for_and_tagged() {
    let (upstream, larder) = start();
    upstream.on(LIST, |request: &Received| {
        let mut zip = GzEncoder::new(Vec::new(), Compression::default());
        zip.write_all(br#"{"items": [{"id": 7}]}"#).expect("in memory");
        assert_eq!(request.header("accept-encoding"), Some("gzip".to_owned()));
        Answer::json(zip.finish().expect("in memory"))
            .header("content-encoding", "gzip")
            .header("vary", "accept-encoding")
    });
    let ask = || larder.get(LIST).header("accept-encoding", "br, gzip");
    ask().await.assert_stored().assert_header("content-encoding", "gzip");
    ask().await.assert_hit();
    purge_tag(&larder, "product:8").await;
    ask().await.assert_hit();
    purge_tag(&larder, "product:7").await;
    ask().await.assert_fwd("vary-miss");
}

#[tokio::test]
async fn tags_outlive_a_304() {
    let (upstream, larder) = start();
    upstream.on(LIST, |request: &Received| match request.header("if-none-match") {
        Some(_) => Answer::status(304).header("etag", "\"1\""),
        None => list(r#"{"id": 1}"#, request.nth).header("etag", "\"1\""),
    });
    larder.get(LIST).await.assert_stored();
    larder.after(60);
    larder.get(LIST).await.assert_stored();
    larder.get(LIST).await.assert_hit();
    purge_tag(&larder, "product:1").await;
    larder.get(LIST).await.assert_fwd("uri-miss");
}

/// Tags purged or written while the list is fetched.
const PURGES: [&str; 3] = ["product:1", "product:two", "brand:B"];

/// The list with its head and a part of its content on the way.
async fn halfway(upstream: &Upstream, larder: &Larder) -> (Streaming, Feed) {
    let (answer, feed) = Answer::fed();
    upstream.once(LIST, answer.header("content-type", "application/json"));
    let mut slow = larder.get(LIST).start().await;
    feed.send("{\"nth\": 1, ").await;
    slow.read_until("{\"nth\": 1, ").await;
    (slow, feed)
}

const REST: &str = r#""items": [{"id": 1}, {"id": "two"}], "brand": "B"}"#;

#[tokio::test]
async fn purged_before_its_head_is_there_it_is_not_served_later() {
    for tag in PURGES {
        let (upstream, larder) = start();
        let held = upstream.hold(LIST);
        let slow = larder.get(LIST).spawn();
        held.arrived().await;
        purge_tag(&larder, tag).await;
        held.release();
        assert_eq!(nth(slow.await.unwrap().text()), 1);
        assert!(nth(larder.get(LIST).await.text()) > 1, "{tag}");
        assert!(nth(larder.get(LIST).await.assert_hit().text()) > 1, "{tag}");
    }
}

#[tokio::test]
async fn purged_in_the_middle_of_its_content_it_is_not_served_later() {
    for tag in PURGES {
        let (upstream, larder) = start();
        let (slow, feed) = halfway(&upstream, &larder).await;
        purge_tag(&larder, tag).await;
        feed.send(REST).await;
        feed.end().await;
        slow.whole().await.unwrap().assert_text(REST);
        assert!(nth(larder.get(LIST).await.text()) > 1, "{tag}");
    }
}

#[tokio::test]
async fn a_follower_joins_only_if_nothing_was_purged_since() {
    let (upstream, larder) = start();
    let (slow, feed) = halfway(&upstream, &larder).await;
    let mut joined = larder.get(LIST).start().await;
    joined.read_until("{\"nth\": 1, ").await;
    assert_eq!(upstream.count(LIST), 1);
    // Any purge may be one of its tags: nobody knows yet.
    purge_tag(&larder, "another:thing").await;
    assert_eq!(nth(larder.get(LIST).await.text()), 2);
    feed.send(REST).await;
    feed.end().await;
    for reply in [slow, joined] {
        reply.whole().await.unwrap().assert_text(REST);
    }
}

#[tokio::test]
async fn a_list_that_was_not_purged_is_stored_whatever_else_was() {
    let (upstream, larder) = start();
    let (slow, feed) = halfway(&upstream, &larder).await;
    purge_tag(&larder, "product:3").await;
    feed.send(REST).await;
    feed.end().await;
    slow.whole().await.unwrap();
    larder.get(LIST).await.assert_hit();
}

#[tokio::test]
async fn purged_through_another_replica_it_is_served_by_none() {
    let redis = Redis::start().await;
    for store in
        ["max_lag: 0s, timeout: 5s", "max_lag: 60s, timeout: 5s", "memory: 0, max_lag: 0s, timeout: 5s"]
    {
        for tag in PURGES {
            let upstream = upstream();
            let routes = format!("{ROUTES}\ndefaults: {{guard: false}}");
            let one = Replica::start(&redis, &upstream, store, &routes).await;
            let other = Replica::start(&redis, &upstream, store, &routes).await;
            redis.flush_responses().await;
            let held = upstream.hold(LIST);
            let slow = one.get(LIST).spawn();
            held.arrived().await;
            other.purge_tag(tag).await;
            held.release();
            assert_eq!(nth(slow.await.unwrap().text()), 1, "{store}");
            assert!(nth(other.get(LIST).await.text()) > 1, "{store} {tag}");
            if !store.contains("60s") {
                assert!(nth(one.get(LIST).await.text()) > 1, "{store} {tag}");
            }
        }
    }
}

#[tokio::test]
async fn what_one_replica_has_read_in_a_content_the_other_purges_by() {
    let redis = Redis::start().await;
    let upstream = upstream();
    let store = "max_lag: 0s, timeout: 5s";
    let one = Replica::start(&redis, &upstream, store, ROUTES).await;
    let other = Replica::start(&redis, &upstream, store, ROUTES).await;
    one.get(LIST).await.assert_stored();
    other.has(LIST).await;
    other.request("POST", "/sold/3").await.assert_status(200);
    one.get(LIST).await.assert_hit();
    other.request("POST", "/sold/TWO").await.assert_status(200);
    one.get(LIST).await.assert_fwd("uri-miss");
}

/// A mebibyte of list, product 1 at its very end.
fn large() -> String {
    let filler = format!("{{\"id\": 2, \"text\": \"{}\"}}", "x".repeat(1024));
    let items = vec![filler; 1024];
    format!("{{\"nth\": 1, \"items\": [{}, {{\"id\": 1}}]}}", items.join(","))
}

#[tokio::test]
async fn a_large_tagged_body_is_streamed_from_its_first_byte() {
    let upstream = upstream();
    let larder = Larder::with(&ROUTES.replace("300KiB", "2MiB"), &upstream);
    let (answer, feed) = Answer::fed();
    upstream.once(LIST, answer.header("content-type", "application/json"));
    let text = large();
    assert!(text.len() > 1 << 20);
    let mut reply = larder.get(LIST).start().await;
    // The upstream has the rest yet: nothing can have been read of it before this went on.
    for (from, to) in [(0, 1), (1, 500_000), (500_000, text.len() - 1)] {
        feed.send(text[from..to].to_owned()).await;
        let last = &text[to.saturating_sub(50).max(from)..to];
        reply.read_until(last).await;
    }
    feed.send(text[text.len() - 1..].to_owned()).await;
    feed.end().await;
    reply.whole().await.unwrap().assert_text("}");
    larder.metric_becomes("larder_stored_entries", 1.0).await;
    larder.get(LIST).await.assert_hit();
    purge_tag(&larder, "product:1").await;
    larder.get(LIST).await.assert_fwd("uri-miss");
}
