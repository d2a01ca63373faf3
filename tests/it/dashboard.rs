//! The dashboard: its page is for everybody and tells nothing, its figures are those of `/metrics`. How it looks is
//! `tests/dashboard/check`'s, in a browser.

use crate::support::{Answer, HOST, Larder, Redis, Replica, Reply, Upstream, eventually};

const ROUTES: &str = "
routes:
  - {path: /a, name: things, ttl: 60s, tags: [a]}
  - {path: \"/b/{id}\", name: others, ttl: 60s}
  - {path: /w, name: writes, purges: [a]}
";

/// The sum of a metric's samples whose labels have all these words.
fn sum(metrics: &Reply, name: &str, labels: &[&str]) -> f64 {
    let samples = metrics.text().lines().filter_map(|line| {
        let (key, value) = line.rsplit_once(' ')?;
        let (its, words) = key.split_once('{').unwrap_or((key, ""));
        (its == name && labels.iter().all(|label| words.contains(label)))
            .then(|| value.parse::<f64>().unwrap())
    });
    samples.sum()
}

#[tokio::test]
async fn every_figure_is_the_one_that_metrics_has() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = Replica::start(&redis, &upstream, "max_lag: 0s, timeout: 5s", ROUTES).await;
    for target in ["/a", "/a", "/a", "/b/1", "/b/1", "/b/2", "/elsewhere"] {
        larder.get(target).await.assert_status(200);
    }
    larder.request("POST", "/w").body("x").await.assert_status(200);
    larder.purge_tag("a").await;
    larder.get("/a").await;
    upstream.on("/gone", Answer::hang_up());
    larder.get("/gone").await.assert_status(502);
    // Counters may follow the beginning of the response.
    larder.metric_becomes("larder_fills_total{route=\"others\"}", 2.0).await;
    larder.metric_becomes("larder_connections", 0.0).await;
    let told = larder.admin.get("/dashboard/data").await.assert_status(200).json();
    let metrics = larder.admin.get("/metrics").await;
    let all = &told["overview"];
    let same = |what: &str, value: &serde_json::Value, name: &str, labels: &[&str]| {
        let expected = sum(&metrics, name, labels);
        let value = value.as_f64().or(value.as_bool().map(|is| f64::from(u8::from(is))));
        assert_eq!(value, Some(expected), "{what}: {name} {labels:?}\n{told}");
    };
    same("hits", &all["hits"], "cache_hits_total", &[]);
    same("misses", &all["misses"], "cache_misses_total", &[]);
    same("requests", &all["requests"], "larder_requests_total", &[]);
    same("failures", &all["upstreamFailures"]["closed"], "larder_upstream_failures_total", &["closed"]);
    for route in all["routes"].as_array().expect("routes") {
        let name = format!("\"{}\"", route["name"].as_str().expect("a name"));
        for (field, metric, label) in [
            ("requests", "larder_requests_total", ""),
            ("hits", "cache_hits_total", ""),
            ("misses", "cache_misses_total", ""),
            ("fills", "larder_fills_total", ""),
            ("filledBytes", "larder_filled_bytes_total", ""),
            ("invalidations", "cache_invalidations_total", ""),
        ] {
            same(&name, &route[field], metric, &[&name, label]);
        }
        same(&name, &route["fromStore"]["count"], "larder_request_seconds_count", &[&name, "\"store\""]);
        same(
            &name,
            &route["fromUpstream"]["count"],
            "larder_request_seconds_count",
            &[&name, "\"upstream\""],
        );
        let saved = sum(&metrics, "larder_requests_total", &[&name, "\"hit\""])
            + sum(&metrics, "larder_requests_total", &[&name, "\"collapsed\""]);
        assert_eq!(route["saved"].as_f64(), Some(saved), "{route}");
    }
    for source in ["write", "purge", "admin"] {
        let label = format!("\"{source}\"");
        same(source, &all["purges"][source]["purges"], "larder_purges_total", &[&label]);
        same(source, &all["purges"][source]["targets"], "larder_purged_targets_total", &[&label]);
    }
    for (field, metric) in [
        ("entries", "larder_stored_entries"),
        ("bytes", "larder_stored_bytes"),
        ("capacity", "larder_store_capacity_bytes"),
        ("evicted", "larder_evicted_total"),
        ("purgeRecords", "larder_purge_records"),
    ] {
        same(field, &told["store"][field], metric, &[]);
    }
    for (field, metric) in [
        ("up", "larder_redis_up"),
        ("purgesWaiting", "larder_purges_waiting"),
        ("connections", "larder_redis_connections_total"),
        ("newIndexes", "larder_purge_indexes_total"),
    ] {
        same(field, &told["redis"][field], metric, &[]);
    }
    assert_eq!(told["status"], "ok");
    assert_eq!(all["routes"].as_array().map(Vec::len), Some(4), "{told}");
}

