//! The operators' listener: purge, statistics, health; and who may.

use crate::support::{Larder, Upstream};

const ROUTES: &str = "
routes:
  - path: /courses
    name: courses
    ttl: 30s
    tags: [courses]
  - path: /courses/{id}
    name: courses
    ttl: 30s
    tags: [courses, \"course:{id}\"]
  - path: /static
    name: static
    ttl: none
    purged_by: admin
";

const ALL: [&str; 4] = ["/courses", "/courses/1", "/courses/2", "/static"];

async fn hits<'t>(larder: &Larder) -> Vec<&'t str> {
    let mut hits = vec![];
    for target in ALL {
        if larder.get(target).await.is_hit() {
            hits.push(target);
        }
    }
    hits
}

#[tokio::test]
async fn a_purge_reaches_what_it_names() {
    let table: [(&str, &str, &str, &[&str]); 10] = [
        ("POST", "/purge", r#"{"tags": ["course:1"]}"#, &["/courses", "/courses/2", "/static"]),
        ("POST", "/purge", r#"{"tags": ["course:1", "course:2"]}"#, &["/courses", "/static"]),
        ("POST", "/purge", r#"{"urls": ["/courses", "/static"]}"#, &["/courses/1", "/courses/2"]),
        ("POST", "/purge", r#"{"urls": ["http://elsewhere.test/courses"]}"#, &ALL),
        ("POST", "/purge", r#"{"prefixes": ["/courses"]}"#, &["/static"]),
        ("POST", "/purge", r#"{"prefixes": ["/courses/1"]}"#, &["/courses", "/courses/2", "/static"]),
        ("POST", "/purge", r#"{"everything": true}"#, &[]),
        ("DELETE", "/cache", "", &[]),
        ("DELETE", "/cache/tags/courses", "", &["/static"]),
        ("DELETE", "/cache/tags/course%3A2", "", &["/courses", "/courses/1", "/static"]),
    ];
    for (method, target, body, left) in table {
        let upstream = Upstream::start();
        let larder = Larder::with(ROUTES, &upstream);
        hits(&larder).await;
        let reply = larder.admin.request(method, target).body(body).await.assert_status(200);
        assert!(reply.json()["position"].as_u64().is_some(), "{reply}");
        assert_eq!(hits(&larder).await, left, "{method} {target} {body}");
    }
}

#[tokio::test]
async fn what_can_not_be_understood_purges_nothing() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    hits(&larder).await;
    for (method, target, body, status) in [
        ("POST", "/purge", "", 400),
        ("POST", "/purge", "{}", 400),
        ("POST", "/purge", r#"{"tag": ["courses"]}"#, 400),
        ("POST", "/purge", r#"{"tags": "courses"}"#, 400),
        ("POST", "/purge", r#"{"tags": ["courses"], "urls": ["no-slash"]}"#, 400),
        ("POST", "/purge", r#"{"prefixes": ["/cou*"]}"#, 400),
        ("GET", "/purge", "", 405),
        ("GET", "/cache", "", 405),
        ("DELETE", "/cache/tags/", "", 404),
        ("GET", "/nothing", "", 404),
    ] {
        let reply = larder.admin.request(method, target).body(body).await;
        assert_eq!(reply.status, status, "{method} {target} {body}: {reply}");
    }
    assert_eq!(hits(&larder).await, ALL);
}

#[tokio::test]
async fn a_soft_purge_leaves_it_to_be_validated() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/courses").await;
    let body = r#"{"tags": ["courses"], "soft": true}"#;
    larder.admin.request("POST", "/purge").body(body).await.assert_status(200);
    larder.get("/courses").await.assert_fwd("stale").assert_text("GET /courses #2");
}

#[tokio::test]
async fn statistics_by_route_have_the_documented_names() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    for _ in 0..4 {
        larder.get("/courses").await;
    }
    larder.get("/static").await;
    larder.request("PUT", "/courses/1").body("x").await;
    let stats = larder.admin.get("/stats").await.assert_status(200).json();
    assert_eq!(stats["stats"]["hits"], 3);
    assert_eq!(stats["stats"]["misses"], 2);
    assert_eq!(stats["stats"]["hitRate"], 60.0);
    for figure in ["memoryUsed", "evictedKeys", "keyCount"] {
        assert!(stats["stats"][figure].is_u64(), "{figure}: {stats}");
    }
    assert_eq!(stats["status"], "ok");
    assert_eq!(stats["timestamp"], "2025-11-20T12:00:00.000Z");
    for (name, figure) in
        [("hits", 3), ("misses", 1), ("errors", 0), ("invalidations", 1), ("ttlSeconds", 30), ("requests", 5)]
    {
        assert_eq!(stats["routes"]["courses"][name], figure, "{name}: {stats}");
    }
    assert_eq!(stats["routes"]["static"]["ttlSeconds"], serde_json::Value::Null);
}

#[tokio::test]
async fn with_a_token_it_is_needed_for_all_but_probes_and_scrapes() {
    let upstream = Upstream::start();
    let larder = Larder::with(&format!("admin: {{token: secret}}\n{ROUTES}"), &upstream);
    for (method, target, is_open) in [
        ("GET", "/healthz", true),
        ("GET", "/readyz", true),
        ("GET", "/metrics", true),
        ("GET", "/stats", false),
        ("POST", "/purge", false),
        ("DELETE", "/cache", false),
        ("DELETE", "/cache/tags/x", false),
    ] {
        let request = || {
            larder.admin.request(method, target).body(if method == "POST" {
                r#"{"everything":true}"#
            } else {
                ""
            })
        };
        assert_eq!(request().await.status == 200, is_open, "{target}");
        let wrong = request().header("authorization", "Bearer wrong").await;
        assert_eq!(wrong.status == 200, is_open, "{target}");
        request().header("authorization", "Bearer secret").await.assert_status(200);
    }
}

#[tokio::test]
async fn a_page_in_somebodys_browser_can_not_purge() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/courses").await;
    for (name, value) in
        [("host", "evil.test"), ("origin", "http://evil.test"), ("x-forwarded-for", "127.0.0.1")]
    {
        let reply = larder.admin.request("DELETE", "/cache").header(name, value).await;
        assert_eq!(reply.status, 403, "{name}: {reply}");
    }
    larder.get("/courses").await.assert_hit();
}

#[tokio::test]
async fn sizes_are_reported_without_purged_responses() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    hits(&larder).await;
    assert_eq!(hits(&larder).await, ALL);
    let count = |sizes: &serde_json::Value, of: &str, name: &str| {
        let lines = sizes[of].as_array().expect("a list").clone();
        let line = lines.into_iter().find(|line| line["name"] == name);
        line.map(|line| (line["responses"].as_u64(), line["uses"].as_u64()))
    };
    let sizes = larder.admin.get("/sizes").await.assert_status(200).json();
    assert_eq!((&sizes["responses"], &sizes["sampled"]), (&4.into(), &4.into()));
    for (of, name, responses) in [
        ("routes", "courses", 3),
        ("routes", "static", 1),
        ("tags", "courses", 3),
        ("tags", "course:1", 1),
        ("prefixes", "/courses", 3),
        ("prefixes", "/courses/2", 1),
    ] {
        assert_eq!(count(&sizes, of, name), Some((Some(responses), Some(responses))), "{name}");
    }
    let largest = larder.admin.get("/sizes?by=responses&limit=1").await.json();
    assert_eq!(largest["tags"].as_array().map(Vec::len), Some(1));
    assert_eq!(largest["tags"][0]["name"], "courses");
    larder.admin.request("DELETE", "/cache/tags/course:1").await.assert_status(200);
    let sizes = larder.admin.get("/sizes").await.json();
    assert_eq!(count(&sizes, "tags", "course:1"), None);
    assert_eq!(count(&sizes, "routes", "courses"), Some((Some(2), Some(2))));
    larder.admin.get("/sizes?by=name").await.assert_status(400);
}
