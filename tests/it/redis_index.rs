//! The purge index in Redis and the views of it: they forget no purge, whatever happens to them, and stay small.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use larder::clock::Clock;
use larder::policy::CacheKey;
use larder::purge::{IndexBounds, IntentId, Purge, PurgeIntent, PurgeMode, ReadVersion, Target, Validity};
use larder::store::tiered::TieredStore;
use larder::store::{FetchToken, PurgeStore, ReplicaRegistry, ResponseStore};

use crate::support::{
    Redis, body, eventually, is_connected, response, store_settings, targets, tiered_store,
};

const KEY: CacheKey = CacheKey([1; 32]);
/// Strict look-ups, each of which is a confirmation.
const CONFIRMATIONS: u32 = 200;
const HOUR: Duration = Duration::from_secs(3600);
const STRICT: &str = ", max_lag: 0s";

async fn strict(redis: &Redis) -> Arc<TieredStore> {
    tiered_store(&store_settings(&redis.url(), STRICT), IndexBounds::default()).await
}

fn tag(tag: &str) -> Purge {
    Purge::hard(vec![Target::tag(tag)])
}

fn judge(store: &TieredStore, stamp: &ReadVersion, tag: &str) -> Validity {
    store.validity(stamp, &targets(&[tag]))
}

/// A strict store judges by a view of now only what was recalled before.
async fn judge_now(store: &TieredStore, stamp: &ReadVersion, tag: &str) -> Validity {
    drop(store.get(&KEY).resolve().await);
    judge(store, stamp, tag)
}

/// It may not know what was purged since, because no purge waits for it any more.
#[tokio::test]
async fn a_replica_that_has_left_the_roll_answers_nothing() {
    let redis = Redis::start().await;
    for more in [", max_lag: 1h", ", max_lag: 0s", ", max_lag: 1s, on_store_loss: {serve: 1h}"] {
        let settings = store_settings(&redis.url(), more);
        let store = tiered_store(&settings, IndexBounds::default()).await;
        let fill = store.begin_fetch(&KEY);
        let stored = response(&fill, "kept", &["t"], Clock::system().now().plus(HOUR));
        store.insert(fill, stored).await.unwrap();
        assert_eq!(body(&*store, &KEY).await.as_deref(), Some("kept"), "{more}");
        store.deregister().await;
        assert_eq!(body(&*store, &KEY).await, None, "{more}");
        assert!(store.get_local(&KEY).is_none(), "{more}");
    }
}

/// A random walk of writes, fetches and faults over several replicas: no recall ever finds what was written before
/// the last acknowledged purge. The numbers decide everything but the order of threads, so a failure names its walk.
#[tokio::test]
async fn no_walk_of_writes_fetches_and_faults_ends_in_an_old_answer() {
    let mut redis = Redis::start().await;
    for seed in 1..=6 {
        let stores = [strict(&redis).await, strict(&redis).await, strict(&redis).await];
        let mut walk = Walk { numbers: seed, version: 0, fetches: Vec::new(), hits: 0 };
        // Nothing of the walk before.
        walk.write(&stores[0]).await;
        assert_eq!(redis.command(&["SAVE"]).await, "OK");
        for step in 0..400 {
            let store = &stores[walk.number(3)];
            match walk.number(100) {
                0 => redis.flush().await,
                1 => drop(redis.command(&["UNLINK", "{larder}:index"]).await),
                2 => drop(redis.command(&["SCRIPT", "FLUSH"]).await),
                3 => drop(redis.command(&["CLIENT", "KILL", "TYPE", "normal"]).await),
                4 => drop(redis.command(&["SAVE"]).await),
                // Its last purges are lost.
                5 => redis.restart().await,
                6..14 => walk.write(store).await,
                14..30 => walk.begin_fetch(store),
                30..60 => walk.go_on().await,
                _ => walk.recall(store, seed, step).await,
            }
            if walk.number(4) == 0 {
                for store in &stores {
                    is_connected(store).await;
                }
            }
        }
        assert!(walk.hits > 5, "walk {seed} found {} hits: it shows nothing", walk.hits);
    }
}

struct Walk {
    numbers: u64,
    version: u64,
    fetches: Vec<Fetch>,
    hits: u64,
}

struct Fetch {
    store: Arc<TieredStore>,
    fill: FetchToken,
    read: Option<u64>,
}

