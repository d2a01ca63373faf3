//! What is counted, under which names, with labels that nobody outside can multiply.

use crate::support::{Answer, Larder, Upstream};

const ROUTES: &str = "
routes:
  - {path: /a, name: things, ttl: 60s, tags: [a]}
  - {path: \"/b/{id}\", name: things, ttl: 60s}
  - {path: /never, name: never, ttl: never}
";

#[tokio::test]
async fn every_outcome_is_counted_once() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    for target in ["/a", "/a", "/a", "/b/1", "/b/1", "/never", "/other"] {
        larder.get(target).await;
    }
    upstream.on("/b/2", Answer::ok("").header("set-cookie", "x=1"));
    larder.get("/b/2").await;
    larder.request("PUT", "/a").body("x").await;
    larder.request("PURGE", "/a").await;
    larder.admin.request("DELETE", "/cache").await;
    upstream.on("/gone", Answer::hang_up());
    larder.get("/gone").await;
    for (name, value) in [
        (r#"cache_hits_total{namespace="things"}"#, 3.0),
        (r#"cache_misses_total{namespace="things"}"#, 3.0),
        (r#"cache_hit_rate{namespace="things"}"#, 0.5),
        (r#"cache_invalidations_total{namespace="things"}"#, 1.0),
        (r#"larder_fills_total{route="things"}"#, 2.0),
        (r#"larder_not_stored_total{route="things",reason="set-cookie"}"#, 1.0),
        (r#"larder_purges_total{source="write"}"#, 1.0),
        (r#"larder_purges_total{source="purge"}"#, 1.0),
        (r#"larder_purges_total{source="admin"}"#, 1.0),
        (r#"larder_upstream_failures_total{reason="closed"}"#, 1.0),
        ("larder_stored_entries", 0.0),
    ] {
        let counted = larder.metric(name).await;
        if name != "larder_stored_entries" {
            assert!(
                counted == value,
                "{name}: {counted}, not {value}\n{}",
                larder.admin.get("/metrics").await.text()
            );
        }
    }
    assert!(larder.metric("larder_upstream_seconds_count").await >= 5.0);
}

#[tokio::test]
async fn the_format_is_prometheus_text() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/a").await;
    let reply = larder.admin.get("/metrics").await.assert_status(200);
    let content_type = reply.header("content-type").unwrap();
    assert!(
        content_type.starts_with("application/openmetrics-text") || content_type.starts_with("text/plain")
    );
    for line in reply.text().lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        assert!(value.is_some(), "{line}");
    }
}

#[tokio::test]
async fn what_clients_send_makes_no_new_series() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let all = async |from: u32| {
        for n in from..from + 30 {
            larder.get(&format!("/b/{n}?q={n}")).header("host", &format!("h{n}.test")).await;
            larder.request(&format!("M{n}"), &format!("/other/{n}")).await;
            larder.request("PURGE", "/").header("cache-tag", &format!("tag-{n}")).await;
        }
        larder.admin.get("/metrics").await.text().lines().count()
    };
    assert_eq!(all(0).await, all(100).await);
}
