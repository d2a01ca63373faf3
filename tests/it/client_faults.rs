//! Clients that close one half, leave, or push on: what they asked for happens once, in order, and within bounds.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::support::{Larder, Process, Upstream, with_deadline};

const ROUTES: &str = "
routes:
  - {path: /a, ttl: 60s}
  - {path: /never, ttl: never}
  - {path: /w, purges: [x]}
  - {path: /empty, purges: []}
";

#[tokio::test]
async fn a_half_closed_client_gets_the_whole_answer() {
    for (method, path) in
        [("GET", "/a"), ("GET", "/never"), ("GET", "/other"), ("POST", "/w"), ("POST", "/empty")]
    {
        let upstream = Upstream::start();
        let larder = Larder::with(ROUTES, &upstream);
        let held = upstream.hold(path);
        let mut raw = larder.raw().await;
        raw.send(format!("{method} {path} HTTP/1.1\r\nHost: api\r\nContent-Length: 0\r\n\r\n")).await;
        held.arrived().await;
        raw.half_close().await;
        held.release();
        let rest = raw.rest().await;
        let answer = format!("{method} {path} #1");
        assert!(rest.ends_with(&answer), "{method} {path}: {rest}");
        assert_eq!(upstream.count(path), 1);
        larder.metric_becomes("larder_connections", 0.0).await;
    }
}

/// The second upload has begun when the first is answered, and its content is no rest of the first one's.
#[tokio::test]
async fn pipelined_uploads_are_all_answered() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let content = "x".repeat(6000);
    let known = format!("Content-Length: {}\r\n\r\n{content}", content.len());
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{content}\r\n0\r\n\r\n", content.len());
    for (number, framed) in [known, chunked].iter().enumerate() {
        let path = format!("/upload/{number}");
        let upload = format!("POST {path} HTTP/1.1\r\nHost: api\r\n{framed}");
        let mut raw = larder.raw().await;
        raw.send(upload.repeat(4)).await;
        for _ in 0..4 {
            let head = raw.head().await;
            assert!(head.starts_with("HTTP/1.1 200 ") && !head.contains("connection: close"), "{head}");
            raw.exactly(format!("POST {path} #1").len()).await;
        }
        assert_eq!(upstream.count(&path), 4);
    }
}

/// Tens of thousands of requests wait behind a slow one: they wait in the client's own socket, not in larder.
#[tokio::test]
async fn pipelined_requests_wait_and_are_answered_in_order() {
    const PIECE: usize = 64;
    let upstream = Upstream::start();
    let larder = Process::with(ROUTES, &upstream).await;
    larder.get("/a").header("host", "api").await.assert_status(200);
    let idle = larder.allocated_now();
    let held = upstream.hold("/slow");
    let stream = tokio::net::TcpStream::connect(larder.address()).await.expect("connected");
    let (reading, mut writing) = stream.into_split();
    writing.write_all(b"GET /slow HTTP/1.1\r\nHost: api\r\n\r\n").await.expect("sent");
    held.arrived().await;
    // Send until larder takes no more.
    let padding = "x".repeat(4000);
    let piece = format!("GET /a HTTP/1.1\r\nHost: api\r\nX-Padding: {padding}\r\n\r\n").repeat(PIECE);
    let mut sent = 0;
    while let Ok(written) =
        tokio::time::timeout(Duration::from_millis(500), writing.write_all(piece.as_bytes())).await
    {
        written.expect("it is open");
        sent += PIECE;
        assert!(sent < 100_000, "larder takes requests without end");
    }
    let grown = larder.allocated_now().saturating_sub(idle);
    println!("{sent} requests taken by the sockets, and {} KiB by larder", grown / 1024);
    assert!(grown < 32 << 20, "{grown} bytes");
    // The piece that was cut off in the middle can't be completed: no more requests come.
    drop(writing);
    held.release();
    let replies = replies(reading).await;
    let slow = replies.find("GET /slow #1").expect("the slow one is answered");
    assert_eq!(replies.find("GET /a #1").map(|first| first > slow), Some(true));
    assert_eq!(upstream.count("/slow"), 1);
}

async fn replies(mut reading: tokio::net::tcp::OwnedReadHalf) -> String {
    use tokio::io::AsyncReadExt;
    let mut replies = Vec::new();
    // A connection that is reset at its end has said what it had to say.
    let _ = with_deadline("the end", reading.read_to_end(&mut replies)).await;
    String::from_utf8_lossy(&replies).into_owned()
}
