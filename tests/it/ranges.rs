//! Ranges and conditions, each out of the variant that answers the request (RFC 9110 §13, §14).

use std::sync::Arc;

use tokio::sync::Notify;

use crate::support::{Answer, Larder, Received, Upstream};

const A: &str = "routes: [{path: /a, ttl: 60s}]";

/// Two variants of different content and length, each with a validator of its own.
fn variants(request: &Received) -> Answer {
    let (content, tag, date) = match request.header("accept-language").as_deref() {
        Some("de") => ("zehn Zeichen und mehr", "\"de\"", "Thu, 20 Nov 2025 10:00:00 GMT"),
        _ => ("0123456789", "\"en\"", "Thu, 20 Nov 2025 11:00:00 GMT"),
    };
    let answer = Answer::ok(content).header("vary", "accept-language").header("etag", tag);
    answer.header("last-modified", date).header("content-type", "text/plain")
}

async fn primed() -> (Upstream, Larder) {
    let upstream = Upstream::start();
    upstream.on("/a", variants);
    let larder = Larder::with(A, &upstream);
    larder.get("/a").header("accept-language", "de").await.assert_stored();
    larder.get("/a").header("accept-language", "en").await.assert_stored();
    (upstream, larder)
}

#[tokio::test]
async fn a_range_is_of_the_requests_own_variant() {
    let (upstream, larder) = primed().await;
    for (language, range, part, content_range) in [
        ("en", "bytes=0-3", "0123", "bytes 0-3/10"),
        ("de", "bytes=0-3", "zehn", "bytes 0-3/21"),
        ("en", "bytes=-1", "9", "bytes 9-9/10"),
        ("de", "bytes=-4", "mehr", "bytes 17-20/21"),
        ("de", "bytes=17-", "mehr", "bytes 17-20/21"),
    ] {
        let request = larder.get("/a").header("accept-language", language).header("range", range);
        let reply = request.await.assert_status(206).assert_hit().assert_text(part);
        reply.assert_header("content-range", content_range).assert_header("vary", "accept-language");
    }
    let outside =
        |language| larder.get("/a").header("accept-language", language).header("range", "bytes=15-");
    outside("en").await.assert_status(416).assert_header("content-range", "bytes */10");
    outside("de").await.assert_status(206).assert_text("d mehr");
    assert_eq!(upstream.count("/a"), 2);
}

#[tokio::test]
async fn several_ranges_are_several_parts_of_one_reply() {
    let (_upstream, larder) = primed().await;
    let request = larder.get("/a").header("accept-language", "en").header("range", "bytes=0-1, 8-");
    let reply = request.await.assert_status(206).assert_hit();
    let content_type = reply.header("content-type").expect("a type");
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").expect("a boundary");
    let part = |range: &str, content: &str| {
        format!(
            "--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {range}/10\r\n\r\n{content}\r\n"
        )
    };
    assert_eq!(reply.text(), format!("{}{}--{boundary}--\r\n", part("0-1", "01"), part("8-9", "89")));
    assert_eq!(reply.header("content-length"), Some(reply.body.len().to_string()));
}

#[tokio::test]
async fn if_range_is_compared_with_the_requests_own_variant() {
    let (_upstream, larder) = primed().await;
    for (language, condition, status) in [
        ("en", "\"en\"", 206),
        ("en", "\"de\"", 200),
        ("en", "W/\"en\"", 200),
        ("de", "\"de\"", 206),
        ("de", "\"en\"", 200),
        ("de", "Thu, 20 Nov 2025 10:00:00 GMT", 206),
        ("de", "Thu, 20 Nov 2025 11:00:00 GMT", 200),
        // Later than the last modification is not the same (§13.1.5 compares exactly).
        ("de", "Thu, 20 Nov 2025 10:00:01 GMT", 200),
    ] {
        let request = larder.get("/a").header("accept-language", language).header("range", "bytes=0-1");
        request.header("if-range", condition).await.assert_status(status).assert_hit();
    }
}

#[tokio::test]
async fn a_condition_is_judged_by_the_requests_own_variant() {
    let (upstream, larder) = primed().await;
    let day = |hour: u8| format!("Thu, 20 Nov 2025 {hour}:00:00 GMT");
    for (language, name, value, status) in [
        ("en", "if-none-match", "\"en\"".to_owned(), 304),
        ("en", "if-none-match", "\"de\"".to_owned(), 200),
        ("de", "if-none-match", "W/\"de\", \"x\"".to_owned(), 304),
        ("de", "if-none-match", "*".to_owned(), 304),
        ("de", "if-modified-since", day(10), 304),
        ("en", "if-modified-since", day(10), 200),
        ("en", "if-modified-since", day(11), 304),
    ] {
        let request = larder.get("/a").header("accept-language", language).header(name, &value);
        let reply = request.await.assert_status(status).assert_hit();
        reply.assert_header("etag", &*format!("\"{language}\""));
    }
    // If-None-Match comes first (§13.2.2), and a condition before a range.
    let both = larder.get("/a").header("accept-language", "en").header("if-none-match", "\"x\"");
    both.header("if-modified-since", &day(12)).await.assert_status(200);
    let known = larder.get("/a").header("accept-language", "en").header("if-none-match", "\"en\"");
    known.header("range", "bytes=0-1").await.assert_status(304).assert_text("");
    assert_eq!(upstream.count("/a"), 2);
}

