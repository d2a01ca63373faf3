//! A stored response answers exactly the requests it was made for.

use crate::support::{Answer, Larder, Upstream};

const A: &str = "
routes:
  - path: /a
    ttl: 60s
";

#[tokio::test]
async fn the_second_request_is_answered_from_the_store() {
    let upstream = Upstream::start();
    upstream.on("/a", Answer::ok("one").header("content-type", "text/plain").header("x-mine", "1"));
    let larder = Larder::with(A, &upstream);
    let miss = larder.get("/a").await.assert_fwd("uri-miss").assert_stored().assert_text("one");
    assert_eq!(miss.remaining_ttl(), 60);
    larder.after(7);
    let hit = larder.get("/a").await.assert_status(200).assert_hit().assert_text("one");
    assert_eq!(hit.remaining_ttl(), 53);
    hit.assert_header("age", "7").assert_header("x-mine", "1").assert_header("content-type", "text/plain");
    assert_eq!(upstream.count("/a"), 1);
}

#[tokio::test]
async fn it_is_fresh_for_the_ttl_and_not_a_second_longer() {
    let upstream = Upstream::start();
    let larder = Larder::with(A, &upstream);
    larder.get("/a").await;
    larder.after(59);
    larder.get("/a").await.assert_hit().assert_text("GET /a #1");
    larder.after(1);
    assert!(!larder.get("/a").await.assert_text("GET /a #2").is_hit());
}

#[tokio::test]
async fn the_route_ttl_is_not_sent_to_clients() {
    let upstream = Upstream::start();
    let larder = Larder::with(A, &upstream);
    larder.get("/a").await.assert_header("cache-control", None).assert_header("expires", None);
    larder.get("/a").await.assert_hit().assert_header("cache-control", None).assert_header("expires", None);
}

#[tokio::test]
async fn the_upstream_lifetime_wins_unless_overridden() {
    let upstream = Upstream::start();
    let says = |value| Answer::ok("").header("cache-control", value);
    for path in ["/a", "/b"] {
        upstream.on(path, says("max-age=5"));
    }
    upstream.on("/c", says("max-age=5, s-maxage=9"));
    let larder = Larder::with(
        "
routes:
  - {path: /a, ttl: 60s}
  - {path: /b, ttl: 60s, override: [lifetime]}
  - {path: /c, ttl: upstream}
",
        &upstream,
    );
    for (path, lifetime) in [("/a", 5), ("/b", 60), ("/c", 9)] {
        larder.get(path).await.assert_stored();
        assert_eq!(larder.get(path).await.assert_hit().remaining_ttl(), lifetime, "{path}");
    }
}

#[tokio::test]
async fn without_a_ttl_it_lives_until_it_is_purged() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: /a, ttl: none, purged_by: admin}]", &upstream);
    larder.get("/a").await.assert_stored();
    larder.after(6 * 24 * 3600);
    larder.get("/a").await.assert_hit();
    larder.request("PURGE", "/a").await.assert_status(200);
    larder.get("/a").await.assert_text("GET /a #2");
}

#[tokio::test]
async fn head_is_answered_by_what_get_stored() {
    let upstream = Upstream::start();
    upstream.on("/a", Answer::ok("12345"));
    let larder = Larder::with(A, &upstream);
    larder
        .request("HEAD", "/a")
        .await
        .assert_status(200)
        .assert_text("")
        .assert_header("content-length", "5");
    larder.get("/a").await.assert_fwd("uri-miss");
    larder.request("HEAD", "/a").await.assert_hit().assert_text("").assert_header("content-length", "5");
    let methods: Vec<_> = upstream.received("/a").iter().map(|request| request.method.clone()).collect();
    assert_eq!(methods, ["HEAD", "GET"]);
}

#[tokio::test]
async fn every_status_that_may_be_stored_is_given_again_as_it_was() {
    let upstream = Upstream::start();
    let larder = Larder::with(
        "
routes:
  - path: /s/{status}
    ttl: 60s
    status: {404: 10s}
",
        &upstream,
    );
    for (status, is_stored) in [
        (200, true),
        (203, true),
        (204, true),
        (301, true),
        (308, true),
        (404, true),
        (302, false),
        (410, false),
        (500, false),
    ] {
        let path = format!("/s/{status}");
        upstream.on(&path, Answer::status(status).header("location", "/elsewhere"));
        larder.get(&path).await.assert_status(status);
        let again = larder.get(&path).await.assert_status(status).assert_header("location", "/elsewhere");
        assert_eq!(again.is_hit(), is_stored, "{again}");
        if status == 404 {
            assert_eq!(again.remaining_ttl(), 10);
        }
    }
    upstream.on("/s/gone", Answer::status(410).header("cache-control", "max-age=30"));
    larder.get("/s/gone").await.assert_stored();
    larder.get("/s/gone").await.assert_status(410).assert_hit();
}

