//! Writes whose response streams may take effect until it ends, and are purged there once more.

use crate::support::{Answer, Feed, Larder, Streaming, Upstream, eventually};

const ROUTES: &str = "
routes:
  - {path: /messages, ttl: 10m, tags: [messages]}
  - {path: /chat, purges: [messages]}
";

/// A write whose response has begun, and the response that was stored meanwhile.
async fn begin(upstream: &Upstream, larder: &Larder, length: Option<&str>) -> (Streaming, Feed) {
    upstream.on("/messages", Answer::ok("old"));
    let (answer, feed) = Answer::fed();
    let answer = answer.header("content-type", "text/event-stream");
    upstream.once("/chat", length.into_iter().fold(answer, |answer, it| answer.header("content-length", it)));
    let mut reply = larder.request("POST", "/chat").start().await;
    assert!(!reply.headers.contains_key("larder-position"), "it is not purged yet");
    feed.send("data: 1\n\n").await;
    reply.read_until("data: 1\n\n").await;
    larder.get("/messages").await.assert_text("old").assert_stored();
    larder.get("/messages").await.assert_hit();
    upstream.on("/messages", Answer::ok("new"));
    (reply, feed)
}

#[tokio::test]
async fn a_streamed_write_is_purged_again_at_its_end() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    for (trailer, length) in [(false, None), (true, None), (false, Some("18"))] {
        let (reply, feed) = begin(&upstream, &larder, length).await;
        feed.send("data: 2\n\n").await;
        match trailer {
            true => feed.end_with_trailer("x-done", "yes").await,
            false => feed.end().await,
        }
        reply.whole().await.unwrap().assert_text("data: 2\n\n");
        larder.get("/messages").await.assert_text("new");
    }
}

#[tokio::test]
async fn a_write_whose_end_nobody_saw_stays_in_doubt() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let (reply, feed) = begin(&upstream, &larder, None).await;
    drop(reply);
    feed.abandoned().await;
    eventually("it is purged", || async { (larder.get("/messages").await.text() == "new").then_some(()) })
        .await;
    // It may still take effect.
    assert!(!larder.get("/messages").await.is_hit());
}

/// The upstream breaks off, and may go on working.
#[tokio::test]
async fn a_write_whose_response_is_cut_stays_in_doubt() {
    for answer in [Answer::ok("cut short").cut_after(3), Answer::ok("").chunks(["cut", "short"]).cut_after(3)]
    {
        let upstream = Upstream::start();
        let larder = Larder::with(ROUTES, &upstream);
        larder.get("/messages").await.assert_stored();
        upstream.on("/chat", answer);
        let reply = larder.request("POST", "/chat").start().await;
        assert_eq!((reply.status, reply.headers.contains_key("larder-position")), (200, false));
        assert!(reply.whole().await.is_err());
        larder.get("/messages").await;
        assert!(!larder.get("/messages").await.is_hit());
    }
}

#[tokio::test]
async fn a_response_of_unknown_length_that_ends_soon_is_purged_once() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    upstream.on("/chat", Answer::ok("").chunks(["a", "b"]));
    let reply = larder.request("POST", "/chat").await.assert_text("ab");
    assert!(reply.headers.contains_key("larder-position"));
}

/// The codings that browsers accept.
const CODINGS: &str = "gzip, deflate, br, zstd";

#[tokio::test]
async fn a_write_is_asked_for_a_response_that_can_be_read() {
    let upstream = Upstream::start();
    let larder = Larder::with(
        "
routes:
  - {path: '/stock/{id}', ttl: 10m, tags: ['stock:{id}']}
  - {path: /orders, purges: ['stock:{response.json:/id}']}
  - {path: /others, purges: [stock]}
",
        &upstream,
    );
    larder.get("/stock/7").await.assert_stored();
    upstream.on("/orders", Answer::json("{\"id\": 7}"));
    larder.request("POST", "/orders").header("accept-encoding", CODINGS).await.assert_status(200);
    assert_eq!(upstream.last("/orders").header("accept-encoding").as_deref(), Some("gzip"));
    assert!(!larder.get("/stock/7").await.is_hit());
    larder.request("POST", "/others").header("accept-encoding", CODINGS).await.assert_status(200);
    assert_eq!(upstream.last("/others").header("accept-encoding").as_deref(), Some(CODINGS));
}
