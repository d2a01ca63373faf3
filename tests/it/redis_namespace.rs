//! Contents of a namespace in Redis: `larder redis stats`, its end when nobody uses it, and the counters of all replicas.

use serde_json::Value;

use crate::support::{Command, Process, Redis, Replica, Scratch, Upstream, eventually};

const ROUTES: &str = "routes: [{path: \"/items/{id}\", ttl: 1h, tags: [items]}]";

async fn count(redis: &Redis, more: &[&str]) -> Value {
    let scratch = Scratch::new();
    let yaml = format!("upstream: http://127.0.0.1:1\nstore: {{redis: \"{}\"}}\nroutes: []\n", redis.url());
    let file = scratch.file("proxy.yaml", &yaml);
    let arguments = [&["redis", "stats", "--json", file.to_str().unwrap()], more].concat();
    serde_json::from_str(&Command::new(&arguments).stdout().await).expect("JSON")
}

#[tokio::test]
async fn keys_are_counted_by_kind_and_within_a_limit() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = Replica::start(&redis, &upstream, "timeout: 5s", ROUTES).await;
    for item in ["/items/1", "/items/2", "/items/3"] {
        larder.get(item).await.assert_stored();
    }
    redis.holds(3).await;
    larder.purge_tag("items").await;
    let populate = "for at = 1, 3000 do redis.call('SET', 'foreign:' .. at, at) end return 1";
    assert_eq!(redis.command(&["EVAL", populate, "0"]).await, "1");
    let counted = count(&redis, &[]).await;
    assert_eq!((&counted["complete"], &counted["kinds"]["responses"]["keys"]), (&true.into(), &3.into()));
    assert!(counted["kinds"]["responses"]["bytes"].as_u64().is_some_and(|bytes| bytes > 300), "{counted:#}");
    assert_eq!(counted["kinds"]["purge index"]["keys"], 1, "{counted:#}");
    assert!(counted["indexMembers"].as_u64().is_some_and(|members| members > 5), "{counted:#}");
    assert!(counted["visited"].as_u64().is_some_and(|visited| visited >= 3000), "{counted:#}");
    let other = count(&redis, &["--namespace", "shop"]).await;
    assert_eq!((&other["kinds"], &other["complete"]), (&serde_json::json!({}), &true.into()));
    let bounded = count(&redis, &["--limit", "100"]).await;
    assert_eq!((&bounded["complete"], &bounded["visited"]), (&false.into(), &100.into()), "{bounded:#}");
}

/// The last replica gives the index and the journal a day; the next one keeps them.
#[tokio::test]
async fn an_abandoned_namespace_expires() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let [one, other] = [(); 2].map(|()| Replica::start(&redis, &upstream, "timeout: 5s", ROUTES));
    let (one, other) = (one.await, other.await);
    one.purge_tag("items").await;
    let ttl = async |key: &str| redis.command(&["PTTL", key]).await.parse::<i64>().unwrap();
    let keys = ["{larder}:index", "{larder}:journal"];
    one.ends().await;
    for key in keys {
        assert!(ttl(key).await > 29 * DAY, "{key}: a replica is left");
    }
    other.ends().await;
    for key in keys {
        assert!((1..=DAY).contains(&ttl(key).await), "{key}: nobody is left");
    }
    let next = Replica::start(&redis, &upstream, "timeout: 5s", ROUTES).await;
    eventually("the index stays", || async { (ttl(keys[0]).await > 29 * DAY).then_some(()) }).await;
    next.purge_tag("items").await;
    eventually("the journal stays", || async { (ttl(keys[1]).await > 29 * DAY).then_some(()) }).await;
}

/// In milliseconds.
const DAY: i64 = 86_400_000;

/// The names of the namespace's keys with how long each lasts.
async fn ends(redis: &Redis) -> Vec<(String, i64)> {
    let names = redis.command(&["KEYS", "*"]).await;
    let mut ends = Vec::new();
    for name in names.lines() {
        ends.push((name.to_owned(), redis.command(&["PTTL", name]).await.parse().unwrap()));
    }
    ends
}

/// All replicas of a namespace are killed, after each kind of key was written.
#[tokio::test]
async fn what_killed_replicas_leave_expires_by_itself() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let yaml = format!(
        "store: {{redis: \"{}\", timeout: 5s}}\nevents: [{{name: orders, stream: orders, purge: [items]}}]\nroutes: [\
         {{path: \"/items/{{id}}\", ttl: 1h, tags: [items], collapse: replicas, rate: {{limit: 100/d}}}}]",
        redis.url()
    );
    let [one, other] = [(); 2].map(|()| Process::with(&yaml, &upstream));
    let mut replicas = [one.await, other.await];
    for (replica, target) in replicas.iter().zip(["/items/1", "/items/2"]) {
        replica.is_connected().await;
        replica.get(target).await.assert_status(200);
        replica.admin.request("DELETE", "/cache/tags/items").await.assert_status(200);
        replica.get(target).await.assert_status(200);
    }
    eventually("each kind of key is there", || async {
        let names = redis.command(&["KEYS", "*"]).await;
        let kinds = ["}:index", "}:journal", "}:events:orders", "}:stats:", ":r5:", ":rate:"];
        kinds.iter().all(|kind| names.contains(kind)).then_some(())
    })
    .await;
    for replica in &mut replicas {
        replica.signal("KILL");
        replica.ended().await;
    }
    for (name, end) in ends(&redis).await {
        assert!((-2..=30 * DAY).contains(&end) && end != -1, "{name}: {end}");
    }
}

