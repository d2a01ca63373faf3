//! The one memory budget counts what clients send and larder keeps: heads that wait, and contents that are read. One client
//! has a quarter of what is beside the store, and all clients have that together.

use crate::support::{Answer, Larder, Raw, Received, Upstream, eventually, one_crowd};

/// The budget is 4 MiB of store, and 16 MiB beside it.
const YAML: &str = "
store: {memory: 4MiB}
upstream: {url: \"${UPSTREAM}\", max_connections: 2000, max_per_client: off}
limits: {connections_per_client: off, body_timeout: 10m, min_rate: 0}
routes:
  - {path: \"/large/{n}\", ttl: 1h, max_size: 1MiB}
  - {path: \"/items/{id}\", ttl: 1h, tags: [\"item:{id}\"]}
  - {path: /sell, purges: [\"item:{request.json:/id}\"]}
";
const MIB: usize = 1 << 20;
const HELD: &str = "larder_request_memory_bytes";
const REFUSALS: &str = "larder_memory_refusals_total";

/// The bytes that one client has, and all together, as this peer's requests name no other client.
const SHARES: [(&str, usize); 2] = [("", 4 * MIB), ("trusted_proxies: [127.0.0.0/8]\n", 16 * MIB)];

/// Waits until clients found no room so often. Asserts that they hold about `share`.
async fn is_refused(larder: &Larder, times: f64, share: usize) {
    eventually("clients find no room", || async { (larder.metric(REFUSALS).await >= times).then_some(()) })
        .await;
    let held = larder.metric(HELD).await as usize;
    assert!(share / 2 < held && held <= share + MIB / 4, "{held} of {share}");
}
const JSON: &str = "application/json";

/// A large response is stored while there is room, and only passed on while there is none.
async fn is_short_of_memory(larder: &Larder, expected: bool) {
    let number = std::cell::Cell::new(0);
    eventually(&format!("memory is short: {expected}"), || async {
        number.set(number.get() + 1);
        let target = format!("/large/{}", number.get() % 3);
        larder.request("PURGE", &target).await.assert_status(200);
        larder.get(&target).await.assert_status(200);
        (larder.get(&target).await.is_hit() != expected).then_some(())
    })
    .await;
}

fn upstream() -> Upstream {
    let upstream = Upstream::start();
    for number in 0..3 {
        upstream.on(&format!("/large/{number}"), Answer::ok(vec![b'x'; 128 * 1024]));
    }
    upstream
}

async fn send(larder: &Larder, bytes: impl AsRef<[u8]>) -> Raw {
    let mut raw = larder.raw().await;
    raw.send(bytes).await;
    raw
}

#[tokio::test]
async fn contents_that_are_captured_count() {
    let content = format!("{{\"id\": \"1\", \"pad\": \"{}\"}}", "x".repeat(MIB - 200));
    let (most, end) = content.split_at(content.len() - 1);
    let head = format!(
        "POST /sell HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        content.len()
    );
    for (settings, share) in SHARES {
        let upstream = upstream();
        let larder = Larder::with(&format!("{settings}{YAML}"), &upstream);
        let mut uploads = Vec::new();
        // Three times the budget. Contents for which there is no room are let go, which makes room again.
        for _ in 0..60 {
            uploads.push(send(&larder, format!("{head}{most}")).await);
        }
        eventually("some find no room", || async { (larder.metric(REFUSALS).await > 0.0).then_some(()) })
            .await;
        let held = larder.metric(HELD).await as usize;
        assert!(held <= share + MIB, "{held} of {share}");
        for upload in &mut uploads {
            upload.send(end).await;
            assert_eq!(upload.status().await, 200);
        }
        drop(uploads);
        assert!(larder.metric("larder_widened_total").await > 0.0, "some were not kept");
        larder.metric_becomes(HELD, 0.0).await;
    }
}

#[tokio::test]
async fn contents_that_are_read_before_they_are_sent_count() {
    let head = format!("POST /any HTTP/1.1\r\nhost: a\r\ncontent-length: {MIB}\r\n\r\n");
    for (settings, share) in SHARES {
        let upstream = upstream();
        let yaml = YAML.replace("max_connections: 2000", "max_connections: 2000, buffer_requests: 1MiB");
        let larder = Larder::with(&format!("{settings}{yaml}"), &upstream);
        let mut uploads = Vec::new();
        // The announced length counts, however little has arrived.
        for _ in 0..24 {
            uploads.push(send(&larder, format!("{head}x")).await);
        }
        is_refused(&larder, (24 - share / MIB) as f64, share).await;
        let rest = vec![b'x'; MIB - 1];
        for upload in &mut uploads {
            upload.send(&rest).await;
            assert_eq!(upload.status().await, 200, "it is forwarded as it arrives");
        }
        drop(uploads);
        larder.metric_becomes(HELD, 0.0).await;
    }
}

#[tokio::test]
async fn contents_of_operations_count() {
    let upstream = upstream();
    upstream.on("/me", |request: &Received| {
        Answer::status(if request.header("authorization").is_some() { 204 } else { 401 })
    });
    let operators = "
callers: {operators: {ask: {url: '${UPSTREAM}/me', every: 10s}}}
admin_at: {callers: operators, clear: /clear}";
    let larder = Larder::with(&format!("{operators}{YAML}"), &upstream);
    let head =
        format!("POST /clear HTTP/1.1\r\nhost: a\r\nauthorization: root\r\ncontent-length: {MIB}\r\n\r\n");
    let mut operations = Vec::new();
    for _ in 0..24 {
        operations.push(send(&larder, [head.as_bytes(), &vec![b' '; MIB - 1][..]].concat()).await);
    }
    // Beyond the budget a large one is refused, which makes room again; a short one finds room, as short responses do.
    let refused = "larder_requests_total{route=\"other\",outcome=\"operation\",status_class=\"5xx\"}";
    eventually("some are refused", || async { (larder.metric(refused).await > 0.0).then_some(()) }).await;
    let purge = larder.request("POST", "/clear").header("authorization", "root").header("content-type", JSON);
    purge.body("{\"tags\": [\"item:1\"]}").await.assert_status(200);
    drop(operations);
    is_short_of_memory(&larder, false).await;
    let mut large = send(&larder, [head.as_bytes(), &vec![b' '; MIB - 1][..]].concat()).await;
    large.send("x").await;
    assert_eq!(large.status().await, 400, "it is read whole, and is no JSON");
}

#[tokio::test]
async fn heads_that_are_not_whole_count() {
    const CLIENTS: usize = 600;
    let _only = one_crowd(CLIENTS).await;
    let head = format!("GET /slow HTTP/1.1\r\nhost: a\r\nx-pad: {}", "x".repeat(30_000));
    for (settings, share) in SHARES {
        let upstream = upstream();
        let yaml = YAML.replace("limits: {", "limits: {header_timeout: 5m, ");
        let larder = Larder::with(&format!("{settings}{yaml}"), &upstream);
        let mut arriving = Vec::new();
        for _ in 0..CLIENTS {
            arriving.push(send(&larder, &head).await);
        }
        // Each counts twice, here and in the parser. Those that find no room are closed, unless they are short.
        is_refused(&larder, (CLIENTS - share / 50_000) as f64, share).await;
        larder.get("/items/1").await.assert_status(200);
        drop(arriving);
        larder.metric_becomes(HELD, 0.0).await;
    }
}

/// Each read of the connection ends in the middle of a head.
#[tokio::test]
async fn only_the_last_of_pipelined_heads_counts() {
    let upstream = upstream();
    let larder = Larder::with(YAML, &upstream);
    let head = format!("HEAD /items/1 HTTP/1.1\r\nhost: a\r\nx-pad: {}\r\n\r\n", "x".repeat(20_000));
    let (begin, end) = head.split_at(15_000);
    let mut pipelining = send(&larder, begin).await;
    // Together they are more than the client's share.
    for _ in 0..300 {
        pipelining.send([end, begin].concat()).await;
        assert_eq!(pipelining.status().await, 200);
    }
    let held = larder.metric(HELD).await;
    assert!(held < 100_000.0, "{held}");
}

#[tokio::test]
async fn heads_that_wait_count() {
    const CLIENTS: usize = 800;
    let _only = one_crowd(CLIENTS).await;
    let head = format!("GET /slow HTTP/1.1\r\nhost: a\r\nx-pad: {}\r\n\r\n", "x".repeat(30_000));
    for (settings, share) in SHARES {
        let upstream = upstream();
        let larder = Larder::with(&format!("{settings}{YAML}"), &upstream);
        let held = upstream.hold_every("/slow");
        let mut waiting = Vec::new();
        for _ in 0..CLIENTS {
            waiting.push(send(&larder, &head).await);
        }
        is_refused(&larder, (CLIENTS - share / 29_000) as f64, share).await;
        larder.get("/items/1").await.assert_status(200);
        held.release();
        let mut statuses = Vec::new();
        for client in &mut waiting {
            statuses.push(client.status().await);
        }
        let served = statuses.iter().filter(|status| **status == 200).count();
        // A connection may find none while its head arrives.
        let refused = statuses.iter().filter(|status| [0, 503].contains(*status)).count();
        assert_eq!(served + refused, CLIENTS, "{statuses:?}");
        assert!(served > 0 && served * 29_000 <= share, "{served} served");
        larder.metric_becomes(HELD, 0.0).await;
    }
}
