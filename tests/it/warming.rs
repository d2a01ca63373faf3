//! Requests that larder sends before clients do: `warm`, `POST /warm`, `POST /refresh`, and `reprime` after a purge,
//! counted at the upstream.

use serde_json::{Value, json};

use crate::support::{Answer, HOST, Larder, Redis, Replica, Reply, Upstream, bearer, eventually};

const ROUTES: &str = "
background: {host: shop.test, rate: 10000}
routes:
  - {path: /api/courses, name: courses, ttl: 10m, query: {page: 1}, tags: [courses]}
  - {path: '/api/courses/{id}', name: courses, ttl: 10m, tags: ['course:{id}']}
  - {path: '/api/files/{id}/url', ttl: 8m, shared: true, tags: [files]}
  - {path: /api/me, ttl: 10m, per: authorization}
  - {path: /api/never, ttl: never}
";

fn warmed(upstream: &Upstream, warm: &str) -> Larder {
    Larder::with(&format!("{ROUTES}\nwarm: {warm}"), upstream)
}

/// Asks as a client of `shop.test`.
async fn get(larder: &Larder, target: &str) -> Reply {
    larder.get(target).header("host", HOST).await
}

async fn runs(larder: &Larder, runs: u64) {
    larder.metric_becomes("larder_warm_runs_total", runs as f64).await;
}

async fn post(larder: &Larder, endpoint: &str, body: Value) -> Value {
    let reply = larder.admin.request("POST", endpoint).body(body.to_string()).await;
    reply.assert_status(200).json()
}

#[tokio::test]
async fn a_list_is_warm_before_the_first_client() {
    let upstream = Upstream::start();
    let larder = warmed(&upstream, "[{get: [/api/courses, '/api/courses?page=2']}]");
    runs(&larder, 1).await;
    assert_eq!(upstream.total(), 2);
    get(&larder, "/api/courses?page=1").await.assert_hit();
    get(&larder, "/api/courses?page=2").await.assert_hit();
    assert_eq!(upstream.total(), 2);
    // Under another name it is another response.
    larder.get("/api/courses").header("host", "other.test").await.assert_stored();
    // No client was there to have a hit or a miss.
    assert_eq!(larder.metric("cache_misses_total{namespace=\"courses\"}").await, 1.0);
    assert_eq!(larder.metric("cache_hits_total{namespace=\"courses\"}").await, 2.0);
    let fetched = "larder_background_requests_total{kind=\"warm\",result=\"fetched\"}";
    assert_eq!(larder.metric(fetched).await, 2.0);
}

#[tokio::test]
async fn a_template_is_filled_with_each_value() {
    let upstream = Upstream::start();
    let larder = warmed(&upstream, "[{get: '/api/courses/{id}', values: {id: [1, 2, x y]}}]");
    runs(&larder, 1).await;
    for target in ["/api/courses/1", "/api/courses/2", "/api/courses/x%20y"] {
        get(&larder, target).await.assert_hit();
    }
    assert_eq!(upstream.total(), 3);
}

#[tokio::test]
async fn a_json_answer_names_what_to_ask_for() {
    let upstream = Upstream::start();
    let recent = json!({"items": [{"id": 7}, {"id": "x y"}, {"id": 7}, {"id": null}]}).to_string();
    upstream.on("/api/files", Answer::json(recent));
    let warm = "[{from: '/api/files?recent=1', each: '$.items[*].id', get: '/api/files/{}/url', every: 4m}]";
    let larder = warmed(&upstream, warm);
    runs(&larder, 1).await;
    assert_eq!(upstream.last("/api/files").target, "/api/files?recent=1");
    assert_eq!(upstream.total(), 3);
    get(&larder, "/api/files/7/url").await.assert_hit();
    get(&larder, "/api/files/x%20y/url").await.assert_hit();
    // A list that can't be read spoils nothing, and is read again the next time.
    upstream.on("/api/files", Answer::status(500));
    larder.after(240);
    runs(&larder, 2).await;
    get(&larder, "/api/files/7/url").await.assert_hit();
    let shown = larder.admin.get("/warm").await.assert_status(200).json();
    assert_eq!(shown["warm"][0]["tally"]["failed"], 1, "{shown}");
    assert_eq!(shown["warm"][0]["runs"], 2, "{shown}");
}

