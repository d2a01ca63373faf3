//! The harness can be trusted: each of its parts, tried against the others without larder between them.

use crate::support::{Answer, Client, Raw, Redis, Upstream, bearer};

#[tokio::test]
async fn what_is_not_scripted_changes_with_each_request() {
    let upstream = Upstream::start();
    let client = Client::new(upstream.address());
    client.get("/a?x=1").await.assert_status(200).assert_text("GET /a?x=1 #1");
    client.get("/a").await.assert_text("GET /a #2");
    client.request("POST", "/b").body("content").await.assert_text("POST /b #1");
    assert_eq!((upstream.count("/a"), upstream.count("/b"), upstream.total()), (2, 1, 3));
    assert_eq!(upstream.last("/b").body, b"content");
    assert_eq!(upstream.received("/a")[0].query(), Some("x=1"));
    assert_eq!(upstream.last("/a").query(), None);
}

#[tokio::test]
async fn it_records_fields_in_their_order_and_spelling() {
    let upstream = Upstream::start();
    let mut raw = Raw::connect(upstream.address()).await;
    raw.send("PUT /a HTTP/1.1\r\nB-Second: 2\r\nA-First:1\r\nB-Second: 3\r\n").await;
    raw.send("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n").await;
    assert_eq!(raw.status().await, 200);
    let seen = upstream.last("/a");
    let names: Vec<_> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["B-Second", "A-First", "B-Second", "Transfer-Encoding"]);
    assert_eq!(seen.header("b-second").as_deref(), Some("2, 3"));
    assert_eq!((seen.method.as_str(), seen.body.as_slice()), ("PUT", b"abc".as_slice()));
    assert_eq!(seen.trailers, [("X-Sum".to_owned(), "9".to_owned())]);
}

#[tokio::test]
async fn one_time_answers_precede_scripted_ones() {
    let upstream = Upstream::start();
    upstream.on("/a", Answer::ok("standing").header("etag", "\"1\"")).once("/a", Answer::status(503));
    upstream.on("/f", |request: &_| Answer::ok(format!("{:?}", crate::support::Received::query(request))));
    let client = Client::new(upstream.address());
    client.get("/a").await.assert_status(503).assert_text("");
    client.get("/a").await.assert_text("standing").assert_header("etag", "\"1\"");
    client.request("HEAD", "/a").await.assert_header("content-length", "8").assert_text("");
    client.get("/f?q").await.assert_text("Some(\"q\")");
}

#[tokio::test]
async fn a_held_answer_is_settled_at_arrival_and_waits() {
    let upstream = Upstream::start();
    let client = Client::new(upstream.address());
    upstream.on("/a", Answer::ok("old"));
    let held = upstream.hold("/a");
    let slow = client.get("/a").spawn();
    held.arrived().await;
    upstream.on("/a", Answer::ok("new"));
    client.get("/a").await.assert_text("new");
    assert!(!slow.is_finished());
    held.release();
    slow.await.unwrap().assert_text("old");

    let every = upstream.hold_every("/a");
    let both = [client.get("/a").spawn(), client.get("/a").spawn()];
    every.arrived_times(2).await;
    assert!(both.iter().all(|reply| !reply.is_finished()));
    every.release();
    for reply in both {
        reply.await.unwrap().assert_text("new");
    }
}

#[tokio::test]
async fn it_cuts_resets_hangs_up_and_speaks_garbage() {
    let upstream = Upstream::start();
    let client = Client::new(upstream.address());
    upstream.on("/cut", Answer::ok("whole").cut_after(2));
    assert_eq!(client.get("/cut").start().await.broken_off().await, b"wh");
    upstream.on("/chunks", Answer::status(200).chunks(["ab", "cd"]).cut_after(3));
    assert_eq!(client.get("/chunks").start().await.broken_off().await, b"abc");
    upstream.on("/reset", Answer::ok("whole").reset_after(2));
    assert!(client.get("/reset").attempt().await.is_err());
    upstream.on("/gone", Answer::hang_up());
    assert!(client.get("/gone").attempt().await.is_err());
    upstream.on("/garbage", Answer::raw("SMTP ready\r\n\r\n"));
    assert!(client.get("/garbage").attempt().await.is_err());
    upstream.on("/close", Answer::status(200).until_close("to the end"));
    client.get("/close").await.assert_text("to the end").assert_header("content-length", None);
    upstream.on("/silent", Answer::silence());
    upstream.on("/stalls", Answer::ok("whole").silent_after(2));
    let mut raw = client.raw().await;
    raw.send("GET /stalls HTTP/1.1\r\n\r\n").await;
    assert_eq!(raw.read_until("\r\n\r\nwh").await.lines().next(), Some("HTTP/1.1 200 OK"));
    let silent = client.get("/silent").spawn();
    upstream.has_received("/silent", 1).await;
    assert!(!silent.is_finished());
    silent.abort();
    drop(raw);
    upstream.is_left_alone().await;
}

