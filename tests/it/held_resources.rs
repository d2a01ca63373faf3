//! Bounded resources are released: clients that stop reading, stop sending, or open a tunnel do not hold them for ever.

use crate::support::{Answer, Larder, Upstream};

const YAML: &str = "
upstream: { url: '${UPSTREAM}', response_timeout: 1s, connect_timeout: 200ms, max_connections: 1 }
limits: { body_timeout: 1s }
routes:
  - path: /cached
    ttl: 10m
    max_size: 1MiB
";

#[tokio::test]
async fn a_client_that_stops_reading_releases_the_upstream() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    for path in ["/cached", "/b"] {
        upstream.on(path, Answer::generated(256 << 20));
        let mut raw = larder.raw().await;
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!(raw.status().await, 200);
        upstream.is_left_alone().await;
        larder.metric_becomes("larder_connections", 0.0).await;
    }
    larder.get("/other").await.assert_status(200);
}

#[tokio::test]
async fn a_stalled_upload_after_its_answer_releases_both_sides() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    upstream.take_over("/b", |mut wire| async move {
        let _ = wire.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        while !wire.read().await.is_empty() {}
    });
    let mut raw = larder.raw().await;
    raw.send("POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n").await;
    assert_eq!(raw.status().await, 200);
    upstream.is_left_alone().await;
    larder.metric_becomes("larder_connections", 0.0).await;
}

#[tokio::test]
async fn a_tunnel_holds_its_place_among_the_streams_until_it_ends() {
    let upstream = Upstream::start();
    let larder = Larder::with(&YAML.replace("upstream: {", "upstream: { max_streams: 1,"), &upstream);
    upstream.take_over("/ws", |mut wire| async move {
        let _ = wire.write("HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await;
        while !wire.read().await.is_empty() {}
    });
    const WS: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let mut first = larder.raw().await;
    first.send(WS).await;
    assert_eq!(first.status().await, 101);
    // It takes no place of ordinary requests.
    larder.get("/b").await.assert_status(200);
    let mut second = larder.raw().await;
    second.send(WS).await;
    assert_eq!(second.status().await, 503);
    drop(first);
    upstream.is_left_alone().await;
    crate::support::eventually("the place is free", || async {
        let mut third = larder.raw().await;
        third.send(WS).await;
        (third.status().await == 101).then_some(())
    })
    .await;
}

/// Every part comes in time, but the end does not come.
#[tokio::test]
async fn an_endless_fetch_without_readers_is_abandoned() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    let (answer, feed) = Answer::fed();
    upstream.once("/cached", answer);
    let mut leader = larder.get("/cached").start().await;
    feed.send("x").await;
    leader.read_until("x").await;
    drop(leader);
    tokio::select! {
        biased;
        () = feed.abandoned() => {}
        () = drip(&feed) => {}
    }
    larder.get("/cached").await.assert_stored();
}

async fn drip(feed: &crate::support::Feed) {
    loop {
        feed.send("x").await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Bytes in one direction are enough to keep it.
#[tokio::test]
async fn a_tunnel_that_nothing_goes_through_is_closed() {
    const ROUNDS: usize = 10;
    let upstream = Upstream::start();
    upstream.take_over("/ws", |mut wire| async move {
        let _ = wire.write("HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await;
        for _ in 0..ROUNDS {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            let _ = wire.write(".").await;
        }
        while !wire.read().await.is_empty() {}
    });
    let larder = Larder::with(&YAML.replace("limits: {", "limits: { tunnel_idle: 1500ms,"), &upstream);
    let mut raw = larder.raw().await;
    raw.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
    assert_eq!(raw.status().await, 101);
    assert_eq!(raw.rest().await, ".".repeat(ROUNDS));
    upstream.is_left_alone().await;
    larder.metric_becomes("larder_connections", 0.0).await;
}
