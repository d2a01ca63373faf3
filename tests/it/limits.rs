//! Each thing that a client could have without end has one.

use std::time::{Duration, Instant};

use crate::support::{Answer, Larder, Process, Raw, Upstream, eventually, free_port, one_crowd};

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
    assert_eq!(raw.status().await, 414);
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
    slow.read_until("still here").await;
    feed.end().await;
    slow.whole().await.unwrap().assert_text("");
}

#[tokio::test]
async fn an_upload_that_stalls_is_ended_on_both_sides() {
    for begun in ["half", ""] {
        let upstream = Upstream::start();
        let yaml = "upstream: {url: \"${UPSTREAM}\", response_timeout: 300ms}\nroutes: []";
        let larder = Larder::with(yaml, &upstream);
        let mut raw = larder.raw().await;
        raw.send("POST /up HTTP/1.1\r\nHost: api\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
            .await;
        assert_eq!(raw.status().await, 100);
        raw.send(begun).await;
        assert_eq!(raw.status().await, 408);
        raw.rest().await;
        upstream.is_left_alone().await;
        assert!(upstream.received("/up").iter().all(|request| request.aborted));
    }
}

#[tokio::test]
async fn a_client_that_sends_no_more_gets_its_answer() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: /a, ttl: 60s}]", &upstream);
    larder.get("/a").header("host", "api").await.assert_stored();
    for _ in 0..20 {
        let mut raw = larder.raw().await;
        raw.send("GET /a HTTP/1.1\r\nHost: api\r\n\r\n").await;
        raw.half_close().await;
        let rest = raw.rest().await;
        assert!(rest.ends_with("GET /a #1"), "{rest}");
    }
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

#[tokio::test]
async fn header_timeout_counts_from_the_first_byte() {
    let upstream = Upstream::start();
    let larder = Larder::with("limits: {header_timeout: 200ms, idle_timeout: 1h}\nroutes: []", &upstream);
    for before in [0, 1] {
        let mut raw = larder.raw().await;
        for _ in 0..before {
            raw.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert_eq!(raw.status().await, 200);
            raw.read_until(&format!("GET /a #{}", upstream.count("/a"))).await;
        }
        let begun = Instant::now();
        // Byte by byte: each comes well in time, the head does not.
        for byte in "GET /a HTTP/1.1\r\nHost: a\r\nX: ".bytes().chain(std::iter::repeat_n(b'x', 1000)) {
            raw.send([byte]).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            if larder.metric("larder_connections").await == 0.0 {
                break;
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        raw.rest().await;
    }
}

#[tokio::test]
async fn a_stalled_upload_ends_and_never_looks_complete() {
    let upstream = Upstream::start();
    let upload =
        "upstream: {url: \"${UPSTREAM}\", buffer_requests: 0}\nlimits: {body_timeout: 200ms}\nroutes: []";
    let larder = Larder::with(upload, &upstream);
    for content in ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let mut raw = larder.raw().await;
        raw.send(format!("POST /w HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{content}")).await;
        let mut status = raw.status().await;
        if status == 100 {
            status = raw.status().await;
        }
        assert_eq!(status, 408, "{content}");
        raw.rest().await;
    }
    upstream.has_received("/w", 2).await;
    assert!(upstream.received("/w").iter().all(|request| request.aborted));
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_let_go() {
    let upstream = Upstream::start();
    upstream.on("/large", Answer::ok(vec![b'x'; 8 << 20]));
    let larder = Larder::with("limits: {body_timeout: 200ms}\nroutes: [{path: /large, ttl: 60s}]", &upstream);
    for _ in 0..2 {
        let mut raw = larder.raw().await;
        raw.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
        larder.metric_becomes("larder_connections", 1.0).await;
        larder.metric_becomes("larder_connections", 0.0).await;
    }
    assert_eq!(larder.get("/large").header("host", "a").await.assert_hit().body.len(), 8 << 20);
}

#[tokio::test]
async fn a_route_bounds_its_requests_in_all() {
    let upstream = Upstream::start();
    let routes = "[{path: /a, ttl: 60s, timeout: 200ms}, {path: /w, purges: [x], timeout: 200ms, response_timeout: 1h}]";
    let larder = Larder::with(&format!("routes: {routes}"), &upstream);
    let held = upstream.hold("/a");
    larder.get("/a").await.assert_status(504);
    held.release();
    // The fetch itself went on, for whoever comes next.
    eventually("it is stored", || async { larder.get("/a").await.is_hit().then_some(()) }).await;
    let (answer, feed) = Answer::fed();
    upstream.once("/a", answer);
    let held = upstream.hold("/w");
    larder.request("POST", "/w").await.assert_status(504);
    // By the time-out, and at its end.
    larder.metric_becomes("larder_purges_total{source=\"write\"}", 1.0).await;
    held.release();
    larder.metric_becomes("larder_purges_total{source=\"write\"}", 2.0).await;
    larder.request("PURGE", "/a").await.assert_status(200);
    let mut cut = larder.get("/a").start().await;
    feed.send("begun").await;
    cut.read_until("begun").await;
    assert!(cut.whole().await.is_err());
}

#[tokio::test]
async fn the_breaker_opens_and_closes_with_the_upstream() {
    let port = free_port();
    let address = format!("http://127.0.0.1:{port}");
    let text = format!("upstream: {{url: \"{address}\", breaker: 5}}\nroutes: []");
    let larder = Larder::with_upstream_url(&address, &text);
    for _ in 0..5 {
        larder.get("/a").await.assert_status(502);
    }
    let refused = larder.get("/a").await.assert_status(503);
    assert_eq!(refused.header("retry-after").as_deref(), Some("1"));
    assert!(larder.metric("larder_upstream_failures_total{reason=\"circuit-open\"}").await >= 1.0);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("its port");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                .await;
        }
    });
    eventually("it is asked again", || async { (larder.get("/a").await.status == 200).then_some(()) }).await;
    for _ in 0..5 {
        larder.get("/a").await.assert_text("ok");
    }
}

