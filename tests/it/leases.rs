//! `collapse: replicas`: one fetch for all replicas, whoever holds it and whatever becomes of that one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use larder::clock::Clock;
use larder::policy::CacheKey;
use larder::purge::{IndexBounds, Purge, Target};
use larder::store::{PurgeStore, ResponseStore, StoreError};
use larder::stored_response::{StoredEntry, Terms};
use tokio::task::JoinSet;

use crate::support::{
    Answer, Client, HOST, Process, Redis, Replica, Request, Upstream, body, eventually, response,
    store_settings, tiered_store, with_deadline,
};

/// Waiting never times out on a slow machine.
const ROUTES: &str = "
routes:
  - {path: \"/items/{id}\", ttl: 60s, tags: [items, \"item:{id}\"], collapse: replicas, collapse_wait: 1m}
";
const STORE: &str = "max_lag: 0s, timeout: 5s";

const WAITED: &str = "larder_leases_total{result=\"waited\"}";

async fn replicas<const COUNT: usize>(redis: &Redis, upstream: &Upstream) -> [Replica; COUNT] {
    let mut all = Vec::new();
    for _ in 0..COUNT {
        all.push(Replica::start(redis, upstream, STORE, ROUTES).await);
    }
    let heard = format!("larder:wake\n{COUNT}");
    eventually("all listen", || async {
        (redis.command(&["PUBSUB", "NUMSUB", "larder:wake"]).await == heard).then_some(())
    })
    .await;
    all.try_into().unwrap_or_else(|_| unreachable!("so many were started"))
}

async fn waits(replica: &Replica) {
    eventually("it waits for the other", || async { (replica.metric(WAITED).await >= 1.0).then_some(()) })
        .await;
}

#[tokio::test]
async fn a_crowd_at_three_replicas_is_one_request() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let all: [Replica; 3] = replicas(&redis, &upstream).await;
    for round in 1..=5 {
        let item = format!("/items/{round}");
        let held = upstream.hold(&item);
        let mut crowd = JoinSet::new();
        for number in 0..60 {
            let request: Request = all[number % 3].get(&item);
            crowd.spawn(async move { request.await });
        }
        held.arrived().await;
        held.release();
        for reply in crowd.join_all().await {
            reply.assert_status(200).assert_text(&format!("GET {item} #1"));
        }
        assert_eq!(upstream.count(&item), 1);
        // Those who waited have it in their own first tier.
        for replica in &all {
            replica.get(&item).await.assert_hit();
        }
    }
    let taken = "larder_leases_total{result=\"taken\"}";
    let mut sum = 0.0;
    for replica in &all {
        sum += replica.metric(taken).await;
    }
    assert_eq!(sum, 5.0);
    eventually("the leases are over", || async {
        redis.command(&["KEYS", "larder:lease:*"]).await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn whoever_waited_says_so() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let [one, other]: [Replica; 2] = replicas(&redis, &upstream).await;
    let held = upstream.hold("/items/1");
    let first = one.get("/items/1").spawn();
    held.arrived().await;
    let second = other.get("/items/1").spawn();
    waits(&other).await;
    held.release();
    first.await.unwrap().assert_stored();
    let second = second.await.unwrap().assert_text("GET /items/1 #1");
    assert!(second.cache_status("collapsed").is_some(), "{second}");
}

#[tokio::test]
async fn the_end_of_a_fetch_wakes_those_who_wait() {
    const ROUNDS: u32 = 8;
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let [one, other]: [Replica; 2] = replicas(&redis, &upstream).await;
    let began = Instant::now();
    for round in 1..=ROUNDS {
        let item = format!("/items/{round}");
        let held = upstream.hold(&item);
        let first = one.get(&item).spawn();
        held.arrived().await;
        let second = other.get(&item).spawn();
        eventually("it waits", || async { (other.metric(WAITED).await >= f64::from(round)).then_some(()) })
            .await;
        held.release();
        let (first, second) = tokio::join!(first, second);
        assert_eq!(first.unwrap().text(), second.unwrap().text());
    }
    // The end of the lease alone would take some three seconds each time.
    assert!(began.elapsed() < Duration::from_millis(1500) * ROUNDS, "{:?}", began.elapsed());
}

#[tokio::test]
async fn that_it_is_not_storable_is_told_to_the_others() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let [one, other]: [Replica; 2] = replicas(&redis, &upstream).await;
    upstream.on("/items/1", |request: &crate::support::Received| {
        Answer::numbered(request).header("cache-control", "no-store")
    });
    let held = upstream.hold("/items/1");
    let first = one.get("/items/1").spawn();
    held.arrived().await;
    let second = other.get("/items/1").spawn();
    waits(&other).await;
    held.release();
    first.await.unwrap().assert_text("GET /items/1 #1");
    second.await.unwrap().assert_text("GET /items/1 #2");
    // From now on they go side by side at both.
    let held = upstream.hold_every("/items/1");
    let crowd: Vec<_> = [&one, &other, &one, &other].map(|replica| replica.get("/items/1").spawn()).into();
    upstream.has_received("/items/1", 6).await;
    held.release();
    for reply in crowd {
        reply.await.unwrap().assert_status(200);
    }
}

#[tokio::test]
async fn after_an_error_each_replica_asks_for_itself() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let [one, other]: [Replica; 2] = replicas(&redis, &upstream).await;
    for (case, failing) in
        [Answer::status(500), Answer::hang_up(), Answer::ok("half").cut_after(2)].into_iter().enumerate()
    {
        let item = format!("/items/{case}");
        upstream.once(&item, failing);
        let held = upstream.hold(&item);
        let first = tokio::spawn(one.get(&item).attempt());
        held.arrived().await;
        let waited = other.metric(WAITED).await;
        let second = other.get(&item).spawn();
        eventually("it waits", || async { (other.metric(WAITED).await > waited).then_some(()) }).await;
        held.release();
        let _failed = first.await.unwrap();
        let text = format!("GET {item} #2");
        second.await.unwrap().assert_status(200).assert_text(&text);
    }
}

