//! Connections to the upstream are shared fairly: uploads, event streams and slow readers can't hold all of them.

use crate::support::{Answer, Larder, Upstream, eventually};

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
async fn lines_of_json_may_be_quiet() {
    let upstream = Upstream::start();
    let larder = Larder::with(&yaml("response_timeout: 100ms"), &upstream);
    for media_type in ["application/x-ndjson", "application/stream+json; charset=utf-8"] {
        let (answer, feed) = Answer::fed();
        upstream.once("/lines", answer.header("content-type", media_type));
        let mut lines = larder.get("/lines").start().await;
        for line in ["{}\n", "[]\n"] {
            feed.send(line).await;
            lines.read_until(line).await;
            let held = upstream.hold("/late");
            larder.get("/late").await.assert_status(504);
            held.release();
        }
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

const SHARED: &str = "trusted_proxies: [127.0.0.0/8]
upstream: {url: \"${UPSTREAM}\", max_connections: 4, max_streams: 3, max_per_client: 2, queue_timeout: 100ms, buffer_requests: 0}
routes: [{path: '/a', ttl: 60s}]";

const ONE: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

#[tokio::test]
async fn one_client_has_a_share_of_the_connections() {
    let upstream = Upstream::start();
    let larder = Larder::with(SHARED, &upstream);
    let by = |client: &'static str, path: &str| larder.get(path).header("x-forwarded-for", client);
    let held = upstream.hold_every("/slow");
    let slow: Vec<_> = (0..2).map(|_| by(ONE, "/slow").spawn()).collect();
    held.arrived_times(2).await;
    for path in ["/quick", "/a"] {
        by(ONE, path).await.assert_status(503);
        by(OTHER, path).await.assert_status(200);
    }
    assert_eq!(larder.metric("larder_upstream_failures_total{reason=\"client-busy\"}").await, 2.0);
    held.release();
    for reply in slow {
        reply.await.expect("no panic").assert_status(200);
    }
    by(ONE, "/quick").await.assert_status(200);
}

#[tokio::test]
async fn one_client_has_a_share_of_the_uploads_and_streams() {
    let upstream = Upstream::start();
    let larder = Larder::with(SHARED, &upstream);
    upstream.take_over("/up", |mut wire| async move { while !wire.read().await.is_empty() {} });
    let begin = async |client: &str| {
        let mut raw = larder.raw().await;
        let fields = format!("Host: api\r\nX-Forwarded-For: {client}\r\nContent-Length: 10");
        raw.send(format!("POST /up HTTP/1.1\r\n{fields}\r\n\r\nx")).await;
        raw
    };
    let mut uploads = Vec::new();
    for number in 1..=2 {
        uploads.push(begin(ONE).await);
        upstream.has_received("/up", number).await;
    }
    assert_eq!(begin(ONE).await.status().await, 503);
    let of_other = begin(OTHER).await;
    upstream.has_received("/up", 3).await;
    drop((uploads, of_other));
    let mut streams = Vec::new();
    for (client, status) in [(ONE, 200), (ONE, 200), (ONE, 503), (OTHER, 200), (OTHER, 503)] {
        let (answer, feed) = Answer::fed();
        upstream.once("/events", answer.header("content-type", "text/event-stream"));
        // The uploads' connections are free once they are closed.
        let reply = eventually("it has a connection", || async {
            let events = larder.get("/events").header("x-forwarded-for", client);
            let reply = events.start().await;
            (status == 503 || reply.status != 503).then_some(reply)
        })
        .await;
        assert_eq!(reply.status, status, "{client}");
        streams.push((reply, feed));
    }
}

#[tokio::test]
async fn an_upload_that_goes_on_after_its_answer_keeps_its_connection() {
    let upstream = Upstream::start();
    let settings = "max_connections: 1, queue_timeout: 100ms, buffer_requests: 0";
    let larder = Larder::with(&yaml(settings), &upstream);
    upstream.take_over("/up", |mut wire| async move {
        _ = wire.write("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").await;
        while !wire.read().await.is_empty() {}
    });
    let begin = async || {
        let mut raw = larder.raw().await;
        raw.send("POST /up HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n").await;
        let status = raw.status().await;
        (raw, status)
    };
    let (answered, status) = begin().await;
    assert_eq!(status, 401);
    assert_eq!(begin().await.1, 503);
    assert_eq!(upstream.count("/up"), 1);
    drop(answered);
    eventually("the connection is free", || async { (begin().await.1 == 401).then_some(()) }).await;
}