#[tokio::test]
async fn bytes_are_given_again_as_they_came() {
    let upstream = Upstream::start();
    let bytes: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    upstream.on("/a", Answer::status(200).chunks(bytes.chunks(70_001).map(<[u8]>::to_vec)));
    let larder = Larder::with(A, &upstream);
    assert!(larder.get("/a").await.body == bytes);
    let hit = larder.get("/a").await.assert_hit();
    assert!(hit.body == bytes);
    hit.assert_header("content-length", "1000000");
}

#[tokio::test]
async fn host_path_and_query_make_the_key() {
    let upstream = Upstream::start();
    let larder = Larder::with(A, &upstream);
    larder.get("/a").header("host", "one.test").await;
    larder.get("/a").header("host", "ONE.test:80").await.assert_hit();
    larder.get("/a").header("host", "two.test").await.assert_fwd("uri-miss");
    larder.get("/a?x=1&y=2").header("host", "one.test").await.assert_fwd("uri-miss");
    larder.get("/a?x=1&y=2").header("host", "one.test").await.assert_hit();
    larder.get("/a?y=2&x=1").header("host", "one.test").await.assert_fwd("uri-miss");
    larder.get("/a?").header("host", "two.test").await.assert_fwd("uri-miss");
}

#[tokio::test]
async fn the_upstream_gets_the_selected_query_sorted() {
    let upstream = Upstream::start();
    let larder = Larder::with(
        "
routes:
  - path: /list
    ttl: 60s
    query: {page: 1, limit: 20}
  - path: /ads
    ttl: 60s
    query: {ignore: [\"utm_*\"]}
  - path: /some
    ttl: 60s
    query: [a]
",
        &upstream,
    );
    larder.get("/list?utm_source=x&limit=20").await.assert_fwd("uri-miss");
    assert_eq!(upstream.last("/list").query(), Some("limit=20&page=1"));
    for same in ["/list", "/list?page=1", "/list?limit=20&page=1&evil=%0d%0a"] {
        larder.get(same).await.assert_hit();
    }
    larder.get("/list?page=2").await.assert_fwd("uri-miss");
    larder.get("/ads?b=2&utm_campaign=z&a=1").await.assert_fwd("uri-miss");
    assert_eq!(upstream.last("/ads").query(), Some("a=1&b=2"));
    larder.get("/ads?a=1&b=2").await.assert_hit();
    larder.get("/some?b=1").await.assert_fwd("uri-miss");
    assert_eq!(upstream.last("/some").query(), None);
    larder.get("/some?a=1").await.assert_fwd("uri-miss");
}

#[tokio::test]
async fn named_headers_and_cookies_make_the_key() {
    let upstream = Upstream::start();
    let larder = Larder::with(
        "
routes:
  - path: /a
    ttl: 60s
    headers: [accept-language]
    cookies: [theme]
    shared: true
",
        &upstream,
    );
    let ask = |language: &'static str, cookie: &'static str| {
        larder.get("/a").header("accept-language", language).header("cookie", cookie)
    };
    ask("de", "theme=dark; sid=1").await.assert_fwd("uri-miss");
    ask("de", "sid=2; theme=dark").await.assert_hit();
    ask("de", "theme=light").await.assert_fwd("uri-miss");
    ask("en", "theme=dark").await.assert_fwd("uri-miss");
}

#[tokio::test]
async fn the_most_specific_route_wins_whatever_its_parameters() {
    let upstream = Upstream::start();
    let larder = Larder::with(
        "
routes:
  - {path: \"/c/{rest}\", ttl: 10s}
  - {path: \"/c/{id}/x\", ttl: 20s}
  - {path: /c/mine, ttl: 30s}
  - {path: \"/c/{*all}\", ttl: 40s}
",
        &upstream,
    );
    for (path, ttl) in [("/c/1", 10), ("/c/1/x", 20), ("/c/mine", 30), ("/c/1/y", 40)] {
        assert_eq!(larder.get(path).await.assert_stored().remaining_ttl(), ttl, "{path}");
    }
}

#[tokio::test]
async fn http2_clients_are_answered_from_the_same_store() {
    let upstream = Upstream::start();
    let larder = Larder::with(A, &upstream);
    larder.get("/a").header("host", "api.test").await.assert_fwd("uri-miss");
    larder.get("/a").header("host", "api.test").over_http2().await.assert_hit();
    larder.get("/a").header("host", "other.test").over_http2().await.assert_text("GET /a #2");
    assert_eq!(upstream.last("/a").header("host").as_deref(), Some("other.test"));
}

#[tokio::test]
async fn percent_encoded_digits_are_compared_without_case() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: /a, ttl: 60s}]", &upstream);
    larder.get("/a?q=caf%c3%a9%2").await.assert_stored();
    larder.get("/a?q=caf%C3%A9%2").await.assert_hit();
    larder.get("/a?q=caf%C3%a9%2").await.assert_hit();
    larder.get("/a?q=CAF%C3%A9%2").await.assert_stored();
    // The upstream gets the client's own spelling.
    assert_eq!(upstream.received("/a")[0].query(), Some("q=caf%c3%a9%2"));
    larder.request("PURGE", "/a?q=caf%C3%A9%2").await.assert_status(200);
    assert!(!larder.get("/a?q=caf%c3%a9%2").await.is_hit());
}
