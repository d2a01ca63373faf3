//! Metrics: names, values, and labels that clients cannot multiply.

use crate::support::{Answer, Larder, Reply, Upstream, eventually};

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
        (r#"cache_invalidations_total{namespace="things"}"#, 3.0),
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

/// The sum of a counter's samples whose labels contain all of `labels`.
fn sum(metrics: &Reply, name: &str, labels: &[&str]) -> f64 {
    let samples = metrics.text().lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (found, its_labels) = series.split_once('{').unwrap_or((series, ""));
        let matches = found == name && labels.iter().all(|label| its_labels.contains(label));
        matches.then(|| value.parse::<f64>().unwrap())
    });
    samples.sum()
}

#[tokio::test]
async fn larders_own_answers_are_counted_by_route_and_status() {
    let larder =
        Larder::with_upstream_url(&Upstream::nowhere(), &format!("upstream: ${{UPSTREAM}}\n{ROUTES}"));
    for target in ["/a", "/a", "/b/1", "/b/2", "/elsewhere"] {
        assert!(larder.get(target).await.status >= 500, "{target}");
    }
    larder.request("PUT", "/a").body("x").await;
    assert!(larder.get("/a").header("cache-control", "only-if-cached").await.status >= 500);
    larder.request("PURGE", "/a").header("x-forwarded-for", "192.0.2.1").await;
    let metrics = larder.admin.get("/metrics").await;
    assert_eq!(sum(&metrics, "larder_requests_total", &[]), 8.0, "{}", metrics.text());
    assert_eq!(sum(&metrics, "larder_requests_total", &["\"things\"", "\"error\"", "5xx"]), 6.0);
    assert_eq!(sum(&metrics, "larder_requests_total", &["\"other\"", "\"error\"", "5xx"]), 1.0);
    assert_eq!(sum(&metrics, "larder_requests_total", &["\"purge\""]), 1.0);
    assert_eq!(larder.admin.get("/stats").await.json()["stats"]["errors"], 7);
    let overview = larder.admin.get("/dashboard/data").await.json()["overview"].clone();
    assert_eq!((&overview["requests"], &overview["errors"]), (&8.into(), &7.into()), "{overview}");
}

#[tokio::test]
async fn the_dashboard_shows_a_failing_upstream_at_once() {
    let yaml = format!("upstream: {{url: \"${{UPSTREAM}}\", breaker: 3}}\n{ROUTES}");
    let larder = Larder::with_upstream_url(&Upstream::nowhere(), &yaml);
    let notes = async || larder.admin.get("/dashboard/data").await.json()["notes"].to_string();
    larder.get("/a").await.assert_status(502);
    let told = notes().await;
    assert!(told.contains("The API failed 1 request") && !told.contains("circuit breaker"), "{told}");
    for _ in 0..2 {
        larder.get("/a").await.assert_status(502);
    }
    let told = notes().await;
    assert!(told.contains("circuit breaker of the API is open"), "{told}");
    assert_eq!(larder.metric("larder_upstream_breaker_open").await, 1.0);
}

#[tokio::test]
async fn a_replaced_response_is_not_an_eviction() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: /a, ttl: 10s, stale_if_error: 1h}]", &upstream);
    for _ in 0..5 {
        larder.get("/a").await.assert_status(200);
        larder.after(11);
    }
    assert_eq!(upstream.total(), 5);
    assert_eq!(larder.metric("larder_evicted_total").await, 0.0);
    assert_eq!(larder.admin.get("/stats").await.json()["stats"]["evictedKeys"], 0);
}