/// Wake-ups are hints: without any, the end of the lease is the bound.
#[tokio::test]
async fn a_wake_up_that_is_lost_costs_no_second_request() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    redis.command(&["ACL", "SETUSER", "deaf", "on", ">secret", "+@all", "allkeys", "resetchannels"]).await;
    let url = redis.url().replace("redis://", "redis://deaf:secret@");
    let start = || Replica::start_alone(&url, &upstream, STORE, ROUTES);
    let (one, other) = (start(), start());
    one.is_connected().await;
    other.is_connected().await;
    let held = upstream.hold("/items/1");
    let first = one.get("/items/1").spawn();
    held.arrived().await;
    let second = other.get("/items/1").spawn();
    waits(&other).await;
    held.release();
    first.await.unwrap().assert_text("GET /items/1 #1");
    second.await.unwrap().assert_text("GET /items/1 #1");
    assert_eq!(upstream.count("/items/1"), 1);
}

#[tokio::test]
async fn requests_after_a_purge_get_no_earlier_fetch() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let [one, other]: [Replica; 2] = replicas(&redis, &upstream).await;
    upstream.once("/items/1", Answer::ok("old"));
    let held = upstream.hold("/items/1");
    let first = one.get("/items/1").spawn();
    held.arrived().await;
    other.purge_tag("item:1").await;
    upstream.on("/items/1", Answer::ok("new"));
    let second = other.get("/items/1").spawn();
    waits(&other).await;
    held.release();
    first.await.unwrap().assert_text("old");
    second.await.unwrap().assert_text("new");
    for replica in [&one, &other] {
        replica.has("/items/1").await.assert_text("new");
    }
    assert_eq!(upstream.count("/items/1"), 2);
}

#[tokio::test]
async fn nobody_waits_on_when_redis_goes() {
    let (mut redis, upstream) = (Redis::start().await, Upstream::start());
    let [one, other]: [Replica; 2] = replicas(&redis, &upstream).await;
    let held = upstream.hold("/items/1");
    let first = one.get("/items/1").spawn();
    held.arrived().await;
    let second = other.get("/items/1").spawn();
    waits(&other).await;
    redis.kill();
    // The first is held still.
    second.await.unwrap().assert_text("GET /items/1 #2");
    other.get("/items/2").await.assert_text("GET /items/2 #1");
    held.release();
    first.await.unwrap().assert_text("GET /items/1 #1");
}

#[tokio::test]
async fn whoever_has_waited_long_enough_asks_for_itself() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let routes = ROUTES.replace("collapse_wait: 1m", "collapse_wait: 20ms");
    let one = Replica::start(&redis, &upstream, STORE, &routes).await;
    let other = Replica::start(&redis, &upstream, STORE, &routes).await;
    let held = upstream.hold("/items/1");
    let first = one.get("/items/1").spawn();
    held.arrived().await;
    other.get("/items/1").await.assert_text("GET /items/1 #2").assert_stored();
    redis.holds(1).await;
    held.release();
    // It began earlier, and does not take the place of what began later.
    first.await.unwrap().assert_text("GET /items/1 #1");
    for replica in [&one, &other] {
        replica.has("/items/1").await.assert_text("GET /items/1 #2");
    }
}

#[tokio::test]
async fn without_redis_it_is_as_ever() {
    let upstream = Upstream::start();
    let larder = crate::support::Larder::with(ROUTES, &upstream);
    let held = upstream.hold("/items/1");
    let crowd: Vec<_> = (0..5).map(|_| larder.get("/items/1").spawn()).collect();
    held.arrived().await;
    held.release();
    for reply in crowd {
        reply.await.unwrap().assert_text("GET /items/1 #1");
    }
}

