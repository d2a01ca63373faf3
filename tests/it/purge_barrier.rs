//! A purge that waits until every replica knows it, and names those that don't.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Larder, Line, Process, Redis, Relay, Replica, Upstream, eventually};

const ROUTES: &str = "routes: [{path: \"/items/{id}\", ttl: 1h, tags: [items]}]";

/// So that nothing but a wake-up or the barrier itself tells a replica of a purge in time.
const LAZY: &str = "max_lag: 2s, timeout: 5s";
const STRICT: &str = "max_lag: 0s, timeout: 5s";

async fn replicas(larder: &Larder) -> Vec<serde_json::Value> {
    let answer = larder.admin.get("/replicas").await.assert_status(200).json();
    answer["replicas"].as_array().expect("a list").clone()
}

async fn are(larder: &Larder, count: usize) {
    eventually("all replicas are there", || async { (replicas(larder).await.len() == count).then_some(()) })
        .await;
}

#[tokio::test]
async fn it_is_answered_when_every_replica_knows_the_purge() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    for store in [LAZY, STRICT] {
        redis.flush().await;
        let mut all = Vec::new();
        for name in ["one", "two", "three"] {
            let store = format!("{store}, replica: {name}");
            all.push(Replica::start(&redis, &upstream, &store, ROUTES).await);
        }
        are(&all[0], 3).await;
        // A replica that has not heard of the new index may answer for as long as it is trusted.
        eventually("the index is old enough", || async {
            let purge = all[0].request("PURGE", "/x").header("purge-wait", "applied; timeout=1s").await;
            (purge.status == 200).then_some(())
        })
        .await;
        for round in 0..10 {
            for replica in &all {
                replica.get("/items/1").await;
                replica.get("/items/1").await.assert_hit();
            }
            let purger = &all[round % 3];
            let answer = match round % 2 {
                0 => purger.request("PURGE", "/items/1").header("purge-wait", "applied").await,
                _ => {
                    let purge = purger.admin.request("POST", "/purge?wait=applied&timeout=4s");
                    purge.body(r#"{"tags": ["items"]}"#).await
                }
            };
            let answer = answer.assert_status(200).json();
            assert_eq!(answer["applied"], json!(true), "{answer}");
            // No replica answers from before the purge, though no request synced it.
            for replica in &all {
                let known = replicas(replica).await;
                let behind =
                    known.iter().filter(|replica| replica["position"].as_u64() < answer["position"].as_u64());
                let behind: Vec<_> = behind.filter(|replica| replica["name"] != purger_name(round)).collect();
                assert!(behind.is_empty(), "{behind:?} {answer}");
            }
        }
    }
}

fn purger_name(round: usize) -> &'static str {
    ["one", "two", "three"][round % 3]
}

#[tokio::test]
async fn without_redis_it_is_applied_at_once() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let answer = larder.request("PURGE", "/x").header("purge-wait", "applied; timeout=10ms").await;
    assert_eq!(answer.assert_status(200).json()["applied"], json!(true));
    assert_eq!(replicas(&larder).await, Vec::<serde_json::Value>::new());
    let purge = larder.admin.request("DELETE", "/cache?wait=applied");
    assert_eq!(purge.await.assert_status(200).json()["applied"], json!(true));
    // Nothing is purged by what can't be understood.
    larder.get("/items/1").await;
    for (field, value) in [("purge-wait", "stored"), ("purge-wait", "applied; timeout=x")] {
        larder.request("PURGE", "/*").header(field, value).await.assert_status(400);
    }
    larder.admin.request("DELETE", "/cache?wait=applied&until=x").await.assert_status(400);
    larder.admin.request("DELETE", "/cache?timeout=2s").await.assert_status(400);
    larder.get("/items/1").await.assert_hit();
}