impl Walk {
    /// Below `limit`; by a linear congruence, which is random enough.
    fn number(&mut self, limit: u64) -> usize {
        self.numbers =
            self.numbers.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.numbers >> 33) % limit).unwrap()
    }

    /// Changes the upstream's value, then purges until that is acknowledged.
    async fn write(&mut self, store: &TieredStore) {
        self.version += 1;
        while store.purge(tag("t")).await.is_err() {
            is_connected(store).await;
        }
    }

    fn begin_fetch(&mut self, store: &Arc<TieredStore>) {
        let read = (self.number(2) == 0).then_some(self.version);
        self.fetches.push(Fetch { store: store.clone(), fill: store.begin_fetch(&KEY), read });
    }

    /// One of the fetches reads what the upstream has, or stores what it read.
    async fn go_on(&mut self) {
        if self.fetches.is_empty() {
            return;
        }
        // Mostly the latest; an older one is likely to be dead.
        let at =
            if self.number(3) == 0 { self.number(self.fetches.len() as u64) } else { self.fetches.len() - 1 };
        let mut fetch = self.fetches.swap_remove(at);
        match fetch.read {
            None => {
                fetch.read = Some(self.version);
                self.fetches.push(fetch);
            }
            Some(version) => {
                let expires_at = Clock::system().now().plus(HOUR);
                let stored = response(&fetch.fill, &version.to_string(), &["t"], expires_at);
                // Redis may be away.
                let _ = fetch.store.insert(fetch.fill, stored).await;
            }
        }
    }

    async fn recall(&mut self, store: &TieredStore, seed: u64, step: u64) {
        if let Some(found) = body(store, &KEY).await {
            assert_eq!(found, self.version.to_string(), "walk {seed}, step {step}");
            self.hits += 1;
        }
    }
}

#[tokio::test]
async fn purges_of_many_replicas_at_once_have_a_position_each() {
    let redis = Redis::start().await;
    let stores = [strict(&redis).await, strict(&redis).await];
    let purging = (0..100).map(|number| {
        let store = stores[number % 2].clone();
        tokio::spawn(async move { store.purge(tag("a")).await.unwrap() })
    });
    let mut positions = HashSet::new();
    for purged in purging.collect::<Vec<_>>() {
        positions.insert(purged.await.unwrap());
    }
    assert_eq!(positions.len(), 100);
}

#[tokio::test]
async fn many_replicas_make_one_new_index() {
    let redis = Redis::start().await;
    let mut stores = Vec::new();
    for _ in 0..8 {
        stores.push(strict(&redis).await);
    }
    let of = |store: &TieredStore| store.begin_fetch(&KEY).read_version().epoch;
    let before = of(&stores[0]);
    redis.flush().await;
    for store in &stores {
        drop(store.get(&KEY).resolve().await);
    }
    assert_ne!(of(&stores[0]), before);
    for store in &stores {
        assert_eq!(of(store), of(&stores[0]));
        assert_eq!(store.remote_status().unwrap().index_resets, 2);
    }
}

/// A backup attaches itself as a replica does. No data is lost by it, so nothing may be dropped for it.
#[tokio::test]
async fn a_backup_makes_no_new_index() {
    let redis = Redis::start().await;
    let store = strict(&redis).await;
    redis.back_up().await;
    drop(store.get(&KEY).resolve().await);
    assert_eq!(store.remote_status().unwrap().index_resets, 1);
}