/// Requests for one slow path that time out together say nothing about an upstream that answers others meanwhile.
#[tokio::test]
async fn a_slow_path_does_not_open_the_breaker_for_the_others() {
    let upstream = Upstream::start();
    upstream.on("/slow", Answer::silence()).on("/impatient", Answer::silence());
    let larder = Larder::with(
        "upstream: {url: \"${UPSTREAM}\", breaker: 3, response_timeout: 2s}
routes: [{path: /impatient, ttl: never, response_timeout: 50ms}]",
        &upstream,
    );
    let slow: Vec<_> = (0..6).map(|_| larder.get("/slow").spawn()).collect();
    upstream.has_received("/slow", 6).await;
    larder.get("/quick").await.assert_status(200);
    // These end long before a request with the upstream's own time would.
    for _ in 0..6 {
        larder.get("/impatient").await.assert_status(504);
    }
    larder.request("POST", "/quick").await.assert_status(200);
    for reply in slow {
        reply.await.expect("a reply").assert_status(504);
    }
    larder.request("POST", "/quick").await.assert_status(200);
    assert_eq!(larder.metric("larder_upstream_failures_total{reason=\"circuit-open\"}").await, 0.0);
}

#[tokio::test]
async fn http_2_has_the_same_bound_on_fields() {
    let upstream = Upstream::start();
    let larder = Larder::with("limits: {header_count: 20}\nroutes: []", &upstream);
    for (count, status) in [(10, 200), (30, 431)] {
        for over_http2 in [false, true] {
            let mut request = larder.get("/a");
            for number in 0..count {
                request = request.header(&format!("x-{number}"), "1");
            }
            let request = if over_http2 { request.over_http2() } else { request };
            request.await.assert_status(status);
        }
    }
}

/// Connections that asked once and stay.
async fn idle(address: std::net::SocketAddr, count: usize) -> Vec<Raw> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let mut raw = Raw::connect(address).await;
        raw.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(raw.status().await, 200);
        raw.exactly("GET /a #1".len()).await;
        connections.push(raw);
    }
    connections
}

#[tokio::test]
async fn ten_thousand_idle_connections_take_little_memory() {
    const CONNECTIONS: usize = 10_000;
    let _only = one_crowd(CONNECTIONS + 1000).await;
    let upstream = Upstream::start();
    let limits = "limits: {connections: 11000, connections_per_client: off, idle_timeout: 1h}";
    let process = Process::with(&format!("{limits}\nroutes: [{{path: /a, ttl: 1h}}]"), &upstream).await;
    drop(idle(process.address(), 50).await);
    let before = process.memory_now();
    let connections = idle(process.address(), CONNECTIONS).await;
    // Connections that are idle long enough give back their buffers.
    let each = eventually("at most 16 KiB for each idle connection", || async {
        let each = (process.memory_now() - before) / CONNECTIONS as u64;
        (each <= 16 * 1024).then_some(each)
    })
    .await;
    println!("{each} bytes for each idle connection");
    process.get("/a").header("host", "a").await.assert_hit();
    drop(connections);
}

#[tokio::test]
async fn descriptor_exhaustion_spares_operators_and_recovers() {
    let upstream = Upstream::start();
    let process = Process::with("routes: [{path: /a, ttl: 1h}]", &upstream).await;
    let mut inside = process.connection().await;
    inside.get("/a").await;
    let open = process.open_files();
    process.limit_files(open + 20);
    let mut waiting = Vec::new();
    for _ in 0..60 {
        waiting.push(Raw::connect(process.address()).await);
    }
    let failed = "larder_accepts_failed_total";
    eventually("it is out of file descriptors", || async {
        (process.metric(failed).await > 0.0).then_some(())
    })
    .await;
    inside.get("/a").await.assert_hit();
    // It does not spin: twenty tries a second on each thread. The sleep is the window in which tries are counted.
    let (began, before) = (std::time::Instant::now(), process.metric(failed).await);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let tries = process.metric(failed).await - before;
    // By the time that really passed: on a busy machine that is more than what was slept.
    let each_second = tries / began.elapsed().as_secs_f64();
    assert!(each_second < 200.0, "{tries} tries, {each_second} each second");
    drop(waiting);
    eventually("it recovers", || async { process.get("/a").attempt().await.ok() }).await.assert_hit();
}