#[tokio::test]
async fn it_tells_how_much_memory_redis_has_in_use() {
    let (redis, upstream) = (Redis::start_with(&["--maxmemory", "64mb"]).await, Upstream::start());
    let larder = Replica::start(&redis, &upstream, "", ROUTES).await;
    let told = eventually("Redis has told", || async {
        let told = larder.admin.get("/dashboard/data").await.json();
        told["redis"]["memoryUsed"].as_u64().map(|used| (used, told))
    });
    let (used, told) = told.await;
    assert!(used > 500_000, "{used}");
    assert_eq!(told["redis"]["memoryLimit"], 64 << 20);
    assert_eq!(larder.metric("larder_redis_memory_limit_bytes").await, f64::from(64 << 20));
}

#[tokio::test]
async fn what_is_wrong_is_said_in_words() {
    let upstream = Upstream::start();
    let (mut redis, larder) = {
        let redis = Redis::start().await;
        let larder = Replica::start(&redis, &upstream, "", ROUTES).await;
        (redis, larder)
    };
    let notes = async || larder.admin.get("/dashboard/data").await.json()["notes"].clone();
    assert_eq!(notes().await, serde_json::json!([]));
    redis.kill();
    larder.is_cut_off().await;
    let told = notes().await;
    assert_eq!(told[0]["level"], "trouble", "{told}");
    assert!(told[0]["text"].as_str().is_some_and(|text| text.starts_with("Redis is unavailable")), "{told}");
    larder.reconfigure("routes: 5").await;
    let told = notes().await.to_string();
    assert!(told.contains("The changed proxy.yaml is invalid"), "{told}");
}

#[tokio::test]
async fn the_page_is_open_and_its_figures_need_the_token() {
    let upstream = Upstream::start();
    let larder = Larder::with(&format!("admin: {{token: secret}}\n{ROUTES}"), &upstream);
    let mut files = vec!["/dashboard".to_owned()];
    let mut seen = 0;
    // The page names its style and its script, and scripts name those that they import.
    while let Some(path) = files.get(seen).cloned() {
        seen += 1;
        let path = &*path;
        let content_type = match path {
            "/dashboard" => "text/html; charset=utf-8",
            "/dashboard/style.css" => "text/css; charset=utf-8",
            _ => "text/javascript; charset=utf-8",
        };
        let reply = larder.admin.get(path).await.assert_status(200);
        let reply =
            reply.assert_header("content-type", content_type).assert_header("cache-control", "no-store");
        let policy = reply.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(!reply.text().contains("style=") && !reply.text().contains("innerHTML"), "{path}");
        let text = reply.text();
        let is_file = |part: &&str| part.ends_with(".js") || part.ends_with(".css");
        let named = text.split('"').filter(|part| part.starts_with("/dashboard/")).filter(is_file);
        let new: Vec<_> =
            named.filter(|path| !files.iter().any(|known| known == path)).map(str::to_owned).collect();
        files.extend(new);
        larder.admin.request("POST", path).await.assert_status(405);
    }
    files.sort();
    files.dedup();
    assert!(files.len() > 10, "{files:?}");
    larder.admin.get("/dashboard/data").await.assert_status(401);
    let wrong = larder.admin.get("/dashboard/data").header("authorization", "Bearer wrong");
    wrong.await.assert_status(401);
    let right = larder.admin.get("/dashboard/data").header("authorization", "Bearer secret");
    right.await.assert_status(200);
}

