//! Bodies pass as they come, both ways, and larder holds no more of them than it said.

use std::time::{Duration, Instant};

use crate::support::{Answer, Larder, Process, Received, Upstream, Wire};

const ROUTES: &str = "
routes:
  - {path: /a, ttl: 60s}
  - {path: /never, ttl: never}
";

#[tokio::test]
async fn the_first_bytes_arrive_before_the_last_are_made() {
    for path in ["/a", "/never", "/other"] {
        let upstream = Upstream::start();
        let (answer, feed) = Answer::fed();
        upstream.once(path, answer);
        let larder = Larder::with(ROUTES, &upstream);
        let mut reply = larder.get(path).start().await;
        for part in ["one", "two", "three"] {
            feed.send(part).await;
            reply.read_until(part).await;
        }
        feed.end().await;
        reply.whole().await.unwrap().assert_text("");
    }
}

#[tokio::test]
async fn server_sent_events_are_not_held_back() {
    for path in ["/a", "/never"] {
        let upstream = Upstream::start();
        let (answer, feed) = Answer::fed();
        upstream.once(
            path,
            answer.header("content-type", "text/event-stream").header("cache-control", "no-cache"),
        );
        let larder = Larder::with(ROUTES, &upstream);
        let mut events = larder.get(path).header("accept", "text/event-stream").start().await;
        assert_eq!(events.headers["content-type"], "text/event-stream");
        for n in 0..3 {
            let event = format!("data: {n}\n\n");
            feed.send(event.clone()).await;
            assert_eq!(events.read_until("\n\n").await, event);
        }
        drop(events);
        feed.abandoned().await;
    }
}

#[tokio::test]
async fn an_event_stream_is_never_shared_or_stored() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let mut streams = vec![];
    for n in 1..=2 {
        let (answer, feed) = Answer::fed();
        upstream.once("/a", answer.header("content-type", "text/event-stream"));
        let mut events = larder.get("/a").start().await;
        feed.send(format!("data: {n}\n\n")).await;
        assert_eq!(events.read_until("\n\n").await, format!("data: {n}\n\n"));
        streams.push((events, feed));
    }
    assert_eq!(upstream.count("/a"), 2);
}

#[tokio::test]
async fn an_upload_reaches_the_upstream_part_by_part() {
    let upstream = Upstream::start();
    upstream.take_over("/upload", async |mut wire: Wire| {
        // Each chunk is answered by a line of its own before the next is sent.
        let _ = wire.write("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
        while let Ok(Some(chunk)) = wire.read_chunk().await {
            let _ = wire.write(chunk).await;
        }
        let _ = wire.write("|end").await;
    });
    let larder = Larder::with(ROUTES, &upstream);
    let mut raw = larder.raw().await;
    raw.send("POST /upload HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    raw.send("3\r\none\r\n").await;
    raw.read_until("one").await;
    raw.send("3\r\ntwo\r\n").await;
    raw.read_until("two").await;
    raw.send("0\r\n\r\n").await;
    raw.read_until("|end").await;
}

#[tokio::test]
async fn trailers_cross_both_ways() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    for path in ["/a", "/other"] {
        let answer = Answer::status(200).header("trailer", "x-sum").chunks(["content"]).trailer("x-sum", "7");
        upstream.on(path, answer);
        let mut raw = larder.raw().await;
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: api\r\nTE: trailers\r\n\r\n")).await;
        let reply = raw.read_until("0\r\n").await + &raw.read_until("\r\n\r\n").await;
        assert!(reply.ends_with("x-sum: 7\r\n\r\n"), "{path}: {reply}");
    }
    let mut raw = larder.raw().await;
    raw.send(
        "POST /up HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Cookie\r\n\r\n",
    )
    .await;
    // RFC 9110 §6.5.1: these belong into the header section.
    raw.send("3\r\nabc\r\n0\r\nX-Sum: 3\r\nCookie: a=b\r\nConnection: close\r\nHost: evil\r\n\r\n").await;
    assert_eq!(raw.status().await, 200);
    let seen: Vec<_> =
        upstream.last("/up").trailers.iter().map(|(n, v)| (n.to_lowercase(), v.clone())).collect();
    assert_eq!(seen, [("x-sum".to_owned(), "3".to_owned())]);
}

/// Nothing follows trailers (RFC 9112 §7.1.2), so the content before them is whole and can be read.
#[tokio::test]
async fn a_write_with_trailers_purges_all_that_it_names() {
    let upstream = Upstream::start();
    let routes =
        "[{path: \"/a/{id}\", ttl: 60s, tags: [\"t:{id}\"]}, {path: /w, purges: [\"t:{request.json:/id}\"]}]";
    for buffered in ["0", "64KiB"] {
        let yaml =
            format!("upstream: {{url: \"${{UPSTREAM}}\", buffer_requests: {buffered}}}\nroutes: {routes}");
        let larder = Larder::with(&yaml, &upstream);
        larder.get("/a/1").await.assert_stored();
        let mut raw = larder.raw().await;
        raw.send("POST /w HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n").await;
        raw.send("Content-Type: application/json\r\n\r\n8\r\n{\"id\":1}\r\n0\r\nX-Sum: 3\r\n\r\n").await;
        let head = raw.read_until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("larder-position"), "{buffered}: {head}");
        larder.get("/a/1").await.assert_fwd("uri-miss").assert_stored();
        larder.get("/a/1").await.assert_hit();
    }
}

