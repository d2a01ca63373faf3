//! Nothing is left of what has passed: after very many short-lived responses, each with tags that were never seen
//! before, Redis is back at its floor, and larder holds no more than its first tier may.
//!
//! `LARDER_LONG` makes it a million responses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::history::Wire;
use crate::support::{HOST, Process, Redis, Upstream, eventually};

const CLIENTS: usize = 32;
const MIB: u64 = 1 << 20;

/// Bound of the memory tier.
const FIRST_TIER: u64 = 16 * MIB;

/// The weight of a response is an estimate: many small fields and tags take more.
const SLACK: u64 = FIRST_TIER / 2 + 2 * MIB;

/// Answers every GET with ten tags of its own.
async fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move { drop(answer(stream).await) });
        }
    });
    address
}

async fn answer(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    loop {
        request.clear();
        while !request.ends_with("\r\n\r\n") {
            if stream.read_line(&mut request).await? == 0 {
                return Ok(());
            }
        }
        let id = request.split([' ', '/']).nth(3).unwrap_or_default();
        let tags: Vec<String> = (0..10).map(|tag| format!("{id}-{tag}")).collect();
        let tags = tags.join(" ");
        let reply = format!("HTTP/1.1 200 OK\r\nsurrogate-key: {tags}\r\ncontent-length: 4\r\n\r\nbody");
        stream.write_all(reply.as_bytes()).await?;
    }
}

struct Floor {
    redis: u64,
    /// Allocated bytes, and resident bytes.
    larder: u64,
    resident: u64,
}

struct World {
    redis: Redis,
    larder: Process,
    asked: Arc<AtomicUsize>,
}

impl World {
    /// Requests `count` responses once each.
    async fn responses(&self, count: usize) {
        let until = self.asked.load(Ordering::SeqCst) + count;
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (asked, mut wire) = (self.asked.clone(), Wire::to(self.larder.address()));
            clients.spawn(async move {
                loop {
                    let id = asked.fetch_add(1, Ordering::SeqCst);
                    if id >= until {
                        return;
                    }
                    let request = format!("GET /items/{id} HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
                    let reply = wire.ask(&request).await.expect("a reply");
                    assert_eq!((reply.status, reply.body.as_slice()), (200, b"body".as_slice()));
                }
            });
        }
        clients.join_all().await;
        self.asked.store(until, Ordering::SeqCst);
    }

    /// When all of it has expired.
    async fn floor(&self) -> Floor {
        // The index, the journal, and who is there.
        eventually("Redis has nothing but its marks", || async {
            (self.redis.command(&["DBSIZE"]).await.parse::<u32>().expect("a number") <= 3).then_some(())
        })
        .await;
        let info = self.redis.command(&["INFO", "memory"]).await;
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("a figure");
        let larder = self.larder.metric("larder_memory_allocated_bytes").await as u64;
        let redis = used.trim().parse().expect("a number");
        Floor { redis, larder, resident: self.larder.memory_now() }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_returns_to_its_baseline() {
    let count = if std::env::var_os("LARDER_LONG").is_some() { 1_000_000 } else { 20_000 };
    let (redis, nobody) = (Redis::start().await, Upstream::start());
    let yaml = format!(
        "upstream: http://{}\nlog: {{level: warn}}\nstore: {{redis: \"{}\", memory: {}MiB, timeout: 5s}}\n\
         routes: [{{path: \"/items/{{id}}\", ttl: 1s, tags: [\"item:{{id}}\"]}}]",
        upstream().await,
        redis.url(),
        FIRST_TIER / MIB,
    );
    let larder = Process::with(&yaml, &nobody).await;
    larder.is_connected().await;
    let world = World { redis, larder, asked: Arc::default() };
    world.responses(1000).await;
    let before = world.floor().await;
    world.responses(count).await;
    let stored = world.larder.metric("larder_fills_total{route=\"/items/{id}\"}").await;
    let after = world.floor().await;
    println!(
        "after {stored} responses: Redis {} KiB, before {} KiB; larder {} KiB, before {} KiB, of {} KiB resident, before \
         {} KiB",
        after.redis / 1024,
        before.redis / 1024,
        after.larder / 1024,
        before.larder / 1024,
        after.resident / 1024,
        before.resident / 1024,
    );
    assert!(stored >= 0.9 * count as f64, "{stored} stored");
    assert!(after.redis < before.redis + MIB, "Redis kept {} bytes", after.redis - before.redis);
    assert!(
        after.larder < before.larder + FIRST_TIER + SLACK,
        "larder kept {}",
        after.larder - before.larder
    );
}