/// In small; `redis_load` has it with a million.
#[tokio::test]
async fn a_full_index_forgets_no_purge_and_does_not_grow() {
    const TAGS: u64 = 4000;
    const RECORDS: usize = 200;
    let redis = Redis::start().await;
    let bounds = IndexBounds { max_records: RECORDS, ..IndexBounds::default() };
    let settings = store_settings(&redis.url(), STRICT);
    let stores = [tiered_store(&settings, bounds).await, tiered_store(&settings, bounds).await];
    let before = stores[0].begin_fetch(&KEY).read_version();
    let name = |number: u64| format!("tag-{number}");
    let mut number = 0;
    while number < TAGS {
        // One by one, and many at once; hard and soft.
        let many = if number % 7 == 0 { 150 } else { 1 };
        let named = (number..(number + many).min(TAGS)).map(|number| Target::tag(name(number))).collect();
        let mode = if number % 3 == 0 { PurgeMode::Soft } else { PurgeMode::Hard };
        stores[usize::from(number % 2 == 0)].purge(Purge { mode, ..Purge::hard(named) }).await.unwrap();
        number += many;
    }
    let kinds = "local all = {} for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], 1, '+inf')) do \
                 all[#all + 1] = string.sub(member, 1, 1) end return table.concat(all)";
    let kinds = redis.command(&["EVAL", kinds, "1", "{larder}:index"]).await;
    let count = |kinds: &str, wanted: &[char]| kinds.chars().filter(|kind| wanted.contains(kind)).count();
    let (records, buckets) = (count(&kinds, &['h', 's']), count(&kinds, &['b']));
    assert!(kinds.trim_start_matches('b').find('b').is_none(), "buckets are older than all records");
    assert!(records <= RECORDS + 160, "{records} records");
    assert!(buckets > 1000, "{buckets} buckets");
    // Also one who was not there, and loads the index in pages.
    let late = tiered_store(&settings, bounds).await;
    for store in [&stores[0], &stores[1], &late] {
        drop(store.get(&KEY).resolve().await);
        assert!(store.stats().purge_records <= (RECORDS + 160) as u64);
        for number in 0..TAGS {
            assert_ne!(judge(store, &before, &name(number)), Validity::Valid, "{number}");
        }
        let untouched = |number: &u64| judge(store, &before, &format!("other-{number}")) == Validity::Valid;
        let valid = (0..1000).filter(untouched).count();
        // Four hundred of the targets' buckets in each: path, prefixes, everything, and the tag itself.
        assert!(valid > 300, "{valid} of 1000 untouched");
        let now = store.begin_fetch(&KEY).read_version();
        assert_eq!(judge(store, &now, &name(7)), Validity::Valid);
    }
}

#[tokio::test]
async fn purges_that_outlived_every_response_are_dropped() {
    let redis = Redis::start().await;
    let bounds = IndexBounds { max_lifetime: Duration::from_millis(200), ..IndexBounds::default() };
    let store = tiered_store(&store_settings(&redis.url(), STRICT), bounds).await;
    store.purge(Purge::hard((0..300).map(|n| Target::tag(n.to_string())).collect())).await.unwrap();
    let records = || redis.command(&["ZCOUNT", "{larder}:index", "1", "+inf"]);
    // And that of everything, with which the epoch began.
    assert_eq!(records().await, "301");
    eventually("they are dropped", || async {
        store.purge(tag("late")).await.unwrap();
        (records().await == "1").then_some(())
    })
    .await;
}