/// A response that is read whole before it goes on keeps its trailers.
#[tokio::test]
async fn trailers_of_content_that_is_read_go_on() {
    let upstream = Upstream::start();
    let routes = "routes: [{path: /w, purges: [\"t:{response.json:/id}\"]}]";
    let larder = Larder::with(routes, &upstream);
    let answer = Answer::json("").header("trailer", "x-sum").chunks(["{\"id\"", ":1}"]).trailer("x-sum", "7");
    upstream.on("/w", answer);
    let reply = larder.request("POST", "/w").header("te", "trailers").await;
    let reply = reply.assert_text("{\"id\":1}").assert_header("content-length", None);
    assert_eq!(reply.trailers.expect("trailers")["x-sum"], "7");
}

/// RFC 9110 §6.6.2: `Trailer` tells what may come.
#[tokio::test]
async fn trailers_that_are_dropped_are_not_declared() {
    let upstream = Upstream::start();
    for (setting, expected) in [("drop", "x-ok"), ("pass", "x-ok, x_sum")] {
        let larder = Larder::with(&format!("underscores: {setting}\nroutes: []"), &upstream);
        for (declared, expected) in [("X-Ok, X_Sum,, Host, é", Some(expected)), ("Cookie", None)] {
            let mut raw = larder.raw().await;
            raw.send("POST /up HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n").await;
            raw.send(format!("Trailer: {declared}\r\n\r\n1\r\na\r\n0\r\nX-Ok: 1\r\n\r\n")).await;
            assert_eq!(raw.status().await, 200);
            let seen = upstream.last("/up").header("trailer").map(|names| names.to_lowercase());
            assert_eq!(seen.as_deref(), expected, "{setting}: {declared}");
        }
    }
}

/// RFC 9110 §5.1: a field has one name. The upstream may read `content_type` as the field with a dash.
#[tokio::test]
async fn trailers_with_underscores_are_treated_as_fields_are() {
    let upstream = Upstream::start();
    for (setting, expected) in
        [("drop", Some(&["x-ok"][..])), ("pass", Some(&["x-ok", "x_sum", "x!sum"])), ("refuse", None)]
    {
        let yaml = format!("underscores: {setting}\nroutes: [{{path: /a, ttl: 60s}}]");
        let larder = Larder::with(&yaml, &upstream);
        let names = [
            "X-Ok",
            "X_Sum",
            "X!Sum",
            "X_Forwarded_For",
            "X~Forwarded~For",
            "Content_Type",
            "Transfer_Encoding",
        ];
        let fields: String = names.iter().map(|name| format!("{name}: 1\r\n")).collect();
        for content in ["", "3\r\nabc\r\n"] {
            let mut raw = larder.raw().await;
            let announced = names.join(", ");
            raw.send(format!(
                "POST /up/{setting} HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\nTrailer: {announced}\r\n\r\n"
            ))
            .await;
            raw.send(format!("{content}0\r\n{fields}\r\n")).await;
            let Some(expected) = expected else {
                assert_eq!(raw.status().await, 400);
                continue;
            };
            assert_eq!(raw.status().await, 200, "{setting}");
            let last = upstream.last(&format!("/up/{setting}"));
            let seen: Vec<_> = last.trailers.iter().map(|(name, _)| name.to_lowercase()).collect();
            assert_eq!(seen, *expected, "{setting}");
        }
    }
    assert!(upstream.received("/up/refuse").iter().all(|request| request.aborted));
}