/// Only keys with an end would be evicted, and the index must not be.
#[tokio::test]
async fn the_index_has_no_end_where_it_could_be_evicted_for_it() {
    let redis = Redis::start_with(&["--maxmemory", "64mb", "--maxmemory-policy", "volatile-lru"]).await;
    let upstream = Upstream::start();
    let larder = Replica::start(&redis, &upstream, "timeout: 5s", ROUTES).await;
    larder.get("/items/1").await.assert_stored();
    larder.purge_tag("items").await;
    drop(larder);
    for (name, end) in ends(&redis).await {
        assert_eq!(end == -1, name == "{larder}:index", "{name}: {end}");
    }
}

#[tokio::test]
async fn a_key_names_its_route_path_and_tags() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let one = Replica::start(&redis, &upstream, "timeout: 5s", ROUTES).await;
    let other = Replica::start(&redis, &upstream, "timeout: 5s", ROUTES).await;
    one.get("/items/1").await.assert_stored();
    redis.holds(1).await;
    one.get("/items/1").await.assert_hit();
    let key = redis.responses().await[0].clone();
    let described = async |larder: &Replica| {
        let admin = format!("http://{}", larder.admin.address());
        Command::new(&["redis", "key", &key, "--admin", &admin]).stdout().await
    };
    let told = described(&one).await;
    let words = ["route: /items/{id}\n", "path: /items/1\n", "tags: items\n", "valid: status 200, "];
    assert!(words.iter().all(|words| told.contains(words)), "{told}");
    // Only the path is of the one that has answered with it.
    let told = described(&other).await;
    assert!(told.contains("route: /items/{id}\npath: unknown") && told.contains(" in redis, "), "{told}");
    one.purge_tag("items").await;
    assert!(described(&one).await.contains("purged: status 200"));
    for (key, status) in [("{larder}:index", 400), (&*format!("larder:r5:{}", "00".repeat(32)), 404)] {
        one.admin.get(&format!("/explain?key={key}")).await.assert_status(status);
    }
}

#[tokio::test]
async fn keys_are_walked_at_a_replica_if_there_is_one() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = Replica::start(&redis, &upstream, "timeout: 5s", ROUTES).await;
    larder.get("/items/1").await.assert_stored();
    redis.holds(1).await;
    let alone = count(&redis, &[]).await;
    let address = |redis: &Redis| redis.address().to_string();
    assert_eq!(alone["scanned"], serde_json::json!([address(&redis)]), "{alone:#}");
    let replica_of = format!("127.0.0.1 {}", redis.port());
    let replica = Redis::start_with(&["--replicaof", &replica_of, "--repl-diskless-sync-delay", "0"]).await;
    redis.command(&["CONFIG", "RESETSTAT"]).await;
    let counted = eventually("the replica is in sync", || async {
        let counted = count(&redis, &[]).await;
        (counted["scanned"] == serde_json::json!([address(&replica)])).then_some(counted)
    })
    .await;
    assert_eq!(counted["masters"], alone["masters"], "{counted:#}");
    assert_eq!(counted["kinds"]["responses"]["keys"], 1, "{counted:#}");
    assert!(counted["kinds"]["responses"]["bytes"].is_u64(), "{counted:#}");
    assert!(replica.command(&["INFO", "commandstats"]).await.contains("cmdstat_scan:"));
}

#[tokio::test]
async fn counters_of_all_replicas_are_added_up() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let one = Replica::start(&redis, &upstream, "timeout: 5s, replica: one", ROUTES).await;
    let two = Replica::start(&redis, &upstream, "timeout: 5s, replica: two", ROUTES).await;
    one.get("/items/1").await.assert_status(200);
    for item in ["/items/1", "/items/2", "/items/2"] {
        two.get(item).await.assert_status(200);
    }
    let all = eventually("both have reported", || async {
        let all = one.admin.get("/stats?scope=all").await.assert_status(200).json();
        let answered = all["stats"]["hits"].as_u64()? + all["stats"]["misses"].as_u64()?;
        (answered == 4).then_some(all)
    })
    .await;
    let names: Vec<&str> =
        all["replicas"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!((names, &all["missing"]), (vec!["one", "two"], &serde_json::json!([])), "{all:#}");
    let route = &all["routes"]["/items/{id}"];
    assert_eq!(route["hits"].as_u64().unwrap() + route["misses"].as_u64().unwrap(), 4, "{all:#}");
    let own = one.admin.get("/stats").await.json();
    assert_eq!(
        own["stats"]["hits"].as_u64().unwrap() + own["stats"]["misses"].as_u64().unwrap(),
        1,
        "{own:#}"
    );
    one.admin.get("/stats?scope=some").await.assert_status(400);
    let admin = format!("http://{}", one.admin.address());
    let table = Command::new(&["stats", "--all", "--admin", &admin]).stdout().await;
    assert!(table.contains("/items/{id}"), "{table}");
    redis.stop();
    one.admin.get("/stats?scope=all").await.assert_status(503);
    redis.cont();
}