async fn process(redis: &Redis, upstream: &Upstream) -> Process {
    let yaml = format!("store: {{redis: \"{}\", {STORE}}}\n{ROUTES}", redis.url());
    let process = Process::with(&yaml, upstream).await;
    process.is_connected().await;
    process
}

fn get(client: &Client, target: &str) -> Request {
    client.get(target).header("host", HOST)
}

/// Its clients lose their connections; everybody else gets a whole answer, from the second request at the latest.
#[tokio::test]
async fn a_holder_that_is_killed_at_half_is_replaced() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let mut holder = process(&redis, &upstream).await;
    let others = [process(&redis, &upstream).await, process(&redis, &upstream).await];
    let (answer, feed) = Answer::fed();
    upstream.once("/items/1", answer);
    upstream.on("/items/1", Answer::generated(100_000));
    let client = get(&holder, "/items/1").start();
    let (client, ()) = tokio::join!(client, feed.send("the first half"));
    let mut crowd = JoinSet::new();
    for number in 0..100 {
        let request = get(&others[number % 2], "/items/1");
        crowd.spawn(async move { request.await });
    }
    for other in &others {
        eventually("it waits", || async { (other.metric(WAITED).await >= 1.0).then_some(()) }).await;
    }
    assert_eq!(upstream.count("/items/1"), 1);
    holder.signal("KILL");
    holder.ended().await;
    let whole: Vec<u8> = (0..100_000).map(Answer::generated_byte).collect();
    for reply in with_deadline("all are answered", crowd.join_all()).await {
        assert!(reply.status == 200 && reply.body == whole, "not whole");
    }
    assert_eq!(upstream.count("/items/1"), 2);
    // Half of an answer does not look whole.
    client.broken_off().await;
}

/// A holder that stood still, was replaced, and goes on: what it fetched is older than what is stored by then.
#[tokio::test]
async fn a_holder_that_lost_its_lease_overwrites_nothing_newer() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let (still, other) = (process(&redis, &upstream).await, process(&redis, &upstream).await);
    upstream.once("/items/1", Answer::ok("old"));
    let held = upstream.hold("/items/1");
    let slow = get(&still, "/items/1").spawn();
    held.arrived().await;
    still.signal("STOP");
    upstream.on("/items/1", Answer::ok("new"));
    get(&other, "/items/1").await.assert_text("new").assert_stored();
    redis.holds(1).await;
    still.signal("CONT");
    held.release();
    slow.await.unwrap().assert_text("old");
    for process in [&still, &other] {
        eventually("the new one", || async {
            let reply = get(process, "/items/1").await;
            (reply.is_hit() && reply.text() == "new").then_some(())
        })
        .await;
    }
    assert_eq!(upstream.count("/items/1"), 2);
}

#[tokio::test]
async fn by_as_of_and_then_by_time_the_later_fetch_stays() {
    let redis = Redis::start().await;
    let settings = store_settings(&redis.url(), ", max_lag: 0s");
    let start = || tiered_store(&settings, IndexBounds::default());
    let (one, other): (Arc<_>, Arc<_>) = (start().await, start().await);
    for (round, is_purged) in [false, true].into_iter().enumerate() {
        let key = CacheKey([round as u8; 32]);
        let expires_at = Clock::system().now().plus(Duration::from_secs(60));
        let permit = |store: &Arc<larder::store::tiered::TieredStore>| {
            let mut fill = store.begin_fetch(&key);
            fill.yield_to_newer();
            fill
        };
        let early = permit(&one);
        let early_response = asked_for_earlier(response(&early, "early", &["mine"], expires_at));
        if is_purged {
            one.purge(Purge::hard(vec![Target::tag("another")])).await.unwrap();
            assert!(other.sync().await);
        }
        let late = permit(&other);
        let late_response = response(&late, "late", &["mine"], expires_at);
        other.insert(late, late_response).await.unwrap();
        let refused = one.insert(early, early_response).await;
        assert!(matches!(refused, Err(StoreError::Outdated)), "{refused:?}");
        for store in [&one, &other] {
            assert_eq!(body(&**store, &key).await.as_deref(), Some("late"), "{is_purged}");
        }
        // The later one takes the place of the earlier one, and nothing is left beside it.
        let again = permit(&one);
        let last = response(&again, "last", &["mine"], expires_at);
        one.insert(again, last).await.unwrap();
        assert_eq!(body(&*one, &key).await.as_deref(), Some("last"));
    }
    assert_eq!(redis.responses().await.len(), 2);
    assert_eq!(redis.command(&["KEYS", "larder:lease:*"]).await, "");
}

/// By more than any clock can be off.
fn asked_for_earlier(stored: StoredEntry) -> StoredEntry {
    let StoredEntry::Response(mut response) = stored else { unreachable!("a response") };
    let head = Arc::get_mut(&mut response.head).expect("the only one");
    let terms = head.terms();
    let requested_at = terms.requested_at.minus(Duration::from_secs(20));
    head.terms = Terms { requested_at, ..terms }.into();
    StoredEntry::Response(response)
}