#[tokio::test]
async fn trailers_are_for_the_client_of_the_fetch() {
    let upstream = Upstream::start();
    let answer = Answer::status(200).header("trailer", "x-session-token").chunks(["content"]);
    upstream.on("/a", answer.trailer("x-session-token", "7"));
    let larder = Larder::with(ROUTES, &upstream);
    let held = upstream.hold("/a");
    let leader = larder.get("/a").header("te", "trailers").spawn();
    held.arrived().await;
    let follower = larder.get("/a").header("te", "trailers").spawn();
    larder.metric_becomes("larder_followers", 1.0).await;
    held.release();
    assert!(leader.await.unwrap().trailers.is_some());
    let follower = follower.await.unwrap();
    assert_eq!(follower.trailers, None);
    follower.assert_text("content").assert_header("trailer", None);
}

#[tokio::test]
async fn a_client_that_leaves_ends_a_download_that_nobody_else_reads() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    for path in ["/never", "/other"] {
        let (answer, feed) = Answer::fed();
        upstream.once(path, answer);
        let mut reply = larder.get(path).start().await;
        feed.send("one").await;
        reply.read_until("one").await;
        drop(reply);
        feed.abandoned().await;
    }
}

#[tokio::test]
async fn an_aborted_upload_is_aborted_at_the_upstream() {
    let upstream = Upstream::start();
    let yaml = format!("upstream: {{url: \"${{UPSTREAM}}\", buffer_requests: 0}}\n{ROUTES}");
    let larder = Larder::with(&yaml, &upstream);
    let mut raw = larder.raw().await;
    raw.send("POST /up HTTP/1.1\r\nHost: api\r\nContent-Length: 10\r\n\r\nhalf").await;
    drop(raw);
    upstream.has_received("/up", 1).await;
    let seen: &Received = &upstream.last("/up");
    assert!(seen.aborted, "{seen:?}");
}

/// A body of unknown length, much larger than what is kept of it, read at a pace: the upstream is faster. With
/// `LARDER_LONG=1` it is 1 GiB at 20 MB/s.
#[tokio::test]
async fn a_large_body_through_a_caching_route_takes_little_memory() {
    let long = std::env::var("LARDER_LONG").is_ok_and(|long| long == "1");
    let (length, bytes_a_second) = if long { (1 << 30, 20_000_000) } else { (96 << 20, 60_000_000) };
    let upstream = Upstream::start();
    upstream.on("/a", Answer::generated(length));
    let larder = Process::with(ROUTES, &upstream).await;
    larder.get("/other").await;
    let idle = larder.memory_now();

    let mut reply = larder.get("/a").start().await;
    let (mut read, begun) = (0, Instant::now());
    while let Some(part) = reply.next().await.expect("no break") {
        let expected = (read..).map(Answer::generated_byte);
        assert!(part.iter().step_by(997).copied().eq(expected.step_by(997).take(part.len().div_ceil(997))));
        read += part.len() as u64;
        let due = Duration::from_secs_f64(read as f64 / f64::from(bytes_a_second));
        tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
    }
    assert_eq!(read, length);
    let grown = larder.peak_memory().saturating_sub(idle);
    println!("{length} bytes read: peak memory is {} KiB over idle", grown / 1024);
    assert!(grown <= 32 << 20, "{grown} bytes over idle ({idle})");
}
