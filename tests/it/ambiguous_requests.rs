//! Requests made to be read in two ways, or to poison what others get: there is one reading, or none.

use crate::support::{Answer, Larder, Upstream};

const ROUTES: &str = "
routes:
  - {path: /a, ttl: 60s}
";

#[tokio::test]
async fn ambiguous_requests_never_reach_the_upstream() {
    for (what, request, status) in [
        ("two Hosts", "GET /a HTTP/1.1\r\nHost: one\r\nHost: two\r\n\r\n", 400),
        ("the same Host twice", "GET /a HTTP/1.1\r\nHost: one\r\nHost: one\r\n\r\n", 400),
        ("no Host", "GET /a HTTP/1.1\r\n\r\n", 400),
        ("a Host that is none", "GET /a HTTP/1.1\r\nHost: a/b?c\r\n\r\n", 400),
        ("a Host with a user", "GET /a HTTP/1.1\r\nHost: me@api\r\n\r\n", 400),
        ("a list in Host", "GET /a HTTP/1.1\r\nHost: one, two\r\n\r\n", 400),
        ("a target without a path", "GET evil.test HTTP/1.1\r\nHost: api\r\n\r\n", 400),
        ("a target that is a word", "POST a HTTP/1.1\r\nHost: api\r\nContent-Length: 0\r\n\r\n", 400),
        ("a host and a port as target", "GET api:80 HTTP/1.1\r\nHost: api\r\n\r\n", 400),
        ("a star and more", "GET *x HTTP/1.1\r\nHost: api\r\n\r\n", 400),
        ("another scheme", "GET ftp://api/a HTTP/1.1\r\nHost: api\r\n\r\n", 400),
        ("a target with a user", "GET http://me@api/a HTTP/1.1\r\nHost: api\r\n\r\n", 400),
        (
            "two lengths",
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
            400,
        ),
        ("a length with a sign", "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400),
        ("an unknown coding", "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        ("chunked twice", "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n", 400),
        ("a space before the colon", "GET /a HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        ("a folded field", "GET /a HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", 400),
        (
            "a length after a coding",
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "a length before a coding",
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "the same length twice",
            "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            400,
        ),
        (
            "two codings",
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("a target that is an authority", "GET evil.test HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (
            "a write to an authority",
            "POST evil.test:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            400,
        ),
        (
            "a coding over HTTP/1.0",
            "POST /a HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("lines that end in LF", "GET /a HTTP/1.1\nHost: a\n\n", 400),
        ("one line that ends in LF", "GET /a HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n", 400),
        ("a NUL in a field", "GET /a HTTP/1.1\r\nHost: a\r\nX: 1\x002\r\n\r\n", 400),
        ("a bare CR in a field", "GET /a HTTP/1.1\r\nHost: a\r\nX: 1\r2\r\n\r\n", 400),
        ("a control character in the target", "GET /a\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("HTTP/1.2 with garbage", "GET /a HTTP/9.1\r\nHost: a\r\n\r\n", 400),
        ("a tunnel", "CONNECT api:443 HTTP/1.1\r\nHost: api:443\r\n\r\n", 405),
    ] {
        let upstream = Upstream::start();
        let larder = Larder::with(ROUTES, &upstream);
        let mut raw = larder.raw().await;
        raw.send(request).await;
        assert_eq!(raw.status().await, status, "{what}");
        assert_eq!(upstream.total(), 0, "{what}");
        larder.get("/a").await.assert_fwd("uri-miss");
    }
}

#[tokio::test]
async fn two_framings_are_one_and_nothing_after_it_is_read() {
    let (length, chunked) = ("Content-Length: 4\r\n", "Transfer-Encoding: chunked\r\n");
    for framings in [format!("{length}{chunked}"), format!("{chunked}{length}")] {
        let upstream = Upstream::start();
        let larder = Larder::with(ROUTES, &upstream);
        let mut raw = larder.raw().await;
        raw.send(format!("POST /w HTTP/1.1\r\nHost: a\r\n{framings}\r\n1\r\nx\r\n0\r\n\r\n")).await;
        raw.send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let status = raw.status().await;
        assert!([200, 400].contains(&status), "{status}");
        // RFC 9112 §6.1: the connection ends with this.
        raw.rest().await;
        assert_eq!(upstream.count("/smuggled"), 0);
        if status == 200 {
            let seen = upstream.last("/w");
            assert_eq!((seen.body.as_slice(), seen.header("content-length")), (b"x".as_slice(), None));
        }
    }
}

#[tokio::test]
async fn the_targets_own_host_wins_over_the_field() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let mut raw = larder.raw().await;
    raw.send("GET http://victim.test/a HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n").await;
    assert_eq!(raw.status().await, 200);
    assert_eq!(upstream.last("/a").header("host").as_deref(), Some("victim.test"));
    larder.get("/a").header("host", "victim.test").await.assert_hit();
    larder.get("/a").header("host", "evil.test").await.assert_fwd("uri-miss");
}

#[tokio::test]
async fn fields_that_unknown_hosts_set_do_not_poison_what_others_get() {
    for (name, value) in [
        ("x-forwarded-host", "evil.test"),
        ("x-forwarded-scheme", "nothttps"),
        ("x-original-url", "/admin"),
        ("x-rewrite-url", "/admin"),
        ("x-host", "evil.test"),
        ("x-http-method-override", "POST"),
        ("forwarded", "host=evil.test"),
        ("range", "bytes=0-0"),
        ("if-none-match", "\"x\""),
        ("connection", "cookie, authorization"),
    ] {
        let upstream = Upstream::start();
        let larder = Larder::with(ROUTES, &upstream);
        let poisoning = larder.get("/a").header("host", "api.test").header(name, value).await;
        let seen = upstream.last("/a");
        let innocent = larder.get("/a").header("host", "api.test").await;
        // Either the field made the request pass, or the upstream never saw its value: then it can't have mattered.
        let mattered = seen.header(name).is_some_and(|seen| seen.contains(value));
        assert!(!innocent.is_hit() || !mattered, "{name}: {poisoning}\n{innocent}");
    }
}

#[tokio::test]
async fn a_connection_field_cannot_remove_credentials() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let hidden =
        larder.get("/a").header("authorization", "Basic x").header("connection", "authorization").await;
    assert!(!hidden.is_hit());
    larder.get("/a").header("authorization", "Basic y").header("connection", "authorization").await;
    let plain = larder.get("/a").await;
    assert!(!plain.is_hit() || upstream.received("/a").iter().all(|r| r.header("authorization").is_none()));
}

#[tokio::test]
async fn an_http_1_0_client_is_served() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    for _ in 0..2 {
        let mut raw = larder.raw().await;
        raw.send("GET /a HTTP/1.0\r\nHost: api\r\n\r\n").await;
        let reply = raw.rest().await;
        assert!(reply.starts_with("HTTP/1.0 200 OK\r\n") && reply.ends_with("GET /a #1"), "{reply}");
    }
    // RFC 9112 §9.3: without a length the end of the connection is that of the content, so it is not kept.
    upstream.on("/chunks", Answer::status(200).chunks(["one", "two"]));
    for (path, kept) in [("/a", "keep-alive"), ("/chunks", "close")] {
        let mut raw = larder.raw().await;
        raw.send(format!("GET {path} HTTP/1.0\r\nHost: api\r\nConnection: keep-alive\r\n\r\n")).await;
        let head = raw.read_until("\r\n\r\n").await.to_lowercase();
        let connection: Vec<_> = head.lines().filter_map(|line| line.strip_prefix("connection: ")).collect();
        assert_eq!(connection, [kept], "{head}");
    }
}