#[tokio::test]
async fn an_invalidation_is_counted_for_the_purged_route() {
    let upstream = Upstream::start();
    let routes = "
purge: {allow: [127.0.0.1]}
routes:
  - {path: /list, name: list, ttl: 60s, tags: [items]}
  - {path: \"/one/{id}\", name: one, ttl: 60s, tags: [\"item:{id}\"]}
  - {path: \"/edit/{id}\", name: edit, purges: [items, \"item:{id}\"]}
";
    let larder = Larder::with(routes, &upstream);
    larder.request("POST", "/edit/7").body("x").await.assert_status(200);
    larder.request("PURGE", "/").header("cache-tag", "items").await.assert_status(200);
    let stats = larder.admin.get("/stats").await.json();
    let counted = ["list", "one", "edit"].map(|route| stats["routes"][route]["invalidations"].clone());
    assert_eq!(counted, [2, 1, 0].map(serde_json::Value::from), "{stats}");
}

/// Input that the parser answers itself.
const UNREADABLE: [&str; 9] = [
    "GET /a/0 HTTP/1.1\r\n\r\n",
    "GET /a/0 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "POST /b/0 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET /a/0 HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n",
    "GET /a/0 HTTP/3.1\r\nHost: a\r\n\r\n",
    "GET /a 0 HTTP/1.1\r\nHost: a\r\n\r\n",
    "no request\r\n\r\n",
    "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03\n",
    "GET /a/0 HTTP/1.1\r\nHost: a\r\nX: 1\r\n",
];

/// Every answer is counted exactly once: requests sent equal the sum over outcomes, by route and by status class.
#[tokio::test]
async fn counters_add_up_for_random_traffic_with_faults() {
    for seed in 1..=8 {
        random_traffic_adds_up(seed).await;
    }
}

async fn random_traffic_adds_up(seed: u64) {
    let upstream = Upstream::start();
    let routes = "
purge: {allow: [127.0.0.1]}
upstream: {url: \"${UPSTREAM}\", breaker: 4}
routes:
  - {path: \"/a/{id}\", name: a, ttl: 60s, tags: [a], stale_if_error: 1h}
  - {path: \"/b/{id}\", name: b, ttl: 60s, purges: [a]}
  - {path: /never, name: never, ttl: never}
";
    let larder = Larder::with_upstream_url(&upstream.url(), routes);
    for path in ["/a/0", "/b/1", "/other/2"] {
        upstream.on(path, Answer::hang_up());
    }
    upstream.on("/b/3", Answer::status(500));
    upstream.on("/a/3", Answer::ok("x").header("set-cookie", "s=1"));
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut below = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % bound
    };
    let (mut sent, mut hits) = (std::collections::BTreeMap::new(), 0.0);
    for _ in 0..25 {
        let batch: Vec<_> = (0..1 + below(5))
            .map(|_| {
                let (route, target) = match below(4) {
                    0 => ("a", format!("/a/{}", below(4))),
                    1 => ("b", format!("/b/{}", below(4))),
                    2 => ("never", "/never".to_owned()),
                    _ => ("other", format!("/other/{}", below(4))),
                };
                let (route, request) = match below(8) {
                    0 => (route, larder.request("POST", &target).body("x")),
                    1 => ("other", larder.request("PURGE", &target)),
                    2 => (route, larder.get(&target).header("cache-control", "only-if-cached")),
                    3 => (route, larder.request("HEAD", &target)),
                    _ => (route, larder.get(&target)),
                };
                (route, request.spawn())
            })
            .collect();
        for (route, reply) in batch {
            let reply = reply.await.unwrap();
            hits += f64::from(u8::from(reply.is_hit()));
            *sent.entry((route, reply.status / 100)).or_insert(0.0) += 1.0;
        }
        if below(2) == 0 {
            let mut head = UNREADABLE[below(UNREADABLE.len() as u64) as usize].to_owned();
            if !head.contains("\n\r\n") && head.contains("HTTP") {
                head += &"x: 1\r\n".repeat(20_000);
            }
            let mut raw = larder.raw().await;
            // Behind a request that is answered, and alone.
            if below(2) == 0 {
                raw.send("HEAD /never HTTP/1.1\r\nHost: a\r\n\r\n").await;
                *sent.entry(("never", raw.status().await / 100)).or_insert(0.0) += 1.0;
            }
            raw.send(&head).await;
            let status = raw.status().await;
            assert!([400, 431].contains(&status), "seed {seed}: {status} to {head:.80}");
            *sent.entry(("other", 4)).or_insert(0.0) += 1.0;
        }
        if below(5) == 0 {
            larder.after(30);
        }
    }
    let all: f64 = sent.values().sum();
    // The parser reports what it answered once the answer is sent.
    let metrics = eventually("every answer is counted", || async {
        let metrics = larder.admin.get("/metrics").await;
        (sum(&metrics, "larder_requests_total", &[]) >= all).then_some(metrics)
    })
    .await;
    for ((route, class), count) in &sent {
        let labels = [&*format!("route=\"{route}\""), &*format!("status_class=\"{class}xx\"")];
        let counted = sum(&metrics, "larder_requests_total", &labels);
        assert_eq!(counted, *count, "seed {seed} {labels:?}\n{}", metrics.text());
    }
    assert_eq!(sum(&metrics, "larder_requests_total", &[]), all, "seed {seed}");
    assert_eq!(sum(&metrics, "larder_request_seconds_count", &[]), all, "seed {seed}");
    assert_eq!(sum(&metrics, "cache_hits_total", &[]), hits, "seed {seed}");
}

#[tokio::test]
async fn a_scraper_that_reads_no_open_metrics_gets_the_text_format() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/a").await;
    for (accept, is_text) in [
        (None, false),
        (Some("*/*"), false),
        (
            Some("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"),
            false,
        ),
        (Some("text/plain;version=0.0.4;q=1,*/*;q=0.1"), true),
    ] {
        let request = larder.admin.get("/metrics");
        let metrics = match accept {
            Some(accept) => request.header("accept", accept).await,
            None => request.await,
        };
        let content_type = metrics.header("content-type").unwrap();
        assert_eq!(
            content_type.starts_with("text/plain; version=0.0.4"),
            is_text,
            "{accept:?}: {content_type}"
        );
        let text = metrics.text();
        assert_eq!(text.ends_with("# EOF\n"), !is_text, "{accept:?}");
        let (family, other) = ("# TYPE larder_requests counter\n", "# TYPE larder_requests_total counter\n");
        let (has, lacks) = if is_text { (other, family) } else { (family, other) };
        assert!(text.contains(has) && !text.contains(lacks), "{accept:?}: {text}");
        assert!(
            text.contains("# HELP larder_requests") && text.contains("\nlarder_requests_total{"),
            "{text}"
        );
        assert!(text.contains("# TYPE larder_request_seconds histogram\n"), "{text}");
    }
}
