//! Connections to the upstream are shared fairly: uploads, event streams and slow readers can't hold all of them.

use crate::support::{Answer, Larder, Upstream};

fn yaml(settings: &str) -> String {
    format!("upstream: {{url: \"${{UPSTREAM}}\", {settings}}}\nroutes: [{{path: '/a', ttl: 60s}}]")
}

#[tokio::test]
async fn uploads_leave_a_quarter_of_the_connections_to_other_requests() {
    let upstream = Upstream::start();
    let larder =
        Larder::with(&yaml("max_connections: 4, queue_timeout: 100ms, buffer_requests: 0"), &upstream);
    upstream.take_over("/up", |mut wire| async move { while !wire.read().await.is_empty() {} });
    let begin = async || {
        let mut raw = larder.raw().await;
        raw.send("POST /up HTTP/1.1\r\nHost: api\r\nContent-Length: 10\r\n\r\nx").await;
        raw
    };
    let mut uploads = Vec::new();
    for number in 1..=3 {
        uploads.push(begin().await);
        upstream.has_received("/up", number).await;
    }
    assert_eq!(begin().await.status().await, 503);
    larder.get("/quick").await.assert_status(200);
    assert_eq!(upstream.count("/up"), 3);
}

#[tokio::test]
async fn a_small_request_takes_a_connection_only_when_it_is_whole() {
    let upstream = Upstream::start();
    let larder = Larder::with(&yaml("max_connections: 1, queue_timeout: 100ms"), &upstream);
    let mut slow = larder.raw().await;
    slow.send("POST /up HTTP/1.1\r\nHost: api\r\nContent-Length: 4\r\n\r\nab").await;
    larder.get("/quick").await.assert_status(200);
    larder.request("POST", "/other").body("whole").await.assert_status(200);
    assert_eq!(upstream.count("/up"), 0);
    slow.send("cd").await;
    assert_eq!(slow.status().await, 200);
    assert_eq!(upstream.last("/up").body, b"abcd");
    // One that is never whole is never forwarded.
    let mut cut = larder.raw().await;
    cut.send("POST /cut HTTP/1.1\r\nHost: api\r\nContent-Length: 4\r\n\r\nab").await;
    drop(cut);
    larder.get("/quick").await.assert_status(200);
    assert_eq!(upstream.count("/cut"), 0);
}

#[tokio::test]
async fn event_streams_have_connections_of_their_own() {
    let upstream = Upstream::start();
    let settings = "max_connections: 2, max_streams: 3, queue_timeout: 100ms, response_timeout: 100ms";
    let larder = Larder::with(&yaml(settings), &upstream);
    let mut streams = Vec::new();
    for _ in 0..3 {
        let (answer, feed) = Answer::fed();
        upstream.once("/events", answer.header("content-type", "text/event-stream"));
        let mut reply = larder.get("/events").start().await;
        feed.send("data: 1\n\n").await;
        reply.read_until("data: 1\n\n").await;
        streams.push((reply, feed));
    }
    // A fourth exceeds the allowance, and nothing else suffers.
    let (answer, _feed) = Answer::fed();
    upstream.once("/events", answer.header("content-type", "text/event-stream"));
    larder.get("/events").await.assert_status(503);
    larder.get("/quick").await.assert_status(200);
    // They are quiet for as long as `response_timeout`.
    let held = upstream.hold("/late");
    larder.get("/late").await.assert_status(504);
    held.release();
    for (reply, feed) in &mut streams {
        feed.send("data: 2\n\n").await;
        reply.read_until("data: 2\n\n").await;
    }
}

#[tokio::test]
async fn a_response_that_is_not_read_gives_way_to_a_request() {
    let upstream = Upstream::start();
    upstream.on("/big", |_: &_| Answer::generated(64 << 20));
    let larder = Larder::with(&yaml("max_connections: 1, queue_timeout: 20s"), &upstream);
    let mut stalled = larder.raw().await;
    stalled.send("GET /big HTTP/1.1\r\nHost: api\r\n\r\n").await;
    assert_eq!(stalled.status().await, 200);
    larder.get("/quick").await.assert_status(200);
}

#[tokio::test]
async fn a_routes_timeouts_win_over_the_upstreams() {
    let upstream = Upstream::start();
    let yaml = "upstream: {url: \"${UPSTREAM}\", response_timeout: 100ms}\n\
                routes:\n\
                - {path: /poll, ttl: never, timeout: 20s}\n\
                - {path: /report, ttl: never, response_timeout: 20s}\n\
                - {path: /quiet, ttl: never, idle_timeout: 20s}";
    let larder = Larder::with(yaml, &upstream);
    for path in ["/poll", "/report"] {
        let held = upstream.hold(path);
        let reply = larder.get(path).spawn();
        held.arrived().await;
        // A request without such a route waits for as long, and fails.
        let other = upstream.hold("/other");
        larder.get("/other").await.assert_status(504);
        other.release();
        held.release();
        reply.await.unwrap().assert_status(200);
    }
    let (answer, feed) = Answer::fed();
    upstream.once("/quiet", answer);
    let mut quiet = larder.get("/quiet").start().await;
    feed.send("one").await;
    quiet.read_until("one").await;
    let other = upstream.hold("/other");
    larder.get("/other").await.assert_status(504);
    other.release();
    feed.send("two").await;
    quiet.read_until("two").await;
}
