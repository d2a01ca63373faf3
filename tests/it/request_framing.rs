//! One reading of each message, in both directions: where it begins, where it ends, and what it is coded in.

use crate::support::{Answer, Larder, Raw, Upstream, Wire, with_deadline};

const YAML: &str = "
upstream: { url: '${UPSTREAM}', response_timeout: 1s }
routes:
  - path: /cached
    ttl: 10m
";

#[tokio::test]
async fn a_request_whose_end_is_in_question_reaches_nobody() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    for framing in [
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4, 5\r\n",
        "Content-Length: +4\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "X: 1\r\n Transfer-Encoding: chunked\r\n",
    ] {
        let mut raw = larder.raw().await;
        raw.send(format!("POST /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{framing}\r\n0\r\n\r\n")).await;
        assert_eq!(raw.status().await, 400, "{framing}");
    }
    assert_eq!(upstream.total(), 0);
}

/// RFC 9112 §6.1: whoever stands before larder may have gone by the other one.
#[tokio::test]
async fn a_request_with_two_framings_ends_the_connection() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    for framing in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    ] {
        let mut raw = larder.raw().await;
        raw.send(format!("POST /b HTTP/1.1\r\nHost: a\r\n{framing}\r\n0\r\n\r\n")).await;
        raw.send("GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(raw.status().await, 400, "{framing}");
        raw.rest().await;
        assert_eq!(upstream.total(), 0, "{framing}");
    }
}

#[tokio::test]
async fn an_unknown_transfer_coding_is_not_passed_on() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    for coding in ["gzip, chunked", "gzip"] {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        for path in ["/cached", "/b"] {
            upstream.on(path, Answer::raw(answer.clone()));
            larder.get(path).await.assert_status(502);
        }
    }
}