/// An attacker can cause many doubts. `LARDER_LONG` makes it a million, and prints what a confirmation costs.
#[tokio::test]
async fn doubts_are_told_once_and_bounded_and_leave_the_untouched() {
    const RECORDS: usize = 1000;
    let redis = Redis::start().await;
    let bounds = IndexBounds { max_records: RECORDS, ..IndexBounds::default() };
    let settings = store_settings(&redis.url(), STRICT);
    let stores = [tiered_store(&settings, bounds).await, tiered_store(&settings, bounds).await];
    let (mut doubts, mut hits, mut asked) = (0, 0_u32, 0_u32);
    let key = |number: u8| CacheKey([number; 32]);
    let mut told = Vec::new();
    let counts: &[u32] = match std::env::var_os("LARDER_LONG") {
        Some(_) => &[0, 10_000, 100_000, 1_000_000],
        None => &[0, 2_000, 20_000],
    };
    for count in counts {
        while doubts < *count {
            let many = (doubts..doubts + 1000).map(|number| Target::tag(number.to_string())).collect();
            stores[0].purge(Purge { in_doubt_for: HOUR, ..Purge::hard(many) }).await.unwrap();
            // A replica that falls behind by more than the index tells apart learns buckets, which name other targets, too:
            // those that all responses below share.
            drop(stores[1].get(&KEY).resolve().await);
            doubts += 1000;
        }
        for store in &stores {
            drop(store.get(&KEY).resolve().await);
            assert!(store.stats().purge_records <= RECORDS as u64 + 1000);
        }
        let (before, began) = (sent(&redis).await, Instant::now());
        for number in 0..CONFIRMATIONS {
            let nothing = CacheKey(std::array::from_fn(|at| (number >> at.min(15)) as u8));
            drop(stores[1].get(&nothing).resolve().await);
        }
        let (after, rate) = (sent(&redis).await, f64::from(CONFIRMATIONS) / began.elapsed().as_secs_f64());
        let each = std::array::from_fn(|at| (after[at] - before[at]) / (after[0] - before[0]));
        let [_, commands, bytes, micros] = each;
        println!(
            "{doubts} doubts: {commands} commands, {bytes} bytes, {micros} us a confirmation; {rate:.0} look-ups/s"
        );
        told.push(each);
        for number in 0..200_u8 {
            let (fill, tag) = (stores[1].begin_fetch(&key(number)), format!("hot-{number}"));
            let expires_at = Clock::system().now().plus(HOUR);
            let stored = response(&fill, "hot", &[&tag], expires_at);
            stores[1].insert(fill, stored).await.unwrap();
            asked += 1;
            let is_hit = body(&*stores[1], &key(number)).await.is_some();
            hits += u32::from(is_hit);
            if !is_hit {
                let found = stores[1].inspect(&key(number)).await.map(|found| found.validity);
                println!("{doubts} doubts: {tag} is lost: {found:?}");
            }
        }
    }
    let index = redis.command(&["ZCARD", "{larder}:index"]).await.parse::<usize>().unwrap();
    assert!(index <= 2 * (RECORDS + 1000) + 2 * (1 << 16) + 20, "{index} members");
    let is_alike = |each: &[u64; 4]| each[1] <= told[0][1] + 1 && each[2] < 2 * told[0][2];
    assert!(told.iter().all(is_alike), "{told:?} commands and bytes for each confirmation");
    assert!(hits * 100 >= asked * 98, "{hits} of {asked} that nobody wrote were hits");
    let now = stores[1].begin_fetch(&KEY).read_version();
    for number in (0..doubts).step_by(37) {
        assert_eq!(judge(&stores[1], &now, &number.to_string()), Validity::Dead, "{number}");
    }
    // A replica that joins later knows buckets only, and errs towards doubt.
    let late = tiered_store(&settings, bounds).await;
    let now = late.begin_fetch(&KEY).read_version();
    for number in (0..doubts).step_by(37) {
        assert_eq!(judge_now(&late, &now, &number.to_string()).await, Validity::Dead, "{number}");
    }
}

/// The scripts that Redis has run, the commands in them and besides, the bytes that it has sent, and the microseconds of
/// its scripts.
async fn sent(redis: &Redis) -> [u64; 4] {
    let stats = redis.command(&["INFO", "stats", "commandstats"]).await;
    let script = stats.split("cmdstat_evalsha:").nth(1).expect("scripts have run");
    let count = |text: &str, name: &str| {
        let rest = text.split(name).nth(1).expect("a count");
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
    };
    [
        count(script, "calls="),
        count(&stats, "total_commands_processed:"),
        count(&stats, "total_net_output_bytes:"),
        count(script, "usec="),
    ]
}

#[tokio::test]
async fn intents_are_told_once_and_leave_with_their_write() {
    let redis = Redis::start().await;
    let stores = [strict(&redis).await, strict(&redis).await];
    let before = stores[0].begin_fetch(&KEY).read_version();
    let intent = |number: u64| PurgeIntent {
        id: IntentId(number.to_le_bytes()),
        targets: targets(&[&format!("tag-{number}")]).to_vec(),
        expires_in: Duration::from_secs(5),
    };
    for number in 0..20 {
        stores[0].record_intent(intent(number)).await.unwrap();
        assert_eq!(judge_now(&stores[1], &before, &format!("tag-{number}")).await, Validity::Dead);
    }
    for number in 0..20 {
        let resolves = Some(intent(number));
        stores[0].purge(Purge { resolves, ..Purge::hard(Vec::new()) }).await.unwrap();
    }
    assert_eq!(judge_now(&stores[1], &before, "tag-7").await, Validity::Valid);
    // Records of ended writes stay no longer than their intents could have.
    let members = || redis.command(&["ZCARD", "{larder}:index"]);
    let settled = members().await.parse::<usize>().unwrap();
    eventually("the ends are forgotten", || async {
        stores[0].purge(tag("any")).await.unwrap();
        (members().await.parse::<usize>().unwrap() + 2 * 20 <= settled + 1).then_some(())
    })
    .await;
}
