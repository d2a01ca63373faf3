//! `admin_at`: operations at paths of the API, for those whom the API lets operate it.

use serde_json::{Value, json};

use crate::support::{Answer, Larder, Received, Redis, Replica, Reply, Request, Upstream, eventually};

const YAML: &str = "
callers:
  operators: {ask: {url: '${UPSTREAM}/api/admin/me', every: 10s}}
admin_at:
  callers: operators
  stats: /api/admin/cache/stats
  clear: /api/admin/cache/clear
  invalidate: /api/admin/cache/invalidate/{tag}
  warm: /api/admin/cache/warm
  refresh: /api/admin/cache/refresh
background: {host: shop.test}
routes:
  - {path: /api/courses, name: courses, ttl: 30s, shared: true, tags: [courses], purges: [courses]}
  - {path: '/api/courses/{id}', name: courses, ttl: 30s, shared: true, tags: ['course:{id}']}
  - {path: '/api/{*rest}', name: others, ttl: 1h, shared: true}
";

const STATS: &str = "/api/admin/cache/stats";
const CLEAR: &str = "/api/admin/cache/clear";

/// Knows one operator and one user.
fn start_api() -> Upstream {
    let upstream = Upstream::start();
    upstream.on("/api/admin/me", |request: &Received| match request.header("authorization").as_deref() {
        Some("Bearer root") => Answer::status(204),
        Some("Bearer user") => Answer::status(403),
        _ => Answer::status(401),
    });
    upstream
}

fn start() -> (Upstream, Larder) {
    let upstream = start_api();
    let larder = Larder::with(YAML, &upstream);
    (upstream, larder)
}

async fn get(larder: &Larder, target: &str) -> Reply {
    larder.get(target).header("host", "shop.test").await
}

fn operate(larder: &Larder, method: &str, target: &str) -> Request {
    larder.request(method, target).header("authorization", "Bearer root")
}

#[tokio::test]
async fn the_stats_have_the_shape_that_dashboards_of_the_api_expect() {
    let (upstream, larder) = start();
    get(&larder, "/api/courses").await.assert_stored();
    get(&larder, "/api/courses").await.assert_hit();
    larder.request("POST", "/api/courses").header("host", "shop.test").body("x").await.assert_status(200);
    let reply = operate(&larder, "GET", STATS).await.assert_status(200);
    assert_eq!(reply.header("cache-control").as_deref(), Some("no-store"));
    let stats = reply.json();
    let totals = &stats["stats"];
    assert_eq!(
        (&totals["hits"], &totals["misses"], &totals["hitRate"]),
        (&json!(1), &json!(1), &json!(50.0))
    );
    assert_eq!(
        (&totals["invalidations"], &stats["invalidations"]["write"]),
        (&json!(1), &json!(1)),
        "{stats}"
    );
    for figure in ["memoryUsed", "evictedKeys", "keyCount"] {
        assert!(totals[figure].is_u64(), "{figure}: {stats}");
    }
    assert_eq!(
        (&stats["status"], &stats["timestamp"]),
        (&json!("healthy"), &json!("2025-11-20T12:00:00.000Z"))
    );
    for (name, figure) in
        [("hits", 1), ("misses", 1), ("errors", 0), ("invalidations", 1), ("ttlSeconds", 30)]
    {
        assert_eq!(stats["routes"]["courses"][name], figure, "{name}: {stats}");
    }
    // The route that would match them never saw these requests, nor did the API.
    assert_eq!(upstream.count(STATS), 0);
    let head = operate(&larder, "HEAD", STATS).await.assert_status(200);
    assert!(
        head.text().is_empty() && head.header("content-length").is_some_and(|length| length != "0"),
        "{head}"
    );
    let counted = "larder_requests_total{route=\"other\",outcome=\"operation\",status_class=\"2xx\"}";
    larder.metric_becomes(counted, 2.0).await;
}

#[tokio::test]
async fn only_those_whom_the_api_lets_in_operate() {
    let (upstream, larder) = start();
    get(&larder, "/api/courses").await.assert_stored();
    let all = [
        ("GET", STATS),
        ("DELETE", CLEAR),
        ("POST", CLEAR),
        ("DELETE", "/api/admin/cache/invalidate/courses"),
        ("GET", "/api/admin/cache/warm"),
        ("POST", "/api/admin/cache/warm"),
        ("POST", "/api/admin/cache/refresh"),
    ];
    for (method, target) in all {
        let anonymous = larder.request(method, target).await.assert_status(401);
        assert_eq!(anonymous.header("www-authenticate").as_deref(), Some("Bearer"), "{method} {target}");
        for token in ["user", "expired"] {
            let refused =
                larder.request(method, target).header("authorization", &format!("Bearer {token}")).await;
            refused.assert_status(403);
        }
        // A browser sends a cookie of the operator for a page of another site.
        let forged = operate(&larder, method, target).header("origin", "http://evil.test");
        forged.await.assert_status(403);
        let forged = operate(&larder, method, target).header("sec-fetch-site", "cross-site");
        forged.await.assert_status(403);
    }
    get(&larder, "/api/courses").await.assert_hit();
    // The API was asked once for each credential, and never got such a request.
    assert_eq!((upstream.count("/api/admin/me"), upstream.total()), (2, 3));
}