#[tokio::test]
async fn an_api_that_fails_or_hangs_is_trouble() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let told = async || larder.admin.get("/dashboard/data").await.json();
    assert_eq!(told().await["notes"], serde_json::json!([]));
    upstream.on("/failing", Answer::status(503));
    for _ in 0..3 {
        larder.get("/failing").await.assert_status(503);
    }
    let notes = told().await["notes"].clone();
    assert_eq!(notes[0]["level"], "trouble", "{notes}");
    let text = notes[0]["text"].as_str().expect("a text");
    assert_eq!(text, "The API answered 3 of 3 requests with an error (5xx) in the last minute.");
    let held = upstream.hold("/hanging");
    let waiting = larder.get("/hanging").spawn();
    held.arrived().await;
    larder.metric_becomes("larder_upstream_waiting", 1.0).await;
    let overview = told().await["overview"].clone();
    assert_eq!(overview["upstreamWaiting"], 1);
    assert!(overview["upstreamOldestWait"].as_f64().is_some_and(|seconds| seconds > 0.0), "{overview}");
    held.release();
    waiting.await.expect("an answer").assert_status(200);
    larder.metric_becomes("larder_upstream_waiting", 0.0).await;
    assert_eq!(told().await["overview"]["upstreamOldestWait"], serde_json::Value::Null);
}

#[tokio::test]
async fn reasons_rules_and_purging_writes_are_told() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    upstream.on("/b/1", Answer::ok("x").header("cache-control", "no-store"));
    for target in ["/a", "/a", "/b/1"] {
        larder.get(target).await.assert_status(200);
    }
    larder.metric_becomes("larder_not_stored_total{route=\"others\",reason=\"no-store\"}", 1.0).await;
    let told = larder.admin.get("/dashboard/data").await.json();
    let route = |name: &str| {
        let routes = told["overview"]["routes"].as_array().expect("routes");
        routes.iter().find(|route| route["name"] == name).expect("the route").clone()
    };
    assert_eq!(route("things")["forwarded"], serde_json::json!([["uri-miss", "never-stored", 1]]));
    assert_eq!(route("others")["notStored"], serde_json::json!([["no-store", 1]]));

    let rules = larder.admin.get("/dashboard/rules?route=things").await.assert_status(200).json();
    let rule = &rules["rules"][0];
    assert_eq!(rule["path"], "/a");
    assert_eq!(rule["settings"], serde_json::json!([["ttl", "1m"], ["tags", "[a]"]]));
    assert_eq!(rules["file"], "proxy.yaml");
    let by_write = serde_json::json!({"route": "/w", "template": "a", "tag": "a"});
    assert!(rule["purgedBy"].as_array().is_some_and(|routes| routes.contains(&by_write)), "{rules}");
    let tag = larder.admin.get("/dashboard/rules?tag=a").await.assert_status(200).json();
    assert_eq!(tag["carriedBy"], serde_json::json!(["/a"]));
    assert!(tag["purgedBy"].as_array().is_some_and(|routes| routes.contains(&by_write)), "{tag}");
    larder.admin.get("/dashboard/rules?route=unknown").await.assert_status(404);
    larder.admin.get("/dashboard/rules").await.assert_status(400);

    larder.get("/a").header("host", "api.test").await.assert_status(200);
    let entry = larder.admin.get("/explain?url=http://api.test/a").await.assert_status(200).json();
    let now = &entry["now"];
    assert!(now["purgingRoutes"].as_array().is_some_and(|routes| routes.contains(&by_write)), "{entry}");
    assert!(now["fetchedAt"].as_str().is_some_and(|at| at.ends_with('Z')), "{entry}");
    assert_eq!((&now["fetchedHere"], &now["replica"]), (&true.into(), &serde_json::Value::Null), "{entry}");
}

#[tokio::test]
async fn an_entry_says_whether_this_replica_has_fetched_it() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let one = Replica::start(&redis, &upstream, "timeout: 5s, replica: one", ROUTES).await;
    let two = Replica::start(&redis, &upstream, "timeout: 5s, replica: two", ROUTES).await;
    one.get("/a").await.assert_status(200);
    two.has("/a").await;
    for (replica, name) in [(&one, "one"), (&two, "two")] {
        let entry =
            replica.admin.get(&format!("/explain?url=http://{HOST}/a")).await.assert_status(200).json();
        let now = &entry["now"];
        assert_eq!((&now["replica"], now["stored"] == true), (&name.into(), true), "{entry}");
        // A miss of the second replica, before Redis had it, is a fetch of its own.
        assert_eq!(now["fetchedHere"], upstream.count("/a") == 2 || name == "one", "{entry}");
    }
}
