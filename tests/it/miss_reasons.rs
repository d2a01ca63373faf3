//! Why a request is a miss: in `Cache-Status`, `/metrics`, the access log and `/explain`.

use crate::support::{Answer, Larder, Received, Replica, Upstream, bearer, eventually};

const ROUTES: &str = "
store: {memory: 1MiB}
routes:
  - {path: /a, ttl: 60s, tags: [a]}
  - {path: '/large/{id}', ttl: 60s}
";

/// The present entry, as the admin listener explains it.
async fn stored_now(larder: &Larder, path: &str) -> serde_json::Value {
    let target = format!("/explain?url=http://{}{path}", larder.address());
    larder.admin.get(&target).await.assert_status(200).json()["now"].clone()
}

#[tokio::test]
async fn every_kind_of_miss_has_its_reason() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    assert_eq!(stored_now(&larder, "/a").await["reason"], "never-stored");
    larder.get("/a").await.assert_fwd("uri-miss").assert_detail("never-stored");
    larder.after(61);
    larder.get("/a").await.assert_detail("expired");
    larder.request("PURGE", "/a").await.assert_status(200);
    let purged = larder.get("/a").await.cache_status("detail").expect("a reason");
    let position = larder.admin.get("/purges").await.json()["purges"][0]["position"].to_string();
    assert_eq!(purged, format!("purged:{position}"));
    for (reason, count) in [("never-stored", 1.0), ("expired", 1.0), ("purged", 1.0)] {
        let name = format!(r#"larder_forwarded_total{{route="/a",fwd="uri-miss",reason="{reason}"}}"#);
        larder.metric_becomes(&name, count).await;
    }
}

#[tokio::test]
async fn explain_names_the_purge_that_made_it_a_miss() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/a").await;
    larder
        .admin
        .request("DELETE", "/cache/tags/a")
        .header("x-request-id", "deploy-7")
        .await
        .assert_status(200);
    for _ in 0..2 {
        let now = stored_now(&larder, "/a").await;
        assert_eq!(
            (&now["purge"]["source"], &now["purge"]["requestId"]),
            (&"admin".into(), &"deploy-7".into()),
            "{now}"
        );
        assert_eq!(now["purge"]["targets"][0], "tag a");
        // The look-up removes the entry, and its absence is still explained.
        upstream.on("/a", Answer::ok("").header("cache-control", "no-store"));
        larder.get("/a").await.assert_detail("no-store");
    }
    assert_eq!(stored_now(&larder, "/a").await["reason"], "purged");
}

#[tokio::test]
async fn what_made_room_was_evicted() {
    let upstream = Upstream::start();
    upstream.on("/large/0", Answer::ok("x".repeat(100_000)));
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/large/0").await.assert_stored();
    for id in 1..40 {
        upstream.on(&format!("/large/{id}"), Answer::ok("x".repeat(100_000)));
        // Without room at this moment it is only passed on.
        eventually("it is stored", || async {
            larder.get(&format!("/large/{id}")).await.is_hit().then_some(())
        })
        .await;
    }
    let reasons = async |larder: &Larder| {
        let mut reasons = Vec::new();
        for id in 0..40 {
            reasons.extend(larder.get(&format!("/large/{id}")).await.cache_status("detail"));
        }
        reasons
    };
    let reasons = reasons(&larder).await;
    let evicted = reasons.iter().filter(|reason| *reason == "evicted").count();
    // The reasons are kept in a table without room for two of one slot.
    assert!(evicted > 20 && evicted + 4 >= reasons.len(), "{reasons:?}");
}

#[tokio::test]
async fn what_is_stored_for_others_is_no_uri_miss() {
    let upstream = Upstream::start();
    let by_language = |request: &Received| {
        Answer::ok(request.header("accept-language").unwrap_or_default()).header("vary", "Accept-Language")
    };
    upstream.on("/a", by_language);
    let larder = Larder::with(ROUTES, &upstream);
    let ask = |language: &'static str| larder.get("/a").header("accept-language", language);
    ask("de").await.assert_detail("never-stored");
    ask("en").await.assert_fwd("vary-miss").assert_detail("other-variant");
    let caller = ask("en").header("authorization", &bearer("{}")).await;
    caller.assert_fwd("request").assert_detail("other-caller");
}

#[tokio::test]
async fn what_another_replica_purged_is_purged_here() {
    let routes = "routes: [{path: /a, ttl: 60s, tags: [a]}]";
    let (_redis, _upstream, [one, two]) = Replica::two("max_lag: 0s, timeout: 5s", routes).await;
    one.get("/a").await;
    two.has("/a").await;
    one.purge_tag("a").await;
    let detail = two.get("/a").await.cache_status("detail").unwrap_or_default();
    assert!(detail.starts_with("purged:"), "{detail}");
}

#[tokio::test]
async fn what_never_fits_is_counted_as_too_large() {
    let upstream = Upstream::start();
    upstream.on("/a", Answer::ok(vec![b'x'; 3 << 20]));
    let larder = Larder::with("store: {memory: 2MiB}\nroutes: [{path: /a, ttl: 60s}]", &upstream);
    larder.get("/a").await.assert_status(200);
    let reason = "larder_not_stored_total{route=\"/a\",reason=\"too-large\"}";
    larder.metric_becomes(reason, 1.0).await;
    assert!(!larder.get("/a").await.is_hit());
}

#[tokio::test]
async fn a_change_of_the_rules_is_no_doubt() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: /a, ttl: 60s, tags: [a]}]", &upstream);
    larder.get("/a").await.assert_stored();
    larder.reconfigure("routes: [{path: /a, ttl: 60s, tags: [b]}]").await;
    larder.get("/a").await.assert_detail("other-rules");
}
