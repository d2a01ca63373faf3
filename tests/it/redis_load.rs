//! The cost of sharing in Redis: commands for each hit, and purges that cost the same for one response as for many.

use std::time::{Duration, Instant};

use larder::clock::Clock;
use larder::policy::CacheKey;
use larder::purge::{IndexBounds, NormalizedPath, Purge, Target};
use larder::store::{PurgeStore, ResponseStore};

use crate::support::{Line, Redis, Relay, Replica, Upstream, body, response, store_settings, tiered_store};

const ROUTES: &str = "routes: [{path: \"/items/{id}\", ttl: 1h, tags: [items]}]";

const CONNECTIONS: usize = 64;
const REQUESTS: usize = 50;

/// This test's client is slow, so Redis is made slow as well: so many requests wait at once.
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
    replica.metric("larder_redis_commands_total{command=\"sync\",result=\"answered\"}").await
}

/// In small, or with a million (`LARDER_LONG=1`).
fn many(small: u64) -> u64 {
    if std::env::var_os("LARDER_LONG").is_some() { 1_000_000 } else { small }
}

/// How many responses carry a tag makes no difference to its purge, because nobody looks at them.
#[tokio::test]
async fn a_purge_costs_redis_the_same_for_one_response_as_for_many() {
    const PURGES: u64 = 100;
    let redis = Redis::start_with(&["--enable-debug-command", "local"]).await;
    let store = tiered_store(&store_settings(&redis.url(), ", max_lag: 1h"), IndexBounds::default()).await;
    let cost = |tag: &'static str| {
        let (store, redis) = (&store, &redis);
        async move {
            // The first makes the tag's record; the others are all alike.
            store.purge(Purge::hard(vec![Target::tag(tag)])).await.unwrap();
            redis.command(&["CONFIG", "RESETSTAT"]).await;
            for _ in 0..PURGES {
                store.purge(Purge::hard(vec![Target::tag(tag)])).await.unwrap();
            }
            let stats = redis.command(&["INFO", "commandstats"]).await;
            let of = |command: &str, figure: &str| {
                let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:")));
                let figure =
                    line.and_then(|line| line.split(figure).nth(1)?.split(',').next()?.parse::<f64>().ok());
                figure.unwrap_or_default()
            };
            let commands =
                ["zadd", "zrem", "zrange", "zrangebyscore", "zrevrangebyscore", "zscore", "unlink", "del"];
            (commands.map(|command| of(command, "calls=")), of("evalsha", "usec_per_call="))
        }
    };
    let (few, few_us) = cost("few").await;
    let populated =
        redis.command(&["DEBUG", "POPULATE", &many(50_000).to_string(), "larder:r5:", "700"]).await;
    assert_eq!(populated, "OK");
    let (many, many_us) = cost("many").await;
    eprintln!("{few_us} us for a purge, {many_us} us among {} responses", self::many(50_000));
    // Confirmations on the timer come between; a look at each response would be half a million.
    let is_alike = few.iter().zip(&many).all(|(few, many)| *many <= few + 1000.0);
    assert!(is_alike, "{few:?} commands, then {many:?}");
}

/// Purges without end fold into buckets, and what they don't name stays.
#[tokio::test]
async fn endless_purges_stay_bounded_and_spare_other_entries() {
    let purges = many(20_000);
    let records = usize::try_from(purges / 10).unwrap();
    let redis = Redis::start().await;
    let bounds = IndexBounds { max_records: records, ..IndexBounds::default() };
    let settings = store_settings(&redis.url(), ", max_lag: 1h");
    let stores = [tiered_store(&settings, bounds).await, tiered_store(&settings, bounds).await];
    let (mut hits, mut misses) = (0_u64, 0_u64);
    let step = purges / 1000;
    for round in 0..1000 {
        let named = (0..step).map(|number| match number % 2 {
            0 => Target::tag(format!("tag-{round}-{number}")),
            _ => Target::Path { host: None, path: NormalizedPath::new(&format!("/p/{round}/{number}")) },
        });
        stores[round % 2].purge(Purge::hard(named.collect())).await.unwrap();
        for key in (0..50).map(|number| CacheKey([number; 32])) {
            match body(&*stores[0], &key).await {
                Some(_) => hits += 1,
                None => {
                    misses += 1;
                    let fill = stores[0].begin_fetch(&key);
                    let expires_at = Clock::system().now().plus(Duration::from_secs(3600));
                    let stored = response(&fill, "untouched", &[&format!("mine-{}", key.0[0])], expires_at);
                    stores[0].insert(fill, stored).await.unwrap();
                }
            }
        }
    }
    let rate = hits as f64 / (hits + misses) as f64;
    let index = redis.command(&["ZCARD", "{larder}:index"]).await.parse::<usize>().unwrap();
    eprintln!("{purges} purged: {index} members in the index, {:.2} % hits", 100.0 * rate);
    let bound = records + 2 * usize::try_from(step).unwrap();
    assert!(index <= bound + (1 << 16) + 4, "{index} members");
    for store in &stores {
        drop(store.get(&CacheKey([0; 32])).resolve().await);
        assert!(store.stats().purge_records <= bound as u64, "{} records", store.stats().purge_records);
    }
    assert!(rate >= 0.98, "{rate} of the untouched were hits");
}

#[tokio::test]
async fn a_purge_is_seen_by_the_other_replica_at_once() {
    let redis = Redis::start().await;
    let settings = store_settings(&redis.url(), ", max_lag: 0s");
    let stores = [
        tiered_store(&settings, IndexBounds::default()).await,
        tiered_store(&settings, IndexBounds::default()).await,
    ];
    let key = CacheKey([1; 32]);
    let mut took = Vec::new();
    for _ in 0..200 {
        stores[0].purge(Purge::hard(vec![Target::tag("a")])).await.unwrap();
        let began = Instant::now();
        assert_eq!(body(&*stores[1], &key).await, None);
        took.push(began.elapsed());
    }
    took.sort_unstable();
    eprintln!("seen after: p50 {:?}, p99 {:?}", took[100], took[197]);
}
