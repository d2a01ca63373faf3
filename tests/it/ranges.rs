//! Ranges and conditions, each out of the variant that answers the request (RFC 9110 §13, §14).

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
