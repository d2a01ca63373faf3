//! A changed `proxy.yaml` comes into use without a restart: whole, or not at all, and no request notices.

use crate::support::{Answer, Larder, Load, Process, Upstream, eventually};

const COURSES: &str = "routes: [{path: /courses, ttl: 60s, tags: [courses]}]";

#[tokio::test]
async fn a_route_that_is_added_caches_and_one_that_is_removed_passes() {
    let upstream = Upstream::start();
    let larder = Larder::with("", &upstream);
    larder.get("/courses").await;
    larder.get("/courses").await.assert_text("GET /courses #2");
    larder.reconfigure(COURSES).await;
    larder.get("/courses").await.assert_text("GET /courses #3");
    larder.get("/courses").await.assert_text("GET /courses #3");
    larder.reconfigure("").await;
    larder.get("/courses").await.assert_text("GET /courses #4");
}

#[tokio::test]
async fn stored_responses_obey_a_shortened_ttl_only() {
    let upstream = Upstream::start();
    let larder = Larder::with(COURSES, &upstream);
    larder.get("/courses").await;
    larder.after(20).reconfigure("routes: [{path: /courses, ttl: 30s, tags: [courses]}]").await;
    larder.get("/courses").await.assert_header("cache-status", "larder; hit; ttl=10");
    larder.reconfigure("routes: [{path: /courses, ttl: 1h, tags: [courses]}]").await;
    larder.get("/courses").await.assert_header("cache-status", "larder; hit; ttl=40");
    larder.reconfigure("routes: [{path: /courses, ttl: 10s, tags: [courses]}]").await;
    larder.get("/courses").await.assert_text("GET /courses #2");
}

#[tokio::test]
async fn a_new_credential_field_hides_responses_shared_before() {
    let upstream = Upstream::start();
    let larder = Larder::with(COURSES, &upstream);
    larder.get("/courses").header("x-stall", "alice").await.assert_text("GET /courses #1");
    larder.get("/courses").await.assert_text("GET /courses #1");
    larder.reconfigure(&format!("credentials: [Authorization, Cookie, X-Stall]\n{COURSES}")).await;
    larder.get("/courses").await.assert_text("GET /courses #2");
}

#[tokio::test]
async fn a_wrong_file_changes_nothing_and_is_reported() {
    let upstream = Upstream::start();
    let larder = Larder::with(COURSES, &upstream);
    larder.get("/courses").await;
    larder.reconfigure("routes: [{path: /courses, tll: 1s}]").await;
    larder.get("/courses").await.assert_text("GET /courses #1");
    let ready = larder.admin.get("/readyz").await.assert_status(200).json();
    assert_eq!(ready["status"], "ok");
    assert_eq!(ready["config"]["status"], "refused");
    assert_eq!(ready["config"]["reason"], "proxy.yaml:2: unknown key `tll` in a route");
    assert_eq!(larder.metric("larder_config_in_use").await, 0.0);
    assert_eq!(larder.metric("larder_config_reloads_total{result=\"refused\"}").await, 1.0);
    assert!(larder.log().contains("did you mean `ttl`?"), "{}", larder.log());
    larder.reconfigure(COURSES).await;
    assert_eq!(larder.admin.get("/readyz").await.json()["config"], serde_json::Value::Null);
    assert_eq!(larder.metric("larder_config_in_use").await, 1.0);
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_the_rest_is_in_use() {
    let upstream = Upstream::start();
    let larder = Larder::with("", &upstream);
    larder.reconfigure(&format!("store: {{memory: 1MiB}}\nlog: {{level: debug}}\n{COURSES}")).await;
    let ready = larder.admin.get("/readyz").await.json();
    assert_eq!(ready["needs_restart"], serde_json::json!(["store", "log"]));
    assert_eq!(larder.metric("larder_config_needs_restart").await, 1.0);
    larder.get("/courses").await;
    larder.get("/courses").await.assert_text("GET /courses #1");
}

#[tokio::test]
async fn the_upstream_the_admin_token_and_who_may_purge_change_too() {
    let (old, new) = (Upstream::start(), Upstream::start());
    old.on("/a", Answer::ok("old"));
    new.on("/a", Answer::ok("new"));
    let larder = Larder::with("", &old);
    larder.get("/a").await.assert_text("old");
    let text = format!("upstream: {}\nadmin: {{token: secret}}\npurge: {{allow: [192.0.2.1]}}", new.url());
    larder.request("PURGE", "/a").await.assert_status(200);
    larder.reconfigure(&text).await;
    larder.get("/a").await.assert_text("new");
    larder.admin.get("/stats").await.assert_status(401);
    larder.admin.get("/stats").header("authorization", "Bearer secret").await.assert_status(200);
    larder.request("PURGE", "/a").await.assert_status(403);
}

#[tokio::test]
async fn counters_go_on_when_routes_change_their_place() {
    let upstream = Upstream::start();
    let larder = Larder::with(COURSES, &upstream);
    larder.get("/courses").await;
    larder.get("/courses").await;
    larder
        .reconfigure("routes: [{path: /users, ttl: 1s}, {path: /courses, ttl: 60s, tags: [courses]}]")
        .await;
    larder.get("/courses").await;
    assert_eq!(larder.metric("cache_hits_total{namespace=\"/courses\"}").await, 2.0);
    assert_eq!(larder.metric("cache_misses_total{namespace=\"/courses\"}").await, 1.0);
}

#[tokio::test]
async fn a_running_request_keeps_its_configuration() {
    let upstream = Upstream::start();
    let larder = Larder::with(COURSES, &upstream);
    let held = upstream.hold("/courses");
    let slow = larder.get("/courses").spawn();
    held.arrived().await;
    larder.reconfigure("routes: [{path: /courses, mode: off}]").await;
    held.release();
    slow.await.unwrap().assert_stored();
    // The stored response stands under the former rule, and the present one says off.
    larder.get("/courses").await.assert_text("GET /courses #2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_under_load_fail_nothing() {
    let upstream = Upstream::start();
    let larder = Larder::with(COURSES, &upstream);
    let load = Load::start(&upstream, "/courses", larder.address(), 4);
    for turn in 0..100 {
        let (ttl, tags) = (30 + turn % 3, ["[courses]", "[courses, more]"][turn % 2]);
        larder.reconfigure(&format!("routes: [{{path: /courses, ttl: {ttl}s, tags: {tags}}}]")).await;
    }
    let seen = load.ends().await;
    assert!(seen.hits > 100 && seen.writes > 10, "{seen:?}");
    assert_eq!(larder.metric("larder_config_reloads_total{result=\"used\"}").await, 100.0);
}

#[tokio::test]
async fn a_file_that_is_replaced_and_sighup_are_seen_by_the_process() {
    let upstream = Upstream::start();
    let process = Process::with(COURSES, &upstream).await;
    let used = "larder_config_reloads_total{result=\"used\"}";
    let reloads = async |count: f64| {
        eventually("it is read", || async { (process.metric(used).await == count).then_some(()) }).await;
    };
    process.get("/courses").await;
    process.replace_config("routes: []");
    reloads(1.0).await;
    process.get("/courses").await.assert_text("GET /courses #2");
    process.signal("HUP");
    reloads(2.0).await;
    process.replace_config("routes: 5");
    let refused = "larder_config_reloads_total{result=\"refused\"}";
    eventually("it is refused", || async { (process.metric(refused).await == 1.0).then_some(()) }).await;
    process.get("/courses").await.assert_text("GET /courses #3");
}