#[tokio::test]
async fn an_answer_with_two_framings_has_one_when_it_goes_on() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    for (path, head) in [
        ("/cached", "Content-Length: 2\r\nTransfer-Encoding: chunked"),
        ("/b", "Transfer-Encoding: chunked\r\nContent-Length: 2"),
        ("/c", "Transfer-Encoding: chunked\r\nContent-Length: 900"),
    ] {
        upstream.on(path, Answer::raw(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n3\r\nabc\r\n0\r\n\r\n")));
        match larder.get(path).attempt().await {
            Ok(reply) => drop(reply.assert_status(200).assert_text("abc")),
            Err(error) => panic!("{path}: {error}"),
        }
    }
    upstream.on("/d", Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"));
    larder.get("/d").await.assert_text("abc").assert_header("content-length", "3");
    upstream.on("/e", Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"));
    larder.get("/e").await.assert_status(502);
}

#[tokio::test]
async fn a_status_without_content_has_no_length() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    for path in ["/cached", "/b"] {
        upstream.on(path, Answer::raw("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"));
        for method in ["GET", "GET", "HEAD"] {
            let mut raw = larder.raw().await;
            raw.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
            let reply = raw.rest().await;
            assert!(
                reply.starts_with("HTTP/1.1 204") && !reply.to_lowercase().contains("content-length"),
                "{method} {path}: {reply}"
            );
        }
    }
}

#[tokio::test]
async fn a_switch_of_protocols_that_nobody_asked_for_is_a_502() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    let switch = Answer::raw("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    upstream.on("/cached", switch.clone()).on("/b", switch);
    larder.get("/cached").await.assert_status(502);
    larder.get("/b").await.assert_status(502);
    larder.request("POST", "/b").await.assert_status(502);
    let mut raw = larder.raw().await;
    raw.send("POST /b HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(raw.status().await, 502);
    assert_eq!(upstream.last("/b").header("upgrade"), None, "a write does not offer to switch");
}

#[tokio::test]
async fn a_304_that_nobody_asked_for_is_a_502() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    upstream.on("/cached", Answer::status(304));
    larder.get("/cached").await.assert_status(502);
}

/// HEADERS without END_STREAM, some DATA, then RST_STREAM. A reset without an error is what hyper takes for the end.
#[tokio::test]
async fn a_reset_http2_upload_never_looks_complete() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    let (ends, mut ended) = tokio::sync::mpsc::unbounded_channel();
    upstream.take_over("/b", move |mut wire| {
        let ends = ends.clone();
        async move { ends.send(wire.read_body().await.is_ok()).unwrap() }
    });
    for (code, number) in [(0, 1), (8, 2), (2, 3)] {
        let mut raw = larder.raw().await;
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        frame(&mut raw, 4, 0, 0, b"").await;
        // POST, http, /b, and the authority.
        frame(&mut raw, 1, 4, 1, b"\x83\x86\x04\x02/b\x01\x01a").await;
        frame(&mut raw, 0, 0, 1, b"half").await;
        upstream.has_received("/b", number).await;
        frame(&mut raw, 3, 0, 1, &[0, 0, 0, code]).await;
        let is_whole = with_deadline("the end of the write", ended.recv()).await.unwrap();
        assert!(!is_whole, "reset with {code}");
    }
}

async fn frame(raw: &mut Raw, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
    let length = u8::try_from(payload.len()).unwrap();
    raw.send([&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()).await;
}

#[tokio::test]
async fn odd_targets_have_an_answer() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    for (line, expected) in [
        ("OPTIONS * HTTP/1.1\r\nHost: a", 200),
        ("GET http://user@a/b HTTP/1.1\r\nHost: a", 400),
        ("GET /b HTTP/1.1\r\nHost: a\r\nHost: b", 400),
        ("GET /b HTTP/1.1\r\nHost: a, b", 400),
        ("GET /b HTTP/1.1\r\nHost: a b", 400),
        ("GET /b HTTP/1.1\r\nHost: u@a", 400),
        ("GET /b HTTP/1.1", 400),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a", 405),
        ("GET HTTP://A:80/b HTTP/1.1\r\nHost: other", 200),
        ("GET /b#f HTTP/1.1\r\nHost: a", 400),
    ] {
        let mut raw = larder.raw().await;
        raw.send(format!("{line}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(raw.status().await, expected, "{line}");
    }
    assert_eq!(upstream.received("/b")[0].header("host").as_deref(), Some("a"));
}

/// The parser rests after a second without a request. The content of one that was answered early is no request.
#[tokio::test]
async fn late_content_is_never_taken_for_a_request() {
    const INNER: &str = "GET /inner HTTP/1.1\r\nHost: a\r\n\r\n";
    for (field, before, after) in [
        (
            "Transfer-Encoding: chunked",
            "1\r\nx\r\n".to_owned(),
            format!("{:x}\r\n{INNER}\r\n0\r\n\r\n", INNER.len()),
        ),
        (&*format!("Content-Length: {}", 1 + INNER.len()), "x".to_owned(), INNER.to_owned()),
    ] {
        let upstream = Upstream::start();
        upstream.take_over("/b", async |mut wire: Wire| {
            let _ = wire.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            while !wire.read().await.is_empty() {}
        });
        let larder =
            Larder::with("upstream: {url: \"${UPSTREAM}\", buffer_requests: 0}\nroutes: []", &upstream);
        let mut raw = larder.raw().await;
        raw.send(format!("POST /b HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n{before}")).await;
        assert_eq!(raw.status().await, 200);
        raw.exactly(2).await;
        // An idle connection loses its parser after 1 s, by tokio's time, and no metric shows it. This one must not.
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        raw.send(format!("{after}GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        let rest = raw.rest().await;
        assert_eq!(upstream.count("/inner"), 0, "{field}: {rest}");
        assert!(rest.is_empty() || rest.ends_with("GET /next #1"), "{field}: {rest}");
    }
}

#[tokio::test]
async fn a_host_with_two_readings_is_refused() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    for host in ["a:1:2", "a:", "a:65536", "a:0", "a:x", ":80", "[::1", "[a]:80", "a]"] {
        let mut raw = larder.raw().await;
        raw.send(format!("GET /b HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(raw.status().await, 400, "{host}");
    }
    assert_eq!(upstream.total(), 0);
    for host in ["a", "a:8080", "[2001:db8::1]:8080", "[::1]"] {
        let mut raw = larder.raw().await;
        raw.send(format!("GET /b HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(raw.status().await, 200, "{host}");
    }
}

/// RFC 9110 §2.5: of a later minor version, what is known is used.
#[tokio::test]
async fn later_minor_versions_are_answered_as_1_1() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    for (version, status) in
        [("1.1", 200), ("1.2", 200), ("1.9", 200), ("1.10", 400), ("1.", 400), ("3.2", 400)]
    {
        let mut raw = larder.raw().await;
        raw.send(format!("GET /b HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(raw.status().await, status, "{version}");
        let mut raw = larder.raw().await;
        let two = format!("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /é HTTP/{version}\r\nHost: a\r\n\r\n");
        raw.send(two).await;
        assert_eq!(raw.status().await, 200);
        raw.read_until("HTTP/1.1 ").await;
        assert_eq!(raw.read_until(" ").await.trim(), status.to_string(), "{version}");
    }
}

#[tokio::test]
async fn the_target_of_all_is_for_options_alone() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    for (method, status) in [("GET", 400), ("POST", 400), ("OPTIONS", 200)] {
        let mut raw = larder.raw().await;
        let close = "Content-Length: 0\r\nConnection: close";
        raw.send(format!("{method} * HTTP/1.1\r\nHost: a\r\n{close}\r\n\r\n")).await;
        assert_eq!(raw.status().await, status, "{method}");
    }
}

/// RFC 9112 §2.2 and §7.1. Nothing after the fault is a request.
#[tokio::test]
async fn content_that_can_not_be_read_is_a_bad_request() {
    let upstream = Upstream::start();
    let yaml = YAML.replace("response_timeout: 1s", "response_timeout: 1m");
    let larder = Larder::with(&yaml, &upstream);
    let mut sent = 0.0;
    for (valid, broken) in [
        ("", "zz\r\nabc"),
        ("", "-1\r\nabc"),
        ("", "0x3\r\nabc"),
        ("3\r\nabc", "d\r\n0\r\n\r\n"),
        ("3\r\nabc\r\n", "\r\n0\r\n\r\n"),
        ("3\r\nabc\r\n", "fffffffffffffff0\r\nabc"),
        ("", "ffffffffffffffff\r\nabc"),
        ("", "7fffffffffffffff\r\nabc"),
        ("3\r\nabc\r\n0\r\n", "bad name: 1\r\n\r\n"),
        ("3\r\nabc\r\n0\r\n", "no colon\r\n\r\n"),
        ("0\r\nX: 1\r\n", " folded\r\n\r\n"),
    ] {
        for (method, path) in [("POST", "/b"), ("POST", "/cached"), ("GET", "/cached"), ("GET", "/b")] {
            for is_whole in [true, false] {
                let mut raw = larder.raw().await;
                let head =
                    format!("{method} {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
                let rest = format!("{broken}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
                match is_whole {
                    true => drop(raw.send(format!("{head}{valid}{rest}")).await),
                    false => {
                        raw.send(format!("{head}{valid}")).await;
                        raw.send(rest).await;
                    }
                }
                assert_eq!(raw.status().await, 400, "{method} {path} {valid:?} {broken:?} {is_whole}");
                raw.rest().await;
                sent += 1.0;
            }
        }
    }
    assert_eq!(upstream.count("/smuggled"), 0);
    for path in ["/b", "/cached"] {
        assert!(upstream.received(path).iter().all(|request| request.aborted), "{path}");
    }
    let all =
        larder.metric("larder_requests_total{route=\"other\",outcome=\"error\",status_class=\"4xx\"}").await;
    let cached = larder
        .metric("larder_requests_total{route=\"/cached\",outcome=\"error\",status_class=\"4xx\"}")
        .await;
    assert_eq!(all + cached, sent);
}

#[tokio::test]
async fn an_upgrade_that_connection_does_not_name_is_not_forwarded() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    for path in ["/cached", "/b"] {
        larder.get(path).header("upgrade", "websocket").await.assert_status(200);
        assert_eq!(upstream.last(path).header("upgrade"), None, "{path}");
    }
    larder.get("/cached").header("upgrade", "websocket").await.assert_hit();
}

#[tokio::test]
async fn a_204_with_content_is_not_stored() {
    for framing in [
        "Content-Length: 4\r\n\r\nevil",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
        "\r\nevil",
    ] {
        let upstream = Upstream::start();
        upstream.on("/cached", Answer::raw(format!("HTTP/1.1 204 No Content\r\n{framing}")));
        let larder = Larder::with(YAML, &upstream);
        for _ in 0..2 {
            let reply = larder.get("/cached").await.assert_status(204).assert_text("");
            assert!(!reply.is_hit(), "{framing:?} {reply}");
        }
        assert_eq!(upstream.count("/cached"), 2, "{framing:?}");
    }
    let upstream = Upstream::start();
    upstream.on("/cached", Answer::status(204));
    let larder = Larder::with(YAML, &upstream);
    larder.get("/cached").await.assert_stored();
    larder.get("/cached").await.assert_hit().assert_status(204);
}

/// RFC 9112 §5.1.
#[tokio::test]
async fn white_space_before_the_colon_of_a_response_field_is_removed() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    for path in ["/cached", "/b"] {
        upstream.on(path, Answer::raw("HTTP/1.1 200 OK\r\nX-S : a\r\nContent-Length\t: 2\r\n\r\nok"));
        for _ in 0..2 {
            let reply = larder.get(path).await.assert_status(200).assert_text("ok");
            assert_eq!(reply.header("x-s").as_deref(), Some("a"), "{path}");
        }
    }
    upstream.on("/bad", Answer::raw("HTTP/1.1 200 OK\r\nX S: a\r\nContent-Length: 2\r\n\r\nok"));
    larder.get("/bad").await.assert_status(502);
}
