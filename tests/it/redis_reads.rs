//! Concurrent reads are batched into one command, and each gets its own value.

use std::sync::Arc;
use std::time::Duration;

use larder::clock::Clock;
use larder::policy::CacheKey;
use larder::purge::IndexBounds;
use larder::store::tiered::TieredStore;
use larder::store::{ReplicaRegistry, ResponseStore};

use crate::support::{Redis, body, response, store_settings, tiered_store};

const AT_ONCE: u8 = 40;

fn key(number: u8) -> CacheKey {
    CacheKey([number; 32])
}

/// A store without a first tier, and every second of the keys in its Redis, with `size` bytes.
async fn filled(redis: &Redis, size: usize) -> Arc<TieredStore> {
    let settings = store_settings(&redis.url(), ", max_lag: 1h, memory: 0");
    let store = tiered_store(&settings, IndexBounds::default()).await;
    for number in (0..AT_ONCE).step_by(2) {
        let fill = store.begin_fetch(&key(number));
        let expires_at = Clock::system().now().plus(Duration::from_secs(3600));
        let stored = response(&fill, &format!("{number:size$}"), &["items"], expires_at);
        store.insert(fill, stored).await.unwrap();
    }
    store
}

/// All of them at once, and each is given its own.
async fn read_all(store: &Arc<TieredStore>, size: usize) {
    let read = |number| {
        let store = store.clone();
        tokio::spawn(async move { body(&*store, &key(number)).await })
    };
    let reads: Vec<_> = (0..AT_ONCE).map(read).collect();
    for (number, read) in (0..AT_ONCE).zip(reads) {
        let stored = (number % 2 == 0).then(|| format!("{number:size$}"));
        assert!(read.await.unwrap() == stored, "{number}");
    }
}

/// How often the command was sent.
fn sent(store: &TieredStore, command: &str) -> u64 {
    let commands = store.remote_status().unwrap().commands;
    commands.iter().filter(|figure| figure.command == command).map(|figure| figure.sent).sum()
}

/// A busy server has as many connections: none is turned away to the upstream.
#[tokio::test]
async fn two_thousand_that_read_at_once_all_find_it() {
    let redis = Redis::start().await;
    let store = filled(&redis, 10).await;
    let read = |_| {
        let store = store.clone();
        tokio::spawn(async move { body(&*store, &key(2)).await })
    };
    let reads: Vec<_> = (0..2000).map(read).collect();
    for read in reads {
        assert_eq!(read.await.unwrap().as_deref(), Some("         2"));
    }
}

#[tokio::test]
async fn reads_at_the_same_time_are_one_command() {
    let redis = Redis::start().await;
    let store = filled(&redis, 10).await;
    for round in 1..=3 {
        read_all(&store, 10).await;
        assert_eq!((sent(&store, "mget"), sent(&store, "get")), (round, 0));
    }
    assert_eq!(body(&*store, &key(2)).await.unwrap(), format!("{:10}", 2));
    assert_eq!((sent(&store, "mget"), sent(&store, "get")), (3, 1));
}

#[tokio::test]
async fn where_one_command_for_many_is_refused_each_is_read_alone() {
    let redis = Redis::start().await;
    let store = filled(&redis, 10).await;
    redis.command(&["ACL", "SETUSER", "default", "-mget"]).await;
    for round in 1..=3 {
        read_all(&store, 10).await;
        assert_eq!((sent(&store, "mget"), sent(&store, "get")), (1, round * u64::from(AT_ONCE)));
    }
}

/// No value is delivered before the whole reply has arrived.
#[tokio::test]
async fn large_values_are_read_few_at_a_time() {
    let redis = Redis::start().await;
    let store = filled(&redis, 60_000).await;
    read_all(&store, 60_000).await;
    let before = sent(&store, "mget") + sent(&store, "get");
    read_all(&store, 60_000).await;
    let commands = sent(&store, "mget") + sent(&store, "get") - before;
    assert_eq!(commands, u64::from(AT_ONCE) / 4);
}

#[tokio::test]
async fn a_runtime_that_ends_takes_nobody_along() {
    let redis = Redis::start().await;
    let store = filled(&redis, 10).await;
    let its = store.clone();
    let left = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let reads: Vec<_> = (0..AT_ONCE)
            .map(|number| {
                let store = its.clone();
                runtime.spawn(async move { body(&*store, &key(number)).await })
            })
            .collect();
        // All have asked, and nobody is told.
        runtime.block_on(tokio::task::yield_now());
        drop(runtime);
        reads.len()
    });
    assert_eq!(left.join().unwrap(), usize::from(AT_ONCE));
    read_all(&store, 10).await;
}

/// Values that are read and not dropped stand for those that slow clients are being sent.
#[tokio::test]
async fn values_beyond_the_memory_budget_are_not_read() {
    let redis = Redis::start().await;
    let settings = store_settings(&redis.url(), ", max_lag: 1h, memory: 0");
    let store = tiered_store(&settings, IndexBounds::default()).await;
    let expires_at = Clock::system().now().plus(Duration::from_secs(3600));
    for number in 0..AT_ONCE / 2 {
        let (fill, length) = (store.begin_fetch(&key(number)), if number == 0 { 5 } else { 1 << 20 });
        let stored = response(&fill, &"x".repeat(length), &["items"], expires_at);
        store.insert(fill, stored).await.unwrap();
    }
    let mut held = Vec::new();
    for number in 1..AT_ONCE / 2 {
        held.extend(store.get(&key(number)).resolve().await);
    }
    assert_eq!(held.len(), 16, "a store without memory has 16 MiB for values that are being sent");
    assert_eq!(body(&*store, &key(0)).await.as_deref(), Some("xxxxx"), "small ones are");
    drop(held);
    assert!(body(&*store, &key(19)).await.is_some());
}
