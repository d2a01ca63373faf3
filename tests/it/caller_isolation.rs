//! A response made for one caller reaches no other, and requests that are one to the upstream are one here.

use crate::support::{Answer, Larder, Received, Upstream};

const YAML: &str = "
routes:
  - path: /a
    ttl: 10m
";

#[tokio::test]
async fn responses_that_vary_by_forwarded_address_are_not_shared() {
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

/// An upgrade to another HTTP version is refused, since writes in it would purge nothing.
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
async fn a_cookie_on_a_304_reaches_its_own_client_only() {
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

/// NTLM and Negotiate authenticate the connection, and an upstream that ignores the content of a GET takes it for the
/// next request.
#[tokio::test]
async fn connections_with_a_login_or_content_are_not_reused() {
    let upstream = Upstream::start();
    upstream.on("/plain", Answer::ok(""));
    upstream.on("/next", Answer::ok(""));
    upstream.on("/challenge", Answer::ok("").header("www-authenticate", "Basic, Negotiate dGVzdA=="));
    let larder = Larder::with("routes: []", &upstream);
    for (path, fields, content, is_reused) in [
        ("/plain", "", "", true),
        ("/plain", "Authorization: Bearer x\r\n", "", true),
        ("/plain", "Authorization: NTLM TlRMTVNTUAAB\r\n", "", false),
        ("/plain", "Authorization: negotiate YII\r\n", "", false),
        ("/challenge", "", "", false),
        ("/plain", "Content-Length: 4\r\n", "late", false),
    ] {
        let mut raw = larder.raw().await;
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n{content}")).await;
        assert_eq!(raw.status().await, 200);
        raw.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(raw.status().await, 200);
        let [first, next] = [path, "/next"].map(|path| upstream.last(path).connection);
        assert_eq!(first == next, is_reused, "{path} {fields}");
    }
}

/// An upstream that ignores the content of a POST takes it for the next request on the connection: no other client's GET
/// goes over it.
#[tokio::test]
async fn requests_without_content_have_connections_of_their_own() {
    let upstream = Upstream::start();
    for path in ["/post", "/again", "/get", "/empty"] {
        upstream.on(path, Answer::ok(""));
    }
    let larder = Larder::with("routes: []", &upstream);
    // One client connection has one worker, and so one pool.
    let mut raw = larder.raw().await;
    for (method, path, content) in [
        ("POST", "/post", "GET /x"),
        ("GET", "/get", ""),
        ("POST", "/again", "more"),
        ("DELETE", "/empty", ""),
    ] {
        let length = match content.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        raw.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{length}\r\n{content}")).await;
        assert_eq!(raw.status().await, 200, "{path}");
    }
    let [post, again, get, empty] =
        ["/post", "/again", "/get", "/empty"].map(|path| upstream.last(path).connection);
    assert_eq!((post == again, get == empty, post == get), (true, true, false));
}
