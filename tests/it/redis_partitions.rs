//! A replica alone with its fault: cut off from Redis and from nobody else, killed in the middle of a fill, a store or a
//! purge, or stopped and woken up again.

use crate::support::{Answer, HOST, Line, Process, Redis, Relay, Replica, Request, Upstream, eventually};

const ROUTES: &str = "routes: [{path: \"/items/{id}\", ttl: 1h, tags: [\"item:{id}\"]}]";

async fn process(redis: &str, upstream: &Upstream, store: &str) -> Process {
    let yaml = format!("store: {{redis: \"{redis}\", {store}}}\n{ROUTES}");
    let process = Process::with(&yaml, upstream).await;
    process.is_connected().await;
    process
}

fn ask(process: &Process, method: &str, target: &str) -> Request {
    process.request(method, target).header("host", HOST)
}

/// R25.
#[tokio::test]
async fn a_partitioned_replica_passes_through_and_drops_purged() {
    for line in [Line::Dead, Line::Cut] {
        for store in ["max_lag: 200ms, timeout: 200ms", "max_lag: 0s, timeout: 200ms"] {
            let (redis, upstream) = (Redis::start().await, Upstream::start());
            let relay = Relay::to(redis.address()).await;
            let one = Replica::start_alone(&relay.url(), &upstream, store, ROUTES);
            one.is_connected().await;
            let other = Replica::start(&redis, &upstream, store, ROUTES).await;
            upstream.on("/items/1", Answer::ok("old"));
            one.has("/items/1").await.assert_text("old");
            other.has("/items/1").await;
            relay.set(line);
            let passes = || async { (!one.get("/items/1").await.assert_status(200).is_hit()).then_some(()) };
            eventually("it passes through", passes).await;
            upstream.on("/items/1", Answer::ok("new"));
            other.request("PURGE", "/items/1").await.assert_status(200);
            other.has("/items/1").await.assert_text("new");
            for _ in 0..3 {
                let reply = one.get("/items/1").await.assert_status(200).assert_text("new");
                assert!(!reply.is_hit(), "{line:?}, {store}: {reply}");
            }
            one.request("PURGE", "/items/2").await.assert_status(503);
            relay.set(Line::Whole);
            one.is_connected().await;
            one.get("/items/1").await.assert_text("new");
            one.has("/items/1").await.assert_text("new");
        }
    }
}

/// X12: two seconds are longer than `max_lag`, whatever the process believes.
#[tokio::test]
async fn a_resumed_replica_sees_that_its_view_is_old() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let store = "max_lag: 1500ms, timeout: 5s";
    let one = process(&redis.url(), &upstream, store).await;
    let other = Replica::start(&redis, &upstream, store, ROUTES).await;
    upstream.on("/items/1", Answer::ok("old"));
    ask(&one, "GET", "/items/1").await;
    ask(&one, "GET", "/items/1").await.assert_hit();
    one.signal("STOP");
    upstream.on("/items/1", Answer::ok("new"));
    other.request("PURGE", "/items/1").await.assert_status(200);
    let waiting: Vec<_> = (0..4).map(|_| ask(&one, "GET", "/items/1").spawn()).collect();
    // A stopped process has no clock that the test could move, and reports nothing.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    one.signal("CONT");
    for reply in waiting {
        reply.await.unwrap().assert_text("new");
    }
    ask(&one, "GET", "/items/1").await.assert_text("new");
}

/// X02.
#[tokio::test]
async fn a_replica_killed_during_a_fill_leaves_nothing_of_it() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let mut killed = process(&redis.url(), &upstream, "max_lag: 0s, timeout: 5s").await;
    let other = Replica::start(&redis, &upstream, "max_lag: 0s, timeout: 5s", ROUTES).await;
    let (answer, feed) = Answer::fed();
    upstream.once("/items/1", answer);
    let mut half = ask(&killed, "GET", "/items/1").start().await;
    feed.send("half").await;
    half.read_until("half").await;
    killed.signal("KILL");
    killed.ended().await;
    assert_eq!(half.broken_off().await, b"");
    assert_eq!(redis.responses().await, [""; 0]);
    upstream.on("/items/1", Answer::ok("whole"));
    other.get("/items/1").await.assert_text("whole").assert_fwd("uri-miss");
    other.has("/items/1").await.assert_text("whole");
}

/// X02: of a value that fills many packets, Redis has all or nothing.
#[tokio::test]
async fn a_replica_killed_while_it_stores_leaves_all_or_nothing() {
    const BIG: usize = 3 << 20;
    for then in [Line::Whole, Line::Cut] {
        let (redis, upstream) = (Redis::start().await, Upstream::start());
        let relay = Relay::to(redis.address()).await;
        let mut killed = process(&relay.url(), &upstream, "max_lag: 1h, timeout: 5s").await;
        let other = Replica::start(&redis, &upstream, "max_lag: 0s, timeout: 5s", ROUTES).await;
        upstream.on("/items/1", Answer::ok(vec![b'1'; BIG]));
        let held = upstream.hold("/items/1");
        let reading = tokio::spawn(ask(&killed, "GET", "/items/1").attempt());
        held.arrived().await;
        relay.set(Line::Dead);
        held.release();
        eventually("it is being stored", || async { relay.holds("larder:r5:").then_some(()) }).await;
        killed.signal("KILL");
        killed.ended().await;
        drop(reading.await);
        upstream.on("/items/1", Answer::ok(vec![b'2'; BIG]));
        relay.set(then);
        for _ in 0..3 {
            let reply = other.get("/items/1").await.assert_status(200);
            let whole = [b'1', b'2'].iter().any(|byte| reply.body == vec![*byte; BIG]);
            assert!(whole, "{} bytes, {:?}", reply.body.len(), reply.headers);
        }
    }
}

/// X02: a purge of as many targets as one may name is many scripts. Killed between two of them, it is not acknowledged.
/// (How many responses a target names is nothing to it: one record stands for all.)
#[tokio::test]
async fn a_replica_killed_during_a_purge_did_not_acknowledge_it() {
    const TARGETS: usize = 10_000;
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let relay = Relay::to(redis.address()).await;
    let store = "max_lag: 0s, timeout: 5s";
    let mut killed = process(&relay.url(), &upstream, store).await;
    let other = Replica::start(&redis, &upstream, store, ROUTES).await;
    for item in [0, TARGETS - 1] {
        upstream.on(&format!("/items/{item}"), Answer::ok("old"));
        other.has(&format!("/items/{item}")).await;
    }
    let tags: Vec<String> = (0..TARGETS).map(|item| format!("item:{item}")).collect();
    let body = serde_json::json!({ "tags": tags }).to_string();
    relay.set(Line::Late(std::time::Duration::from_millis(20)));
    let purge = tokio::spawn(killed.admin.request("POST", "/purge").body(body.clone()).attempt());
    eventually("a part of it is there", || async {
        assert!(!purge.is_finished(), "it is over already");
        let records: usize = redis.command(&["ZCARD", "{larder}:index"]).await.parse().unwrap();
        (records > 1000).then_some(())
    })
    .await;
    killed.signal("KILL");
    killed.ended().await;
    assert!(purge.await.unwrap().is_err(), "it was acknowledged");
    // Another replica purges the whole.
    for item in [0, TARGETS - 1] {
        upstream.on(&format!("/items/{item}"), Answer::ok("new"));
    }
    other.admin.request("POST", "/purge").body(body).await.assert_status(200);
    for item in [0, TARGETS - 1] {
        other.get(&format!("/items/{item}")).await.assert_text("new");
    }
}