#[tokio::test]
async fn a_warm_entry_never_expires_and_costs_one_request() {
    let upstream = Upstream::start();
    let larder = warmed(&upstream, "[{get: /api/courses, every: 5m}]");
    runs(&larder, 1).await;
    for run in 2..=13 {
        larder.after(299);
        get(&larder, "/api/courses").await.assert_hit();
        larder.after(1);
        runs(&larder, run).await;
    }
    // Each is renewed when half of its ten minutes is left.
    assert_eq!(upstream.count("/api/courses"), 13);
    get(&larder, "/api/courses").await.assert_hit();
}

#[tokio::test]
async fn what_clients_have_fetched_is_not_fetched_again() {
    let upstream = Upstream::start();
    let larder = warmed(&upstream, "[{get: /api/courses, every: 3m, on_start: false}]");
    get(&larder, "/api/courses").await.assert_stored();
    larder.after(180);
    runs(&larder, 1).await;
    assert_eq!(upstream.total(), 1);
    let fresh = "larder_background_requests_total{kind=\"warm\",result=\"fresh\"}";
    assert_eq!(larder.metric(fresh).await, 1.0);
}

#[tokio::test]
async fn per_caller_entries_are_warmed_with_their_credential() {
    let upstream = Upstream::start();
    let (ann, ben) = (bearer(r#"{"sub":"ann"}"#), bearer(r#"{"sub":"ben"}"#));
    let larder = warmed(&upstream, &format!("[{{get: /api/me, headers: {{Authorization: {ann}}}}}]"));
    runs(&larder, 1).await;
    let me = |token: &str| larder.get("/api/me").header("host", HOST).header("authorization", token);
    me(&ann).await.assert_hit();
    me(&ben).await.assert_stored();
    get(&larder, "/api/me").await.assert_fwd("bypass");
}

#[tokio::test]
async fn it_stores_nothing_that_a_client_s_request_would_not() {
    let upstream = Upstream::start();
    upstream.on("/api/courses", Answer::ok("x").header("set-cookie", "a=b"));
    upstream.on("/api/courses/1", Answer::ok("x").header("cache-control", "private"));
    upstream.on("/api/courses/2", Answer::status(500));
    let warm = "[{get: [/api/courses, '/api/courses/{id}'], values: {id: [1, 2, 3, a/b]}}]";
    let larder = warmed(&upstream, warm);
    runs(&larder, 1).await;
    let shown = larder.admin.get("/warm").await.json();
    let tally = &shown["warm"][0]["tally"];
    assert_eq!((&tally["requests"], &tally["fetched"]), (&json!(5), &json!(1)), "{shown}");
    assert_eq!(tally["notStored"], 3, "{shown}");
    // A client's request for that path passes, whatever comes.
    assert_eq!(tally["reasons"]["path-spelling"], 1, "{shown}");
    for target in ["/api/courses", "/api/courses/1", "/api/courses/2"] {
        assert!(!get(&larder, target).await.is_hit(), "{target}");
    }
}

#[tokio::test]
async fn a_client_joins_what_is_being_warmed() {
    let upstream = Upstream::start();
    let held = upstream.hold("/api/courses");
    let larder = warmed(&upstream, "[{get: /api/courses}]");
    held.arrived().await;
    let client = larder.get("/api/courses").header("host", HOST).spawn();
    larder.metric_becomes("larder_followers", 1.0).await;
    held.release();
    client.await.expect("no panic").assert_status(200);
    runs(&larder, 1).await;
    get(&larder, "/api/courses").await.assert_hit();
    assert_eq!(upstream.total(), 1);
}

#[tokio::test]
async fn a_purge_while_it_is_warmed_kills_what_comes() {
    let upstream = Upstream::start();
    let held = upstream.hold("/api/courses");
    let larder = warmed(&upstream, "[{get: /api/courses}]");
    held.arrived().await;
    larder.request("PURGE", "/x").header("cache-tag", "courses").await.assert_status(200);
    held.release();
    runs(&larder, 1).await;
    get(&larder, "/api/courses").await.assert_fwd("uri-miss");
}

#[tokio::test]
async fn three_replicas_ask_the_upstream_once() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let warm = "warm: [{get: '/api/courses/{id}', values: {id: [1, 2, 3, 4, 5]}, every: 5m}]";
    let start = || async { Replica::start(&redis, &upstream, "", &format!("{ROUTES}\n{warm}")).await };
    let one = start().await;
    runs(&one, 1).await;
    redis.holds(5).await;
    for later in [start().await, start().await] {
        runs(&later, 1).await;
        assert_eq!(later.get("/api/courses/3").await.assert_hit().text(), "GET /api/courses/3 #1");
    }
    assert_eq!(upstream.total(), 5);
}

#[tokio::test]
async fn a_reload_warms_new_entries_only() {
    let upstream = Upstream::start();
    let larder = warmed(&upstream, "[{get: /api/courses}]");
    runs(&larder, 1).await;
    larder.request("PURGE", "/api/courses").await.assert_status(200);
    larder.reconfigure(&format!("{ROUTES}\nwarm: [{{get: /api/courses}}, {{get: /api/courses/9}}]")).await;
    runs(&larder, 2).await;
    assert_eq!((upstream.count("/api/courses"), upstream.count("/api/courses/9")), (1, 1));
}

#[tokio::test]
async fn on_demand_a_route_with_values_or_urls_are_warmed() {
    let upstream = Upstream::start();
    let larder = warmed(&upstream, "[]");
    let request = json!({"route": "/api/courses/{id}", "values": {"id": [1, "2"]}});
    let report = post(&larder, "/warm", request.clone()).await;
    assert_eq!((&report["status"], &report["fetched"]), (&json!("done"), &json!(2)), "{report}");
    assert_eq!(post(&larder, "/warm", request).await["fresh"], 2);
    // By its name: the one of two whose parameters have values.
    assert_eq!(post(&larder, "/warm", json!({"route": "courses"})).await["fetched"], 1);
    assert_eq!(post(&larder, "/warm", json!({"urls": ["/api/courses?page=3"]})).await["fetched"], 1);
    for target in ["/api/courses/1", "/api/courses/2", "/api/courses", "/api/courses?page=3"] {
        get(&larder, target).await.assert_hit();
    }
    // A response that could not be kept does not reach the upstream.
    let before = upstream.total();
    let refused = post(&larder, "/warm", json!({"urls": ["/api/never", "/other", "/api/me"]})).await;
    assert_eq!(refused["refused"], 3, "{refused}");
    assert_eq!(upstream.total(), before);
}

#[tokio::test]
async fn on_demand_every_alternative_of_a_path_is_warmed() {
    let upstream = Upstream::start();
    let yaml = "background: {host: a}
routes:
  - {path: '/api/{notes|tasks}', name: content, ttl: 1m}
  - {path: '/api/{notes|tasks}/{id}', ttl: 1m}
  - {path: '/files/{*rest?}', ttl: 1m}
";
    let larder = Larder::with(yaml, &upstream);
    for (request, fetched) in [
        (json!({"route": "/api/{notes|tasks}"}), ["/api/notes", "/api/tasks"]),
        (
            json!({"route": "/api/{notes|tasks}/{id}", "values": {"id": [1]}}),
            ["/api/notes/1", "/api/tasks/1"],
        ),
        (json!({"route": "/files/{*rest?}", "values": {"rest": ["a", "b"]}}), ["/files/a", "/files/b"]),
    ] {
        let before = upstream.total();
        assert_eq!(post(&larder, "/warm", request.clone()).await["fetched"], 2, "{request}");
        assert_eq!((upstream.total() - before, fetched.map(|path| upstream.count(path))), (2, [1, 1]));
    }
    assert_eq!(post(&larder, "/warm", json!({"route": "content"})).await["fresh"], 2);
    assert_eq!(post(&larder, "/warm", json!({"route": "/api/{tasks|notes}"})).await["fresh"], 2);
    assert_eq!(post(&larder, "/warm", json!({"route": "/files/{*rest?}"})).await["fetched"], 1);
}

#[tokio::test]
async fn on_demand_what_can_not_be_understood_is_refused_with_the_fix() {
    let upstream = Upstream::start();
    let larder = warmed(&upstream, "[]");
    for (endpoint, body, expected) in [
        ("/warm", "{}", "no route or URL is named"),
        ("/warm", "x", "expected value"),
        ("/warm", r#"{"url": []}"#, "unknown field"),
        ("/warm", r#"{"urls": ["http://a/b"]}"#, "is no path"),
        ("/warm", r#"{"route": "nobody"}"#, "no caching route"),
        ("/warm", r#"{"route": "/api/courses/{id}"}"#, "has no values"),
        ("/warm", r#"{"route": "/api/courses", "values": {"id": [1]}}"#, "no URL has a"),
        ("/warm", r#"{"urls": ["/api/courses/{id}"], "values": {"id": [{}]}}"#, "unexpected value"),
        ("/warm", r#"{"name": "nobody"}"#, "`warm` has no entry"),
        ("/warm", r#"{"name": "x", "urls": ["/a"]}"#, "`name` stands alone"),
        ("/warm", r#"{"from": "/api/courses", "urls": ["/api/courses/{}"]}"#, "belong together"),
        ("/warm", r#"{"urls": ["/api/courses/{}"]}"#, "has no values"),
        ("/warm", r#"{"from": "/a?p={page}", "each": "$.x", "urls": ["/a"]}"#, "can't have `{page}`"),
        ("/warm", r#"{"from": "/a", "each": "$.x", "until": "never"}"#, "unknown value of `until`"),
        ("/warm", r#"{"urls": ["/a"], "until": "last_page"}"#, "belong together"),
        ("/refresh", "{}", "missing `expiring_within`"),
        ("/refresh", r#"{"expiring_within": "soon"}"#, "soon"),
    ] {
        let reply = larder.admin.request("POST", endpoint).body(body).await.assert_status(400);
        assert!(reply.text().contains(expected), "{endpoint} {body}: {}", reply.text());
        assert!(reply.json()["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{}", reply.text());
    }
    larder.admin.get("/refresh").await.assert_status(405);
    assert_eq!(upstream.total(), 0);
}

#[tokio::test]
async fn on_demand_what_is_used_and_would_soon_expire_is_fetched_anew() {
    let upstream = Upstream::start();
    let larder = warmed(&upstream, "[]");
    // Used, not used, used by one caller, and used but purged.
    for target in ["/api/files/1/url", "/api/files/1/url", "/api/files/2/url"] {
        get(&larder, target).await.assert_status(200);
    }
    for _ in 0..2 {
        get(&larder, "/api/courses/1").await;
        get(&larder, "/api/courses/2").await;
        larder.get("/api/me").header("host", HOST).header("authorization", &bearer(r#"{"sub":"ann"}"#)).await;
    }
    larder.request("PURGE", "/api/courses/2").await.assert_status(200);
    let before = upstream.total();
    assert_eq!(post(&larder, "/refresh", json!({"expiring_within": "5m"})).await["requests"], 0);
    larder.after(240);
    let report = post(&larder, "/refresh", json!({"expiring_within": "5m"})).await;
    assert_eq!((&report["requests"], &report["fetched"]), (&json!(1), &json!(1)), "{report}");
    assert_eq!(upstream.total(), before + 1);
    assert_eq!(get(&larder, "/api/files/1/url").await.assert_hit().remaining_ttl(), 480);
    // By route and by tag.
    for (more, expected) in [
        (json!({"route": "courses"}), 1),
        (json!({"route": "/api/courses"}), 0),
        (json!({"tag": "course:1"}), 0),
        (json!({"tag": "files"}), 1),
        (json!({"tag": "course:9"}), 0),
    ] {
        let mut request = json!({"expiring_within": "10m"});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let report = post(&larder, "/refresh", request).await;
        assert_eq!(report["requests"], expected, "{more}: {report}");
    }
    let wrong = json!({"expiring_within": "10m", "route": "course"}).to_string();
    let refused = larder.admin.request("POST", "/refresh").body(wrong).await.assert_status(400);
    assert!(refused.text().contains("did you mean"), "{refused}");
}

#[tokio::test]
async fn a_client_s_credential_is_never_sent_again() {
    let upstream = Upstream::start();
    let larder = warmed(&upstream, "[]");
    let ask = || larder.get("/api/files/1/url").header("host", HOST).header("authorization", "Bearer ann");
    ask().header("cookie", "session=1").header("accept-language", "de").await.assert_stored();
    ask().header("accept-language", "de").await.assert_hit();
    assert_eq!(post(&larder, "/refresh", json!({"expiring_within": "1h"})).await["fetched"], 1);
    let sent = upstream.last("/api/files/1/url");
    assert_eq!(upstream.count("/api/files/1/url"), 2);
    assert_eq!((sent.header("authorization"), sent.header("cookie")), (None, None));
    assert_eq!(sent.header("accept-language").as_deref(), Some("de"));
    assert_eq!(sent.header("host").as_deref(), Some(HOST));
}

/// `credentials` may name a field that is in every key.
#[tokio::test]
async fn a_credential_that_a_request_lacks_does_not_keep_it_back() {
    let upstream = Upstream::start();
    let yaml = "credentials: {also: [x-version]}\nroutes: [{path: /a, ttl: 60s}, {path: /b, ttl: 60s, shared: true}]";
    let larder = Larder::with(yaml, &upstream);
    for _ in 0..2 {
        larder.get("/a").await.assert_status(200);
        larder.get("/b").header("x-version", "1").await.assert_status(200);
    }
    let report = post(&larder, "/refresh", json!({"expiring_within": "1h"})).await;
    assert_eq!(
        (&report["requests"], upstream.count("/a"), upstream.count("/b")),
        (&json!(1), 2, 1),
        "{report}"
    );
}

#[tokio::test]
async fn reprime_refetches_the_hottest_purged_responses() {
    let upstream = Upstream::start();
    let larder = Larder::with(&format!("{ROUTES}\npurge: {{reprime: 2}}"), &upstream);
    for (id, uses) in [(1, 1), (2, 4), (3, 2), (4, 0)] {
        for _ in 0..=uses {
            get(&larder, &format!("/api/courses/{id}")).await;
        }
    }
    get(&larder, "/api/courses").await;
    get(&larder, "/api/courses").await.assert_hit();
    let count = |id: u64| upstream.count(&format!("/api/courses/{id}"));
    let purge = json!({"tags": ["course:1", "course:2", "course:3", "course:4"]});
    post(&larder, "/purge", purge.clone()).await;
    let fetched = "larder_background_requests_total{kind=\"reprime\",result=\"fetched\"}";
    larder.metric_becomes(fetched, 2.0).await;
    assert_eq!([1, 2, 3, 4].map(count), [1, 2, 2, 1]);
    assert_eq!(upstream.count("/api/courses"), 1);
    get(&larder, "/api/courses/2").await.assert_hit();
    // An unused response is not hot, and one that the first purge left out is not brought back by a second.
    post(&larder, "/purge", purge).await;
    larder.metric_becomes(fetched, 3.0).await;
    assert_eq!([1, 2, 3, 4].map(count), [1, 3, 2, 1]);
}

#[tokio::test]
async fn without_reprime_a_purge_fetches_nothing() {
    let upstream = Upstream::start();
    let larder = warmed(&upstream, "[{get: /api/courses/1, every: 1m}]");
    runs(&larder, 1).await;
    get(&larder, "/api/courses").await;
    get(&larder, "/api/courses").await.assert_hit();
    larder.request("PURGE", "/x").header("cache-tag", "courses").await.assert_status(200);
    // Two turns of the wheel that would have done it.
    for run in 2..=3 {
        larder.after(60);
        runs(&larder, run).await;
    }
    assert_eq!(upstream.count("/api/courses"), 1);
}

#[tokio::test]
async fn warming_waits_while_clients_use_the_upstream() {
    let upstream = Upstream::start();
    let held = ["/a", "/b", "/c"].map(|path| upstream.hold(path));
    let yaml = format!(
        "upstream: {{url: \"${{UPSTREAM}}\", max_connections: 4}}\n{ROUTES}\nwarm: [{{get: /api/courses, every: 1m, on_start: false}}]"
    );
    let larder = Larder::with(&yaml, &upstream);
    let clients = ["/a", "/b", "/c"].map(|path| larder.get(path).spawn());
    for held in &held {
        held.arrived().await;
    }
    let shown = async || larder.admin.get("/warm").await.json()["warm"][0].clone();
    eventually("the schedule has begun", || async { shown().await["next"].is_u64().then_some(()) }).await;
    larder.after(60);
    eventually("it is due", || async { (shown().await["running"] == true).then_some(()) }).await;
    assert_eq!(upstream.count("/api/courses"), 0);
    for (held, client) in held.into_iter().zip(clients) {
        held.release();
        client.await.expect("no panic").assert_status(200);
    }
    runs(&larder, 1).await;
    assert_eq!(upstream.count("/api/courses"), 1);
}
