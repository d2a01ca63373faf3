//! The configurations with `admin_at`: administrators operate the cache at the paths of the API.

use serde_json::json;

use super::{Case, SampleApi, token};
use super::{analytics, catalogue, signed_urls};
use crate::support::{Answer, Received};

/// Ann administers the API, ben does not.
fn with_administrator(api: SampleApi) -> SampleApi {
    let of = |user: &str| token(user);
    let (ann, ben) = (of("ann"), of("ben"));
    api.upstream.on("/api/admin/me", move |request: &Received| match request.header("authorization") {
        Some(sent) if sent == ann => Answer::status(204),
        Some(sent) if sent == ben => Answer::status(403),
        _ => Answer::status(401),
    });
    api
}

async fn is_for_administrators(case: &Case, path: &str, sentence: &str) {
    case.send(&format!("{sentence}{path}")).await.assert_status(401);
    case.send(&format!("ben {sentence}{path}")).await.assert_status(403);
    assert_eq!(case.api.upstream.count(path), 0);
}

#[tokio::test]
async fn the_analytics_are_operated_where_their_monitoring_is() {
    let api = with_administrator(analytics::api());
    let case = Case::start("config/analytics.yaml", "ANALYTICS_API", api);
    let base = "/api/admin/monitoring/cache";
    let figures =
        ["ann /api/analytics/roles?guildId=7&since=7d", "ann /api/analytics/roles?guildId=8&since=7d"];
    case.asked(&figures).await;
    is_for_administrators(&case, &format!("{base}/stats"), "").await;
    is_for_administrators(&case, &format!("{base}/clear"), "DELETE ").await;
    is_for_administrators(&case, &format!("{base}/invalidate/guild:7"), "DELETE ").await;
    assert_eq!(case.asked(&figures).await, [""; 0]);
    let stats = case.send(&format!("ann {base}/stats")).await.assert_status(200).json();
    assert_eq!((&stats["stats"]["hits"], &stats["stats"]["hitRate"]), (&json!(2), &json!(50.0)), "{stats}");
    assert_eq!(stats["status"], "healthy");
    case.send(&format!("ann DELETE {base}/invalidate/guild:7")).await.assert_status(200);
    assert_eq!(case.asked(&figures).await, [figures[0]]);
    case.send(&format!("ann DELETE {base}/clear")).await.assert_status(200);
    assert_eq!(case.asked(&figures).await, figures);
}

#[tokio::test]
async fn signed_urls_are_operated_where_the_forum_is_administered() {
    let case = Case::start("config/signed-urls.yaml", "FORUM_API", with_administrator(signed_urls::api()));
    let urls = ["ann /api/files/1/url", "ann /api/files/2/url"];
    case.asked(&urls).await;
    is_for_administrators(&case, "/api/admin/cache/stats", "").await;
    for operation in ["clear", "warm", "refresh"] {
        is_for_administrators(&case, &format!("/api/admin/cache/{operation}"), "POST ").await;
    }
    let post = async |operation: &str, content: serde_json::Value| {
        let request = case.larder.request("POST", &format!("/api/admin/cache/{operation}"));
        let request = request.header("authorization", &token("ann")).body(content.to_string());
        request.await.assert_status(200).json()
    };
    post("clear", json!({"tags": ["file:1"]})).await;
    assert_eq!(case.asked(&urls).await, [urls[0]]);
    // The forum's own pages send this.
    post("clear", json!({"file_id": 2})).await;
    assert_eq!(case.asked(&urls).await, [urls[1]]);
    let refused =
        case.larder.request("POST", "/api/admin/cache/clear").header("authorization", &token("ann"));
    refused.body(json!({"file_id": [2]}).to_string()).await.assert_status(400);
    assert_eq!(case.asked(&urls).await, [""; 0]);
    let warmed = post("warm", json!({"file_ids": [1, 2]})).await;
    assert_eq!(warmed["requests"], 2, "{warmed}");
    case.api.upstream.on("/api/files", Answer::json(json!({"items": [{"id": 1}, {"id": 2}]}).to_string()));
    let bare = async |operation: &str| {
        case.send(&format!("ann POST /api/admin/cache/{operation}")).await.assert_status(200).json()
    };
    assert_eq!(bare("warm").await["requests"], 2);
    assert_eq!(bare("refresh").await["requests"], 0);
    bare("clear").await;
    assert_eq!(case.asked(&urls).await, urls);
    let warmed = post("warm", json!({"route": "file-url", "values": {"id": [1, 2]}})).await;
    assert_eq!(warmed["requests"], 2, "{warmed}");
    case.larder.after(40 * 60);
    case.asked(&urls).await;
    let refreshed = post("refresh", json!({"expiring_within": "10m"})).await;
    assert_eq!(refreshed["fetched"], 2, "{refreshed}");
}

#[tokio::test]
async fn the_health_of_the_catalogue_s_cache_names_each_bucket() {
    let case = Case::start("config/catalogue.yaml", "SHOP_API", with_administrator(catalogue::api()));
    let health = "/health/catalog/cache";
    is_for_administrators(&case, health, "").await;
    case.asked(&["/api/catalog/products/1", "/api/catalog/products/1"]).await;
    case.write("POST /api/events/products/1").await;
    let stats = case.send(&format!("ann {health}")).await.assert_status(200).json();
    let catalog = &stats["routes"]["catalog"];
    for (name, figure) in [("hits", 1), ("misses", 1), ("errors", 0), ("invalidations", 1)] {
        assert_eq!(catalog[name], figure, "{name}: {stats}");
    }
    assert!(catalog["ttlSeconds"].is_null(), "{stats}");
    assert_eq!(stats["routes"]["volatile"]["ttlSeconds"], 90);
    assert_eq!(stats["stats"]["invalidations"], 1, "{stats}");
}