#[tokio::test]
async fn a_stalled_replica_is_named_and_a_dead_one_forgotten() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let start = |name: &'static str| {
        let yaml = format!(
            "store: {{redis: \"{}\", max_lag: 0s, timeout: 5s, replica: {name}}}\n{ROUTES}",
            redis.url()
        );
        let upstream = &upstream;
        async move { Process::with(&yaml, upstream).await }
    };
    let (still, mut dies) = (start("still").await, start("dies").await);
    let one = Replica::start(&redis, &upstream, &format!("{STRICT}, replica: one"), ROUTES).await;
    are(&one, 3).await;
    still.signal("STOP");
    let purge = |wait: &'static str| one.request("PURGE", "/items/1").header("purge-wait", wait);
    let answer = purge("applied; timeout=1s").await.assert_status(504).json();
    let expected = (&json!("purged"), &json!(false), &json!(["still"]));
    assert_eq!((&answer["status"], &answer["applied"], &answer["missing"]), expected, "{answer}");
    assert!(answer["position"].as_u64().is_some_and(|position| position > 0));
    still.signal("CONT");
    assert_eq!(purge("applied").await.assert_status(200).json()["applied"], json!(true));
    dies.signal("KILL");
    dies.ended().await;
    // Its last word is soon too old for it to answer from what it knew.
    let began = Instant::now();
    assert_eq!(purge("applied; timeout=30s").await.assert_status(200).json()["applied"], json!(true));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    are(&one, 2).await;
}

/// A killed one is waited for for four seconds.
#[tokio::test]
async fn a_replica_that_ends_in_order_signs_off_and_is_not_waited_for() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let yaml = format!("store: {{redis: \"{}\", {STRICT}, replica: leaves}}\n{ROUTES}", redis.url());
    let mut leaves = Process::with(&yaml, &upstream).await;
    let one = Replica::start(&redis, &upstream, &format!("{STRICT}, replica: one"), ROUTES).await;
    are(&one, 2).await;
    leaves.signal("TERM");
    assert!(leaves.ended().await.success());
    let there = replicas(&one).await;
    assert_eq!(there.iter().map(|replica| &replica["name"]).collect::<Vec<_>>(), ["one"]);
    let purge = one.request("PURGE", "/items/1").header("purge-wait", "applied; timeout=1s");
    assert_eq!(purge.await.assert_status(200).json()["applied"], json!(true));
}

/// The roll is a part of the index, so it can't be lost alone; and what the former release kept beside it disturbs nobody.
#[tokio::test]
async fn the_former_roll_is_in_nobodys_way() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    redis.command(&["SET", "{larder}:replicas", "no hash"]).await;
    let one = Replica::start(&redis, &upstream, STRICT, ROUTES).await;
    one.get("/items/1").await.assert_stored();
    one.get("/items/1").await.assert_hit();
    one.purge_tag("items").await;
    one.get("/items/1").await.assert_text("GET /items/1 #2");
    let answer = one.request("PURGE", "/items/1").header("purge-wait", "applied; timeout=4s").await;
    assert_eq!(answer.assert_status(200).json()["applied"], json!(true));
    assert_eq!(replicas(&one).await.len(), 1);
}

/// The index is lost while a replica can't hear of it: it goes on answering from its view, so nothing is applied.
#[tokio::test]
async fn a_new_epoch_is_not_applied_while_an_old_view_answers() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let line = Relay::to(redis.address()).await;
    let store = "max_lag: 1h, timeout: 2s";
    let one = Replica::start(&redis, &upstream, &format!("{store}, replica: one"), ROUTES).await;
    let two = Replica::start_alone(&line.url(), &upstream, &format!("{store}, replica: two"), ROUTES);
    two.is_connected().await;
    two.has("/items/1").await;
    line.set(Line::Dead);
    redis.flush().await;
    one.get("/items/1").await;
    let purge = one.request("PURGE", "/items/1").header("purge-wait", "applied; timeout=200ms").await;
    assert_eq!(purge.assert_status(504).json()["applied"], json!(false));
    two.get("/items/1").await.assert_hit();
}

#[tokio::test]
async fn a_name_that_another_process_has_is_refused() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let store = format!("{STRICT}, replica: one");
    let first = Replica::start(&redis, &upstream, &store, ROUTES).await;
    let second = Replica::start_alone(&redis.url(), &upstream, &store, ROUTES);
    second.is_cut_off().await;
    eventually("it says why", || async { second.log().contains("has this replica's name").then_some(()) })
        .await;
    second.get("/items/1").await.assert_status(200);
    first.get("/items/1").await;
    first.get("/items/1").await.assert_hit();
    // The second one is on the roll until it can't answer any more.
    are(&first, 1).await;
    first.ends().await;
    second.is_connected().await;
}
