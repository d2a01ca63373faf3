//! What sharing costs Redis: commands for each hit, and purges that cost the same for one response as for many.

use std::time::{Duration, Instant};

use larder::policy::CacheKey;
use larder::purge::{Bounds, Purge, Target};
use larder::store::Store;

use crate::support::{Line, Redis, Relay, Replica, Upstream, body, store_settings, tiered_store};

const ROUTES: &str = "routes: [{path: \"/items/{id}\", ttl: 1h, tags: [items]}]";

const CONNECTIONS: usize = 64;
const REQUESTS: usize = 50;

/// Issue 3, point 3. This test's client is slow, so Redis is made slow as well: so many requests wait at once.
#[tokio::test]
async fn strict_many_hits_share_one_confirmation() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let relay = Relay::to(redis.address()).await;
    let one = Replica::start_alone(&relay.url(), &upstream, "max_lag: 0s, timeout: 2s", ROUTES);
    one.is_connected().await;
    relay.set(Line::Late(Duration::from_millis(40)));
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(one.connection().await);
    }
    connections[0].get("/items/1").await;
    connections[0].get("/items/1").await.assert_hit();
    let sent = confirmations(&one).await;
    let clients = connections.into_iter().map(|mut connection| {
        tokio::spawn(async move {
            for _ in 0..REQUESTS {
                connection.get("/items/1").await.assert_hit();
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let sent = confirmations(&one).await - sent;
    let each = sent / (CONNECTIONS * REQUESTS) as f64;
    assert!(each <= 0.05, "{each} confirmations for each hit");
}

async fn confirmations(replica: &Replica) -> f64 {
    replica.metric("larder_redis_commands_total{command=\"confirm\",result=\"answered\"}").await
}

/// Issue 3, point 5, in small: how many responses carry a tag makes no difference to its purge, because nobody looks at
/// them.
#[tokio::test]
async fn a_purge_costs_redis_the_same_for_one_response_as_for_many() {
    const MANY: u64 = 200_000;
    let redis = Redis::start_with(&["--enable-debug-command", "local"]).await;
    let store = tiered_store(&store_settings(&redis.url(), ", max_lag: 0s"), Bounds::default()).await;
    let cost = |tag: &'static str| {
        let (store, redis) = (&store, &redis);
        async move {
            let mut best = f64::INFINITY;
            // The quietest of some rounds: the machine has other things to do as well.
            for _ in 0..8 {
                redis.command(&["CONFIG", "RESETSTAT"]).await;
                for _ in 0..100 {
                    store.purge(Purge::hard(vec![Target::tag(tag)])).await.unwrap();
                }
                let stats = redis.command(&["INFO", "commandstats"]).await;
                let line =
                    stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).expect("scripts ran");
                let each = line.split("usec_per_call=").nth(1).and_then(|rest| rest.split(',').next());
                best = best.min(each.unwrap().parse::<f64>().unwrap());
            }
            best
        }
    };
    let before = cost("few").await;
    let populated = redis.command(&["DEBUG", "POPULATE", &MANY.to_string(), "larder:r1:", "700"]).await;
    assert_eq!(populated, "OK");
    let after = cost("many").await;
    assert!(after <= before * 1.5, "{before} us, then {after} us");
}

/// Issue 3, point 5: as the other replica sees it.
#[tokio::test]
async fn a_purge_is_seen_by_the_other_replica_at_once() {
    let redis = Redis::start().await;
    let settings = store_settings(&redis.url(), ", max_lag: 0s");
    let stores =
        [tiered_store(&settings, Bounds::default()).await, tiered_store(&settings, Bounds::default()).await];
    let key = CacheKey([1; 32]);
    let mut took = Vec::new();
    for _ in 0..200 {
        stores[0].purge(Purge::hard(vec![Target::tag("a")])).await.unwrap();
        let began = Instant::now();
        assert_eq!(body(&*stores[1], &key).await, None);
        took.push(began.elapsed());
    }
    took.sort_unstable();
    eprintln!("p50 {:?}, p99 {:?}", took[100], took[197]);
    assert!(took[197] < Duration::from_millis(500), "{:?}", took[197]);
}