#[tokio::test]
async fn nobody_operates_while_the_api_does_not_say_who_may() {
    for failure in [Answer::status(500), Answer::status(302), Answer::hang_up(), Answer::status(404)] {
        let (upstream, larder) = start();
        get(&larder, "/api/courses").await.assert_stored();
        upstream.on("/api/admin/me", failure);
        operate(&larder, "DELETE", CLEAR).await.assert_status(503);
        get(&larder, "/api/courses").await.assert_hit();
        // It is asked again a second later.
        upstream.on("/api/admin/me", Answer::status(204));
        larder.after(1);
        operate(&larder, "DELETE", CLEAR).await.assert_status(200);
        get(&larder, "/api/courses").await.assert_stored();
    }
}

#[tokio::test]
async fn a_right_that_was_taken_ends_with_its_answer() {
    let (upstream, larder) = start();
    operate(&larder, "GET", STATS).await.assert_status(200);
    upstream.on("/api/admin/me", Answer::status(403));
    larder.after(10);
    operate(&larder, "GET", STATS).await.assert_status(403);
}

#[tokio::test]
async fn each_operation_does_what_the_admin_listener_does() {
    let (upstream, larder) = start();
    let fill = async || {
        for target in ["/api/courses", "/api/courses/1", "/api/courses/2"] {
            get(&larder, target).await;
        }
    };
    let is_hit = async |target: &str| get(&larder, target).await.is_hit();
    fill().await;
    let purged =
        operate(&larder, "DELETE", "/api/admin/cache/invalidate/course%3A1").await.assert_status(200);
    assert_eq!(purged.json()["status"], "purged", "{purged}");
    assert_eq!((is_hit("/api/courses/1").await, is_hit("/api/courses/2").await), (false, true));
    let some = operate(&larder, "POST", CLEAR).body(r#"{"tags": ["course:2"]}"#).await.assert_status(200);
    assert!(some.json()["position"].is_u64(), "{some}");
    assert_eq!((is_hit("/api/courses").await, is_hit("/api/courses/2").await), (true, false));
    operate(&larder, "POST", CLEAR).body(r#"{"file_id": 7}"#).await.assert_status(400);
    assert!(is_hit("/api/courses").await);
    operate(&larder, "DELETE", CLEAR).await.assert_status(200);
    assert!(!is_hit("/api/courses").await);
    let shown = larder.admin.get("/purges").await.json();
    assert_eq!(shown["purges"][0]["path"], CLEAR, "{shown}");
    let warm = json!({"route": "/api/courses/{id}", "values": {"id": [7]}}).to_string();
    let warmed = operate(&larder, "POST", "/api/admin/cache/warm").body(warm).await.assert_status(200);
    assert_eq!(warmed.json()["fetched"], 1, "{warmed}");
    assert!(is_hit("/api/courses/7").await);
    let refresh = json!({"expiring_within": "1m", "tag": "course:7"}).to_string();
    let refreshed =
        operate(&larder, "POST", "/api/admin/cache/refresh").body(refresh).await.assert_status(200);
    assert_eq!(refreshed.json()["fetched"], 1, "{refreshed}");
    assert_eq!(upstream.count("/api/courses/7"), 2);
    operate(&larder, "GET", "/api/admin/cache/warm").await.assert_status(200);
    // Another method at such a path is the API's.
    operate(&larder, "PUT", STATS).await.assert_status(200);
    assert_eq!(upstream.count(STATS), 1);
}

#[tokio::test]
async fn a_content_beyond_the_bound_is_refused() {
    let (_upstream, larder) = start();
    operate(&larder, "POST", CLEAR).body(" ".repeat(1024 * 1024 + 1)).await.assert_status(400);
    operate(&larder, "POST", CLEAR).body(" ".repeat(1024 * 1024)).await.assert_status(400);
}

#[tokio::test]
async fn a_reload_moves_the_paths() {
    let (upstream, larder) = start();
    larder.reconfigure(&YAML.replace(STATS, "/api/cache")).await;
    operate(&larder, "GET", "/api/cache").await.assert_status(200);
    operate(&larder, "GET", STATS).await;
    assert_eq!((upstream.count(STATS), upstream.count("/api/cache")), (1, 0));
}

#[tokio::test]
async fn with_redis_replicas_are_added_up_and_purged_together() {
    let (redis, upstream) = (Redis::start().await, start_api());
    let one = Replica::start(&redis, &upstream, "", YAML).await;
    let two = Replica::start(&redis, &upstream, "", YAML).await;
    one.get("/api/courses").await.assert_stored();
    redis.holds(1).await;
    for replica in [&one, &two, &two] {
        replica.get("/api/courses").await.assert_hit();
    }
    let stats = async |replica: &Replica| -> Value {
        replica.get(STATS).header("authorization", "Bearer root").await.assert_status(200).json()
    };
    eventually("the other replica reports", async || {
        let all = stats(&one).await;
        (all["stats"]["hits"] == 3 && all["stats"]["misses"] == 1).then_some(())
    })
    .await;
    let all = stats(&one).await;
    assert_eq!(all["replicas"].as_array().map(Vec::len), Some(2), "{all}");
    assert_eq!(
        (&all["stats"]["keyCount"], &all["stats"]["memoryUsed"]),
        (&all["store"]["keyCount"], &all["store"]["memoryUsed"]),
        "{all}"
    );
    assert!(all["store"]["memoryUsed"].as_u64().is_some_and(|bytes| bytes > 100_000), "{all}");
    two.request("DELETE", "/api/admin/cache/invalidate/courses?wait=applied")
        .header("authorization", "Bearer root")
        .await
        .assert_status(400);
    let clear =
        two.request("DELETE", &format!("{CLEAR}?wait=applied")).header("authorization", "Bearer root");
    clear.await.assert_status(200);
    one.get("/api/courses").await.assert_fwd("uri-miss");
}
