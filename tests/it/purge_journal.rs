//! `GET /purges`: what was purged, when, why and by whom. Nothing depends on it.

use serde_json::{Value, json};

use crate::support::{Larder, Redis, Replica, Upstream, eventually};

const ROUTES: &str = "
routes:
  - {path: \"/items/{id}\", ttl: 60s, tags: [items, \"item:{id}\"]}
  - {path: \"/items/{item}/sell\", name: sell, purges: [\"item:{item}\"]}
";

const STORE: &str = "max_lag: 0s, timeout: 5s";

async fn purges(larder: &Larder, query: &str) -> Vec<Value> {
    let answer = larder.admin.get(&format!("/purges{query}")).await.assert_status(200).json();
    answer["purges"].as_array().expect("a list").clone()
}

fn sources(purges: &[Value]) -> Vec<&str> {
    purges.iter().map(|purge| purge["source"].as_str().unwrap()).collect()
}

/// One of each kind, in both stores.
async fn tells_of_each(larder: &Replica, replica: &str) {
    larder
        .request("POST", "/items/7/sell?token=secret")
        .header("x-request-id", "abc-1")
        .await
        .assert_status(200);
    larder
        .request("PURGE", "/x")
        .header("cache-tag", "items")
        .header("purge-mode", "soft")
        .await
        .assert_status(200);
    let everything = larder.admin.request("POST", "/purge").body(r#"{"everything": true}"#);
    let acknowledged = everything.await.assert_status(200).json();
    let told = purges(larder, "").await;
    assert_eq!(sources(&told), ["admin", "purge", "write"], "the latest first");
    let [admin, method, write] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(admin["position"], acknowledged["position"]);
    assert_eq!((&admin["targets"], &admin["path"]), (&json!(["everything"]), &json!("/purge")));
    assert_eq!((&method["mode"], &method["targets"]), (&json!("soft"), &json!(["tag items"])));
    assert_eq!((&method["from"], &method["route"]), (&json!("127.0.0.1"), &Value::Null));
    let expected = [
        ("mode", "hard"),
        ("route", "sell"),
        ("method", "POST"),
        ("path", "/items/7/sell"),
        ("requestId", "abc-1"),
        ("replica", replica),
    ];
    for (name, value) in expected {
        assert_eq!(write[name], value, "{name}");
    }
    let targets = write["targets"].as_array().unwrap();
    assert!(targets.contains(&json!("tag item:7")) && targets.contains(&json!("path /items/7/sell")));
    assert_eq!(write["targetCount"], targets.len());
    assert!(write["at"].as_str().unwrap().starts_with("20"));
    let since = write["position"].as_u64().unwrap();
    assert_eq!(sources(&purges(larder, &format!("?since={since}")).await), ["admin", "purge"]);
    assert_eq!(sources(&purges(larder, "?limit=1").await), ["admin"]);
    assert_eq!(sources(&purges(larder, "?tag=ITEMS").await), ["admin", "purge"]);
    assert_eq!(sources(&purges(larder, "?tag=item%3A7").await), ["admin", "write"]);
    larder.admin.get("/purges?limits=1").await.assert_status(400);
}

#[tokio::test]
async fn it_tells_of_writes_purge_requests_and_operators() {
    let upstream = Upstream::start();
    let yaml = format!("store: {{replica: one}}\n{ROUTES}");
    let larder = Replica::new(Larder::with(&yaml, &upstream));
    tells_of_each(&larder, "one").await;
}

#[tokio::test]
async fn with_redis_it_tells_of_all_replicas() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let one = Replica::start(&redis, &upstream, &format!("{STORE}, replica: one"), ROUTES).await;
    let other = Replica::start(&redis, &upstream, STORE, ROUTES).await;
    tells_of_each(&one, "one").await;
    other.purge_tag("items").await;
    for replica in [&one, &other] {
        let told = purges(replica, "").await;
        assert_eq!(sources(&told), ["purge", "admin", "purge", "write"]);
        assert_eq!(told[3]["replica"], "one");
        assert_ne!(told[0]["replica"], "one");
    }
}

#[tokio::test]
async fn whatever_is_wrong_with_the_journal_no_purge_fails_for_it() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let one = Replica::start(&redis, &upstream, STORE, ROUTES).await;
    redis.command(&["SET", "{larder}:journal", "no stream"]).await;
    one.get("/items/1").await.assert_stored();
    one.purge_tag("items").await;
    one.get("/items/1").await.assert_text("GET /items/1 #2");
    // A replica still knows its own purges.
    let told = one.admin.get("/purges").await.assert_status(200).json();
    assert_eq!(
        (&told["ownOnly"], sources(told["purges"].as_array().unwrap())),
        (&json!(true), vec!["purge"])
    );
    // A later id than any position: the clock was set back.
    redis.command(&["DEL", "{larder}:journal"]).await;
    redis.command(&["XADD", "{larder}:journal", "9999999999999999-7", "a", "b"]).await;
    one.purge_tag("items").await;
    assert_eq!(sources(&purges(&one, "").await), ["purge"]);
}

#[tokio::test]
async fn the_journal_is_bounded_and_read_in_pages() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let one = Replica::start(&redis, &upstream, STORE, ROUTES).await;
    let everything = one.admin.request("DELETE", "/cache/tags/needle");
    everything.await.assert_status(200);
    for number in 0..600 {
        one.purge_tag(&format!("tag-{number}")).await;
    }
    assert_eq!(purges(&one, "?limit=1000").await.len(), 601);
    assert_eq!(sources(&purges(&one, "?tag=needle").await), ["admin"]);
    for number in 0..600 {
        one.purge_tag(&format!("tag-{number}")).await;
    }
    let length: usize = redis.command(&["XLEN", "{larder}:journal"]).await.parse().unwrap();
    assert!((1000..1150).contains(&length), "{length}");
}

#[tokio::test]
async fn what_redis_takes_late_is_told_late() {
    let (mut redis, upstream) = (Redis::start().await, Upstream::start());
    let one = Replica::start(&redis, &upstream, "timeout: 1s", ROUTES).await;
    redis.kill();
    one.is_cut_off().await;
    one.request("POST", "/items/7/sell").await.assert_status(200);
    redis.restart().await;
    one.is_connected().await;
    let told = eventually("it is told", || async { Some(purges(&one, "").await).filter(|t| !t.is_empty()) });
    let told = told.await;
    assert_eq!(sources(&told), ["late"]);
    assert!(told[0]["targets"].as_array().unwrap().contains(&json!("tag item:7")), "{told:?}");
}

/// The store takes neither of a write's two purges: both wait for Redis.
#[tokio::test]
async fn a_hard_purge_waits_beside_a_soft_one_that_was_not_taken() {
    let routes = "
defaults: {guard: false}
routes: [{path: '/items/{id}', ttl: 60s, purges: [{tag: items, soft: true}]}]
";
    let (mut redis, _upstream, [one, _other]) = Replica::two("max_lag: 10m, timeout: 500ms", routes).await;
    redis.kill();
    one.is_cut_off().await;
    one.request("POST", "/items/7").await;
    let waiting = one.metric("larder_purges_waiting").await;
    assert!(waiting >= 2.0, "{waiting}");
}
