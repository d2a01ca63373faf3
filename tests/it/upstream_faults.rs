//! An upstream that fails in every way: the client is told which, what was cut looks cut, and nothing of it is kept.

use crate::support::{Answer, Larder, Upstream, Wire};

const ROUTES: &str = "
upstream: {url: \"${UPSTREAM}\", response_timeout: 300ms, connect_timeout: 300ms}
routes:
  - {path: /a, ttl: 60s}
";

const PATHS: [&str; 2] = ["/a", "/other"];

#[tokio::test]
async fn an_unusable_answer_becomes_a_named_error() {
    let huge = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: 1\r\n".repeat(1000));
    for (what, answer, status, text) in [
        ("closes without a byte", Answer::hang_up(), 502, "closed the connection"),
        ("resets without a byte", Answer::raw("").reset_after(0), 502, "closed the connection"),
        ("never answers", Answer::silence(), 504, "did not answer in time"),
        ("another protocol", Answer::raw("SSH-2.0-OpenSSH\r\n\r\n"), 502, "not valid HTTP"),
        ("HTTP/0.9", Answer::raw("<html>hello</html>"), 502, ""),
        ("a status of four digits", Answer::raw("HTTP/1.1 1000 Much\r\n\r\n"), 502, "not valid HTTP"),
        ("a NUL in a field", Answer::raw("HTTP/1.1 200 OK\r\nX: \0\r\n\r\n"), 502, "not valid HTTP"),
        ("a head of 1 MiB", Answer::raw(huge), 502, ""),
        ("a thousand fields", Answer::raw(many), 502, ""),
        (
            "two lengths",
            Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"),
            502,
            "not valid HTTP",
        ),
        ("a length that is none", Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabc"), 502, ""),
        ("101 unasked", Answer::raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"), 502, ""),
        ("half a head", Answer::raw("HTTP/1.1 200 OK\r\nX-He"), 502, ""),
    ] {
        for path in PATHS {
            let upstream = Upstream::start();
            upstream.on(path, answer.clone());
            let larder = Larder::with(ROUTES, &upstream);
            let reply = larder.get(path).await;
            assert_eq!(reply.status, status, "{what}: {reply}");
            assert!(reply.text().starts_with("larder: ") && reply.text().contains(text), "{what}: {reply}");
            let reply = reply.assert_header("content-type", "text/plain; charset=utf-8");
            assert!(!reply.text().contains("127.0.0.1"), "{what}: {reply}");
            upstream.on(path, Answer::ok("well again"));
            assert!(!larder.get(path).await.assert_status(200).assert_text("well again").is_hit(), "{what}");
        }
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_a_502() {
    for nowhere in
        [Upstream::nowhere(), "http://does-not-exist.invalid:80".to_owned(), "unix:/nowhere.sock".to_owned()]
    {
        let larder = Larder::with_upstream_url(&nowhere, "routes: [{path: /a, ttl: 60s}]");
        for path in PATHS {
            let reply = larder.get(path).await.assert_status(502);
            assert_eq!(reply.text(), "larder: the upstream can't be reached\n", "{nowhere}");
        }
        larder.request("POST", "/a").body("x").await.assert_status(502);
    }
}

#[tokio::test]
async fn a_truncated_body_is_truncated_and_not_stored() {
    let ten = || Answer::ok("0123456789");
    let chunks = || Answer::status(200).chunks(["0123", "4567", "89"]);
    for (what, answer) in [
        ("cut within its length", ten().cut_after(4)),
        ("reset within its length", ten().reset_after(4)),
        ("silent within its length", ten().silent_after(4)),
        ("cut between chunks", chunks().cut_after(4)),
        ("cut within a chunk", chunks().cut_after(6)),
        ("cut before the last chunk", chunks().cut_after(10)),
        ("silent between chunks", chunks().silent_after(8)),
        (
            "a chunk of no size",
            Answer::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n0123"),
        ),
    ] {
        for path in PATHS {
            let upstream = Upstream::start();
            upstream.on(path, answer.clone());
            let larder = Larder::with(ROUTES, &upstream);
            match larder.get(path).try_start().await {
                Ok(reply) if reply.status == 200 => {
                    let received = reply.broken_off().await;
                    assert!(b"0123456789".starts_with(&received), "{what}: {received:?}");
                }
                Ok(reply) => assert_eq!(reply.status, 502, "{what}"),
                Err(_) => {}
            }
            upstream.on(path, Answer::ok("well again"));
            larder.get(path).await.assert_status(200).assert_text("well again");
        }
    }
}

#[tokio::test]
async fn surplus_bytes_are_never_taken_for_the_next_answer() {
    for surplus in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil",
        "HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    ] {
        let upstream = Upstream::start();
        upstream.take_over("/a", move |mut wire: Wire| async move {
            let _ = wire.write(surplus).await;
            while !wire.read().await.is_empty() {}
        });
        let larder = Larder::with("routes: []", &upstream);
        let mut connection = larder.connection().await;
        let first = connection.get("/a").await;
        assert!(!first.text().contains("evil"), "{first}");
        for n in 1..4 {
            connection.get("/next").await.assert_text(&format!("GET /next #{n}"));
        }
    }
}

#[tokio::test]
async fn two_framings_are_one_framing_or_an_error() {
    let upstream = Upstream::start();
    let both =
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    upstream.on("/a", Answer::raw(both));
    let larder = Larder::with(ROUTES, &upstream);
    let reply = larder.get("/a").await;
    assert!(reply.status == 502 || reply.text() == "hello", "{reply}");
    assert!(
        reply.status == 502 || reply.header("content-length").is_none_or(|length| length == "5"),
        "{reply}"
    );
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_retried() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: []", &upstream);
    for n in 1..=20 {
        larder.get("/x").await.assert_text(&format!("GET /x #{n}"));
        upstream.close_idle_connections().await;
    }
    for n in 1..=10 {
        larder.request("POST", "/y").body("x").await.assert_text(&format!("POST /y #{n}"));
        upstream.close_idle_connections().await;
    }
}

#[tokio::test]
async fn a_write_is_never_sent_twice() {
    let upstream = Upstream::start();
    upstream.on("/w", Answer::hang_up());
    let larder = Larder::with(ROUTES, &upstream);
    for method in ["POST", "PATCH", "PUT", "DELETE"] {
        let mut connection = larder.connection().await;
        connection.get("/warm").await;
        larder.request(method, "/w").body("x").await.assert_status(502);
    }
    assert_eq!(upstream.count("/w"), 4);
}

#[tokio::test]
async fn interim_answers_are_not_the_answer() {
    let upstream = Upstream::start();
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(3);
    upstream.on("/a", Answer::raw(format!("{hints}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")));
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/a").await.assert_status(200).assert_text("ok");
    larder.get("/a").await.assert_hit().assert_text("ok");
}

#[tokio::test]
async fn one_slow_answer_does_not_slow_the_others() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: []", &upstream);
    let held = upstream.hold_every("/slow");
    let slow: Vec<_> = (0..50).map(|_| larder.get("/slow").spawn()).collect();
    held.arrived_times(50).await;
    for _ in 0..10 {
        larder.get("/quick").await.assert_status(200);
    }
    held.release();
    for reply in slow {
        reply.await.unwrap().assert_status(200);
    }
}