#[tokio::test]
async fn only_a_get_of_a_200_is_cut() {
    let (_upstream, larder) = primed().await;
    let head = larder.request("HEAD", "/a").header("accept-language", "en").header("range", "bytes=0-1");
    head.await.assert_status(200).assert_header("content-length", "10");
    let upstream = Upstream::start();
    upstream.on("/a", Answer::status(203).body("0123456789"));
    let larder = Larder::with(A, &upstream);
    larder.get("/a").await.assert_stored();
    larder.get("/a").header("range", "bytes=0-1").await.assert_status(203).assert_text("0123456789");
}

#[tokio::test]
async fn each_variant_is_validated_by_its_own_tag() {
    let (upstream, larder) = primed().await;
    larder.after(60);
    for language in ["de", "en"] {
        upstream.once("/a", Answer::status(304).header("etag", &format!("\"{language}\"")));
        let reply = larder.get("/a").header("accept-language", language).await.assert_fwd("stale");
        assert_eq!(reply.cache_status("fwd-status").as_deref(), Some("304"));
        let asked = upstream.last("/a");
        assert_eq!(asked.header("if-none-match"), Some(format!("\"{language}\"")));
        larder.get("/a").header("accept-language", language).await.assert_hit();
    }
}

#[tokio::test]
async fn a_range_request_fills_the_store() {
    let upstream = Upstream::start();
    upstream.on("/a", Answer::ok("0123456789").header("etag", "\"v\""));
    let larder = Larder::with(A, &upstream);
    for (range, part, content_range) in
        [("bytes=2-4", "234", "bytes 2-4/10"), ("bytes=0-", "0123456789", "bytes 0-9/10")]
    {
        let reply = larder.get("/a").header("range", range).await.assert_status(206).assert_text(part);
        reply.assert_header("content-range", content_range);
    }
    larder.get("/a").await.assert_hit().assert_text("0123456789");
    assert_eq!(upstream.count("/a"), 1);
    assert_eq!(upstream.last("/a").header("range"), None);
    // Stale, it is validated as a whole.
    upstream.once("/a", Answer::status(304).header("etag", "\"v\""));
    larder.after(61);
    let reply = larder.get("/a").header("range", "bytes=-2").await.assert_status(206).assert_text("89");
    assert_eq!(reply.assert_fwd("stale").cache_status("fwd-status").as_deref(), Some("304"));
    larder.request("PURGE", "/a").await.assert_status(200);
    let outside = larder.get("/a").header("range", "bytes=10-").await.assert_status(416);
    outside.assert_header("content-range", "bytes */10");
}

#[tokio::test]
async fn a_range_is_sent_as_the_response_arrives() {
    let upstream = Upstream::start();
    let rest = Arc::new(Notify::new());
    let wait = rest.clone();
    upstream.take_over("/a", move |mut wire| {
        let wait = wait.clone();
        async move {
            wire.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123").await.expect("a client");
            wait.notified().await;
            wire.write("456789").await.expect("a client");
        }
    });
    let larder = Larder::with(A, &upstream);
    let mut player = larder.get("/a").header("range", "bytes=1-6").start().await;
    assert_eq!(player.read_until("3").await, "123");
    let late = larder.get("/a").header("range", "bytes=0-1").start().await;
    assert_eq!(late.whole().await.unwrap().assert_status(206).text(), "01");
    rest.notify_one();
    let whole = player.whole().await.unwrap();
    assert_eq!((whole.status, whole.text()), (206, "456"));
    larder.get("/a").await.assert_hit().assert_text("0123456789");
    assert_eq!(upstream.count("/a"), 1);
}

#[tokio::test]
async fn a_range_of_a_response_that_is_not_stored_passes() {
    let upstream = Upstream::start();
    upstream.on("/a", |request: &Received| match request.header("range") {
        Some(_) => Answer::status(206).body("01").header("content-range", "bytes 0-1/5000"),
        None => Answer::ok(vec![b'x'; 5000]),
    });
    let larder = Larder::with("routes: [{path: /a, ttl: 60s, max_size: 4KiB}]", &upstream);
    for asked in [2, 3, 4] {
        let reply = larder.get("/a").header("range", "bytes=0-1").await.assert_status(206);
        reply.assert_text("01").assert_detail("range");
        assert_eq!(upstream.count("/a"), asked);
    }
}
