//! Several faults at once: clients read and operators purge through two replicas while Redis is killed, stopped,
//! flushed, set back and starved. After an acknowledged purge no client gets anything older, and no request fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::support::{Answer, Received, Redis, Replica, Upstream};

const ROUTES: &str = "routes: [{path: \"/items/{id}\", ttl: 1h, tags: [items, \"item:{id}\"]}]";
const ITEMS: usize = 5;
const READERS: usize = 6;

/// With a busy machine's slack over the deadline of 50 ms.
const LONGEST: Duration = Duration::from_secs(3);

/// One item: what the upstream has, and what every later answer has at least.
#[derive(Default)]
struct Item {
    version: AtomicU64,
    acknowledged: AtomicU64,
}

struct World {
    items: [Item; ITEMS],
    replicas: [Replica; 2],
    over: AtomicBool,
    reads: AtomicU64,
    hits: AtomicU64,
    purges: AtomicU64,
}

async fn world(redis: &Redis, upstream: &Upstream, store: &str) -> Arc<World> {
    let replicas = [
        Replica::start(redis, upstream, store, ROUTES).await,
        Replica::start(redis, upstream, store, ROUTES).await,
    ];
    let world = Arc::new(World {
        items: Default::default(),
        replicas,
        over: AtomicBool::default(),
        reads: AtomicU64::default(),
        hits: AtomicU64::default(),
        purges: AtomicU64::default(),
    });
    for item in 0..ITEMS {
        let world = Arc::downgrade(&world);
        upstream.on(&format!("/items/{item}"), move |_: &Received| {
            let version = world.upgrade().map_or(0, |world| world.items[item].version.load(Ordering::SeqCst));
            Answer::ok(version.to_string())
        });
    }
    world
}

impl World {
    /// Reads until it is over; `lag` is how long after its acknowledgement a purge may be unknown.
    fn reader(self: &Arc<Self>, number: usize, lag: Duration) -> JoinHandle<()> {
        let world = self.clone();
        tokio::spawn(async move {
            let mut at = number;
            while !world.over.load(Ordering::SeqCst) {
                at += 1;
                let item = &world.items[at % ITEMS];
                let expected = item.acknowledged.load(Ordering::SeqCst);
                if !lag.is_zero() {
                    tokio::time::sleep(lag).await;
                }
                let began = Instant::now();
                let reply = world.replicas[(at / ITEMS) % 2].get(&format!("/items/{}", at % ITEMS)).await;
                let (took, reply) = (began.elapsed(), reply.assert_status(200));
                let version: u64 = reply.text().parse().unwrap();
                assert!(version >= expected, "{version} was served after {expected} was acknowledged");
                assert!(took < LONGEST, "it took {took:?}");
                world.reads.fetch_add(1, Ordering::SeqCst);
                world.hits.fetch_add(u64::from(reply.is_hit()), Ordering::SeqCst);
            }
        })
    }

    /// Changes an item and purges it, until it is over. A purge that was refused is not promised.
    fn purger(self: &Arc<Self>, item: usize) -> JoinHandle<()> {
        let world = self.clone();
        tokio::spawn(async move {
            while !world.over.load(Ordering::SeqCst) {
                let version = world.items[item].version.fetch_add(1, Ordering::SeqCst) + 1;
                let replica = &world.replicas[usize::try_from(version % 2).unwrap()];
                let purge = match version % 16 {
                    0 => replica.request("PURGE", "/items/*"),
                    n if n < 8 => replica.request("PURGE", &format!("/items/{item}")),
                    _ => replica.request("PURGE", "/any").header("cache-tag", &format!("item:{item}")),
                };
                if purge.await.status == 200 {
                    world.items[item].acknowledged.fetch_max(version, Ordering::SeqCst);
                    world.purges.fetch_add(1, Ordering::SeqCst);
                }
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
        })
    }

    /// Lets it run for a while: until so many more reads are done, however fast the machine is.
    async fn run(&self, reads: u64) {
        let until = self.reads.load(Ordering::SeqCst) + reads;
        crate::support::eventually("the readers go on", || async {
            (self.reads.load(Ordering::SeqCst) >= until).then_some(())
        })
        .await;
    }
}

async fn chaos(store: &str, lag: Duration) {
    let mut redis = Redis::start().await;
    let upstream = Upstream::start();
    let world = world(&redis, &upstream, store).await;
    let mut tasks: Vec<_> = (0..READERS).map(|number| world.reader(number, lag)).collect();
    tasks.push(world.purger(0));
    tasks.push(world.purger(1));
    world.run(100).await;
    for _ in 0..2 {
        assert_eq!(redis.command(&["SAVE"]).await, "OK");
        redis.stop();
        world.run(60).await;
        redis.cont();
        world.run(60).await;
        redis.flush().await;
        world.run(60).await;
        redis.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
        world.run(60).await;
        // Back comes what was saved.
        redis.kill();
        world.run(60).await;
        redis.restart().await;
        world.run(60).await;
        redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
        world.run(60).await;
        redis.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
        world.run(60).await;
        redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
        redis.command(&["UNLINK", "{larder}:index"]).await;
        world.run(60).await;
    }
    for replica in &world.replicas {
        replica.is_connected().await;
        replica.has("/items/4").await;
    }
    world.over.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    let (hits, purges) = (world.hits.load(Ordering::SeqCst), world.purges.load(Ordering::SeqCst));
    assert!(hits > 100 && purges > 20, "{hits} hits, {purges} purges: it shows nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_serves_nothing_purged_under_redis_faults() {
    chaos("max_lag: 0s", Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounded_serves_nothing_older_under_redis_faults() {
    chaos("max_lag: 100ms", Duration::from_millis(101)).await;
}
