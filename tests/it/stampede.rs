//! Ten thousand at once for something that nobody has: larder as its own process, or three of them, ask the upstream one
//! time.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::{Answer, Process, Redis, Upstream, content, eventually, one_crowd, with_deadline};

const CROWD: usize = 10_000;

#[tokio::test]
async fn ten_thousand_concurrent_cold_requests_are_one_request() {
    let _only = one_crowd(CROWD).await;
    let upstream = Upstream::start();
    upstream.on("/a", Answer::generated(20_000));
    // However long it takes until all have come, the upstream has not timed out.
    let yaml = "upstream: {url: \"${UPSTREAM}\", response_timeout: 10m}\nlimits: {connections: 12000, connections_per_client: off}\n\
                routes: [{path: /a, ttl: 60s, collapse_timeout: 10m}]";
    let larder = Process::with(yaml, &upstream).await;
    come_and_are_answered(&upstream, &[larder]).await;
}

#[tokio::test]
async fn ten_thousand_at_three_replicas_are_one_request() {
    let _only = one_crowd(CROWD).await;
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    upstream.on("/a", Answer::generated(20_000));
    let yaml = format!(
        "upstream: {{url: \"${{UPSTREAM}}\", response_timeout: 10m}}\nlimits: {{connections: 12000, connections_per_client: off}}\n\
         store: {{redis: \"{}\", timeout: 10s}}\n\
         routes: [{{path: /a, ttl: 10m, collapse: replicas, collapse_wait: 10m, collapse_timeout: 10m}}]",
        redis.url()
    );
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let replica = Process::with(&yaml, &upstream).await;
        replica.is_connected().await;
        replicas.push(replica);
    }
    come_and_are_answered(&upstream, &replicas).await;
}

/// All at once, and all before the upstream answers.
async fn come_and_are_answered(upstream: &Upstream, larders: &[Process]) {
    let held = upstream.hold("/a");
    let (may_read, reading) = watch::channel(false);
    let mut clients = JoinSet::new();
    for number in 0..CROWD {
        clients.spawn(client(larders[number % larders.len()].address(), reading.clone()));
    }
    held.arrived().await;
    for larder in larders {
        let share = CROWD / larders.len();
        eventually("all are connected", || async {
            (larder.metric("larder_connections").await >= share as f64).then_some(())
        })
        .await;
    }
    held.release();
    may_read.send_replace(true);
    let expected: Vec<u8> = (0..20_000).map(Answer::generated_byte).collect();
    let replies = with_deadline("all are answered", clients.join_all()).await;
    for reply in &replies {
        assert!(reply.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(reply));
        assert!(content(reply) == expected, "not whole");
    }
    assert_eq!((replies.len(), upstream.count("/a")), (CROWD, 1));
}

/// Asks, and reads the reply as soon as it may.
async fn client(address: SocketAddr, mut reading: watch::Receiver<bool>) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n").await.expect("sent");
    reading.wait_for(|may| *may).await.expect("the test goes on");
    let mut reply = Vec::with_capacity(24 * 1024);
    stream.read_to_end(&mut reply).await.expect("a whole reply");
    reply
}
