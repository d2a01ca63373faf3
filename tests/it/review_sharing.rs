//! What was made for one caller is given to no other, and requests that are one to the upstream are one here.

use crate::support::{Answer, Larder, Received, Upstream};

const YAML: &str = "
routes:
  - path: /a
    ttl: 10m
";

#[tokio::test]
async fn what_varies_by_the_address_that_larder_forwards_is_not_shared() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    upstream.on("/a", Answer::ok("for 127.0.0.1").header("vary", "X-Forwarded-For"));
    larder.get("/a").await;
    larder.get("/a").await.assert_not_stored("vary-star");
}

#[tokio::test]
async fn cookies_that_came_in_several_lines_go_on_as_one() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    larder.get("/b").header("cookie", "a=1").header("cookie", "b=2").over_http2().await;
    let cookies: Vec<_> = upstream
        .last("/b")
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("cookie"))
        .cloned()
        .collect();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    assert_eq!(cookies[0].1, "a=1; b=2");
}

#[tokio::test]
async fn observing_forwards_the_query_as_it_came() {
    let upstream = Upstream::start();
    let larder = Larder::with(
        "
routes:
  - path: /a
    ttl: 10m
    mode: observe
    query: [page]
",
        &upstream,
    );
    for _ in 0..2 {
        larder.get("/a?sort=up&page=2").await.assert_status(200);
        assert_eq!(upstream.last("/a").query(), Some("sort=up&page=2"));
    }
}

#[tokio::test]
async fn an_empty_host_is_the_same_as_none() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    upstream.on("/a", |request: &Received| Answer::ok(format!("{:?}", request.header("host"))));
    let mut raw = larder.raw().await;
    raw.send("GET /a HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n").await;
    let empty = raw.rest().await;
    let mut raw = larder.raw().await;
    raw.send("GET /b HTTP/1.0\r\n\r\n").await;
    raw.rest().await;
    let host = |path| upstream.last(path).header("host");
    assert_eq!(host("/a"), host("/b"), "{empty}");
}

/// What goes through a tunnel to another HTTP is not seen: its writes would purge nothing.
#[tokio::test]
async fn no_tunnel_is_opened_to_another_http() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    for protocol in ["h2c", "H2C", "HTTP/2.0", "websocket, h2c", "TLS/1.3"] {
        let mut raw = larder.raw().await;
        raw.send(format!("GET /b HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n"))
            .await;
        assert_eq!(raw.status().await, 200, "{protocol}");
        assert_eq!(upstream.last("/b").header("upgrade"), None, "{protocol}");
    }
}

/// The answer to larder's validation sets a cookie: that is for the one who asked.
#[tokio::test]
async fn a_cookie_that_comes_with_a_304_reaches_the_one_who_asked_and_nobody_else() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    upstream.on("/a", |request: &Received| match request.header("if-none-match") {
        Some(_) => Answer::status(304).header("etag", "\"1\"").header("set-cookie", "session=1"),
        None => Answer::ok("same").header("etag", "\"1\""),
    });
    larder.get("/a").await.assert_stored();
    larder.after(601);
    larder.get("/a").await.assert_text("same").assert_header("set-cookie", "session=1");
    upstream.on("/a", Answer::status(503));
    larder.get("/a").await.assert_header("set-cookie", None);
}