#[tokio::test]
async fn content_comes_part_by_part_with_trailers() {
    let upstream = Upstream::start();
    let client = Client::new(upstream.address());
    let (answer, feed) = Answer::fed();
    upstream.once("/fed", answer.header("trailer", "x-sum"));
    let mut reply = client.get("/fed").start().await;
    feed.send("one").await;
    assert_eq!(reply.read_until("one").await, "one");
    feed.send("two").await;
    assert_eq!(reply.read_until("two").await, "two");
    feed.end_with_trailer("x-sum", "6").await;
    assert_eq!(reply.whole().await.unwrap().trailers.unwrap()["x-sum"], "6");

    let (answer, feed) = Answer::fed();
    upstream.once("/fed", answer);
    let mut reply = client.get("/fed").start().await;
    feed.send("one").await;
    reply.read_until("one").await;
    feed.cut();
    assert_eq!(reply.broken_off().await, b"");

    let (answer, feed) = Answer::fed();
    upstream.once("/fed", answer);
    drop(client.get("/fed").start().await);
    feed.abandoned().await;

    upstream.on("/large", Answer::generated(200_000));
    let large = client.get("/large").await;
    assert_eq!(large.body.len(), 200_000);
    assert!(large.body.iter().enumerate().all(|(at, byte)| *byte == Answer::generated_byte(at as u64)));
}

#[tokio::test]
async fn a_connection_can_be_kept_taken_over_and_closed() {
    let upstream = Upstream::start();
    let client = Client::new(upstream.address());
    let mut kept = client.connection().await;
    kept.get("/a").await;
    kept.get("/a").await;
    client.get("/a").await;
    let connections: Vec<_> = upstream.received("/a").iter().map(|request| request.connection).collect();
    assert_eq!(connections, [0, 0, 1]);
    upstream.close_idle_connections().await;
    kept.closed().await;

    upstream.take_over("/echo", |mut wire| async move {
        let _ = wire.write("HTTP/1.1 101 Switching Protocols\r\n\r\n").await;
        loop {
            let bytes = wire.read().await;
            if bytes.is_empty() || wire.write(bytes).await.is_err() {
                return;
            }
        }
    });
    let mut raw = client.raw().await;
    assert_eq!(raw.send("GET /echo HTTP/1.1\r\n\r\n").await.status().await, 101);
    raw.send("ping").await;
    assert_eq!(raw.exactly(4).await, b"ping");
    raw.half_close().await;
    raw.is_closed().await;
}

#[tokio::test]
async fn a_reply_tells_what_cache_status_says() {
    let upstream = Upstream::start();
    let client = Client::new(upstream.address());
    let says = |status| Answer::ok("").header("cache-status", status);
    upstream.once("/a", says("other; hit, larder; fwd=uri-miss; stored; detail=\"x-y\""));
    let miss = client.get("/a").await.assert_fwd("uri-miss").assert_stored().assert_detail("x-y");
    assert_eq!(miss.cache_status("collapsed"), None);
    upstream.once("/a", says("larder; hit; ttl=-3"));
    assert_eq!(client.get("/a").await.assert_hit().remaining_ttl(), -3);
    upstream.once("/a", says("larder; fwd=miss; detail=private"));
    client.get("/a").await.assert_not_stored("private");
}

#[tokio::test]
async fn each_test_has_a_redis_of_its_own_that_can_fail() {
    let mut redis = Redis::start_with(&["--maxmemory", "20mb"]).await;
    let other = Redis::start().await;
    assert!(redis.url() != other.url() && redis.socket().exists());
    assert_eq!(redis.command(&["CONFIG", "GET", "maxmemory"]).await, "maxmemory\n20971520");
    assert_eq!(redis.command(&["SET", "key", "value"]).await, "OK");
    assert_eq!(redis.command(&["GET", "key"]).await, "value");
    assert_eq!(redis.command(&["INCR", "n"]).await, "1");
    assert!(redis.command(&["INCR", "key"]).await.starts_with("-ERR"));
    assert_eq!(other.command(&["GET", "key"]).await, "");
    redis.flush().await;
    assert_eq!(redis.command(&["DBSIZE"]).await, "0");
    redis.stop();
    let held = redis.command(&["PING"]);
    redis.cont();
    assert_eq!(held.await, "PONG");
    redis.restart().await;
    assert_eq!(redis.command(&["PING"]).await, "PONG");
}

#[tokio::test]
async fn http2_reaches_a_server_by_prior_knowledge() {
    let upstream = Upstream::start();
    upstream.take_over("*", |mut wire| async move {
        // The preface's head is all that is looked at: an HTTP/1.1 server sees `PRI * HTTP/2.0`.
        assert_eq!(wire.head.method, "PRI");
        let _ = wire.write("no").await;
    });
    assert!(Client::new(upstream.address()).get("/a").over_http2().attempt().await.is_err());
    assert_eq!(upstream.count("*"), 1);
}

#[test]
fn a_bearer_token_carries_its_claims() {
    assert!(bearer(r#"{"sub":"ann"}"#).starts_with("Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ."));
}
