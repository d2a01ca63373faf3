//! Each thing that a client could have without end has one.

use crate::support::{Larder, Upstream, eventually};

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let upstream = Upstream::start();
    let larder = Larder::with("limits: {header_bytes: 16KiB}\nroutes: [{path: /a, ttl: 60s}]", &upstream);
    let fields = |count: usize, size: usize| format!("X-Field: {}\r\n", "x".repeat(size)).repeat(count);
    for (count, size, statuses) in [(1, 4000, [200, 200]), (5, 10_000, [431, 400]), (200, 1, [431, 400])] {
        let mut raw = larder.raw().await;
        raw.send(format!("GET /a HTTP/1.1\r\nHost: api\r\n{}\r\n", fields(count, size))).await;
        let status = raw.status().await;
        assert!(statuses.contains(&status), "{count} fields of {size}: {status}");
    }
    let mut raw = larder.raw().await;
    raw.send(format!("GET /{} HTTP/1.1\r\nHost: api\r\n\r\n", "a".repeat(100_000))).await;
    let status = raw.status().await;
    assert!([414, 431, 400].contains(&status), "{status}");
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn silent_and_dawdling_clients_are_let_go() {
    let upstream = Upstream::start();
    let limits = "limits: {header_timeout: 200ms, idle_timeout: 200ms}";
    let larder = Larder::with(&format!("{limits}\nroutes: []"), &upstream);
    for begun in ["", "G", "GET /a HTTP/1.1\r\nHost: a", "PRI * HTTP/2.0\r\n\r\nSM"] {
        let mut raw = larder.raw().await;
        raw.send(begun).await;
        let rest = raw.rest().await;
        assert!(
            rest.is_empty() || rest.starts_with("HTTP/1.1 4") || !rest.starts_with("HTTP"),
            "{begun:?}: {rest}"
        );
    }
    let mut idle = larder.connection().await;
    idle.get("/a").await;
    idle.closed().await;
}

#[tokio::test]
async fn a_connection_that_is_in_use_is_not_idle() {
    let upstream = Upstream::start();
    let larder = Larder::with("limits: {header_timeout: 100ms, idle_timeout: 100ms}\nroutes: []", &upstream);
    let (answer, feed) = crate::support::Answer::fed();
    upstream.once("/slow", answer);
    let mut slow = larder.get("/slow").start().await;
    let mut idle = larder.raw().await;
    idle.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    // The other connection is closed for idling while this one is in the middle of an answer.
    idle.rest().await;
    feed.send("still here").await;
    slow.until("still here").await;
    feed.end().await;
    slow.whole().await.unwrap().assert_text("");
}

#[tokio::test]
async fn beyond_the_limit_connections_wait_until_others_end() {
    let upstream = Upstream::start();
    let larder = Larder::with("limits: {connections: 2}\nroutes: []", &upstream);
    let mut first = larder.connection().await;
    let mut second = larder.connection().await;
    first.get("/a").await;
    second.get("/a").await;
    let third = larder.get("/third").spawn();
    // The two that are in still work, and the third is not served beside them.
    for _ in 0..10 {
        first.get("/a").await;
        second.get("/a").await;
    }
    assert_eq!(upstream.count("/third"), 0);
    drop(first);
    third.await.unwrap().assert_status(200);
    eventually("the count goes down", || async {
        (larder.metric("larder_connections").await <= 2.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn connections_to_the_upstream_are_bounded() {
    let upstream = Upstream::start();
    let yaml = "upstream: {url: \"${UPSTREAM}\", max_connections: 3}\nroutes: []";
    let larder = Larder::with(yaml, &upstream);
    let crowd: Vec<_> = (0..50).map(|_| larder.get("/a").spawn()).collect();
    for reply in crowd {
        reply.await.unwrap().assert_status(200);
    }
    let connections: std::collections::BTreeSet<_> =
        upstream.received("/a").iter().map(|request| request.connection).collect();
    // Workers keep the connections that they are done with for a while, each its own.
    assert!(connections.len() <= 20, "{connections:?}");
    let held = upstream.hold_every("/a");
    let crowd: Vec<_> = (0..10).map(|_| larder.get("/a").spawn()).collect();
    held.arrived_times(3).await;
    larder.metric_becomes("larder_connections", 10.0).await;
    assert_eq!(upstream.count("/a"), 53);
    held.release();
    for reply in crowd {
        reply.await.unwrap();
    }
}

#[tokio::test]
async fn memory_for_stored_responses_is_bounded() {
    let upstream = Upstream::start();
    let body = vec![b'x'; 100_000];
    upstream.on("/a", crate::support::Answer::ok(body));
    let larder = Larder::with("store: {memory: 2MiB}\nroutes: [{path: /a, ttl: 60s}]", &upstream);
    for n in 0..100 {
        larder.get(&format!("/a?{n}")).await.assert_status(200);
    }
    let stored = larder.metric("larder_stored_bytes").await;
    assert!(stored > 0.0 && stored <= f64::from(2 << 20), "{stored}");
    assert!(larder.metric("larder_evicted_total").await > 0.0);
}
