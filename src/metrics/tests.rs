use std::time::Duration;

use http::StatusCode;

use super::*;
use crate::policy::cache_status::{Detail, Fwd};
use crate::policy::classify::PassReason;
use crate::store::StoreStats;

/// Routes with their TTLs; `Ttl::Never` does not cache.
fn build_metrics(routes: &[(&str, Ttl)]) -> Metrics {
    let names: Vec<Arc<str>> = routes.iter().map(|(name, _)| (*name).into()).collect();
    let ttls = routes.iter().map(|(_, ttl)| (*ttl != Ttl::Never).then_some(*ttl));
    Metrics::with_counters(names.iter().zip(ttls), Default::default())
}

fn counts() -> Metrics {
    let ttl = Ttl::For(Duration::from_secs(30));
    build_metrics(&[("courses", ttl), ("courses", ttl), ("orders", Ttl::UntilPurged), ("enroll", Ttl::Never)])
}

fn hit() -> CacheOutcome {
    CacheOutcome::Hit { ttl: 9, detail: None }
}

fn miss(fwd: Fwd) -> CacheOutcome {
    CacheOutcome::forwarded(fwd, None)
}

fn collapsed() -> CacheOutcome {
    CacheOutcome::Forwarded {
        fwd: Fwd::UriMiss,
        fwd_status: None,
        stored: false,
        collapsed: true,
        ttl: None,
        detail: None,
    }
}

fn request(metrics: &Metrics, route: Option<usize>, outcome: CacheOutcome) {
    metrics.record_request(route, &Ok(outcome), StatusCode::OK, Duration::from_millis(3));
}

fn misses(metrics: &Metrics) -> u64 {
    metrics.snapshot().sum(RouteSnapshot::misses)
}

fn route<'s>(snapshot: &'s Snapshot, name: &str) -> &'s RouteSnapshot {
    snapshot.routes.iter().find(|route| *route.name == *name).expect("a route")
}

fn rendered(metrics: &Metrics) -> String {
    let counts =
        StoreStats { entries: 1, evicted: 4, purge_records: 5, memory_refusals: 7, ..StoreStats::default() };
    metrics.snapshot().render(&StoreStats { bytes: 2, capacity: 3, request_bytes: 6, ..counts }, None)
}

#[track_caller]
fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|written| written == *line), "no line {line:?} in\n{text}");
    }
}

#[test]
fn hits_and_misses_are_counted_by_namespace() {
    let metrics = counts();
    for (route, outcome) in [
        (0, hit()),
        (0, hit()),
        (1, hit()),
        (1, miss(Fwd::UriMiss)),
        (0, miss(Fwd::Bypass)),
        (0, miss(Fwd::Method)),
    ] {
        request(&metrics, Some(route), outcome);
    }
    assert_lines(
        &rendered(&metrics),
        &[
            "cache_hits_total{namespace=\"courses\"} 3",
            "cache_misses_total{namespace=\"courses\"} 1",
            "cache_hit_rate{namespace=\"courses\"} 0.75",
            "cache_hits_total{namespace=\"orders\"} 0",
            "cache_hit_rate{namespace=\"orders\"} 0",
            "larder_requests_total{route=\"courses\",outcome=\"hit\",status_class=\"2xx\"} 3",
            "larder_requests_total{route=\"courses\",outcome=\"bypass\",status_class=\"2xx\"} 1",
        ],
    );
}

#[test]
fn what_counts_as_a_miss() {
    for fwd in [Fwd::UriMiss, Fwd::VaryMiss, Fwd::Miss, Fwd::Stale, Fwd::Request] {
        let metrics = counts();
        request(&metrics, Some(2), miss(fwd));
        assert_eq!(misses(&metrics), 1, "{fwd:?}");
    }
    for (route, fwd) in
        [(Some(2), Fwd::Bypass), (Some(2), Fwd::Method), (Some(3), Fwd::UriMiss), (None, Fwd::Miss)]
    {
        let metrics = counts();
        request(&metrics, route, miss(fwd));
        assert_eq!(misses(&metrics), 0, "{route:?} {fwd:?}");
    }
}

#[test]
fn a_collapsed_request_is_a_miss_and_counted_as_collapsed() {
    let metrics = counts();
    request(&metrics, Some(0), collapsed());
    assert_eq!(misses(&metrics), 1);
    assert_lines(&rendered(&metrics), &["larder_collapsed_total{route=\"courses\"} 1"]);
}

#[test]
fn a_forwarded_request_says_why() {
    let metrics = counts();
    request(&metrics, None, CacheOutcome::pass(PassReason::NoRoute));
    request(&metrics, Some(0), CacheOutcome::forwarded(Fwd::Stale, Some(Detail::StaleIfError)));
    request(&metrics, Some(0), miss(Fwd::UriMiss));
    assert_lines(
        &rendered(&metrics),
        &[
            "larder_forwarded_total{route=\"other\",fwd=\"bypass\",reason=\"no-route\"} 1",
            "larder_forwarded_total{route=\"courses\",fwd=\"stale\",reason=\"stale-if-error\"} 1",
            "larder_forwarded_total{route=\"courses\",fwd=\"uri-miss\",reason=\"none\"} 1",
        ],
    );
}

#[test]
fn a_purge_is_an_invalidation_of_each_route_name_it_reaches() {
    let metrics = counts();
    metrics.record_purge(PurgeSource::Write, &[0, 1, 2], 4);
    metrics.record_purge(PurgeSource::Event, &[2], 1);
    metrics.record_purge(PurgeSource::Admin, &[], 1);
    metrics.record_purge_failure(PurgeSource::PurgeMethod);
    metrics.record_widened(2);
    metrics.record_write_over_budget();
    metrics.record_write_fields_dropped(3);
    metrics.record_merge();
    let snapshot = metrics.snapshot();
    for (name, expected) in [("courses", 1), ("orders", 2), ("enroll", 0)] {
        assert_eq!(route(&snapshot, name).invalidations, expected, "{name}");
    }
    assert_lines(
        &rendered(&metrics),
        &[
            "larder_purges_total{source=\"write\"} 1",
            "larder_purged_targets_total{source=\"write\"} 4",
            "larder_purges_total{source=\"admin\"} 1",
            "larder_purges_failed_total{source=\"purge\"} 1",
            "larder_widened_total 2",
            "larder_writes_over_budget_total 1",
            "larder_write_fields_dropped_total 3",
            "larder_overlay_merges_total 1",
        ],
    );
}

#[test]
fn fills_upstream_store_and_process_have_their_figures() {
    let metrics = counts();
    metrics.record_fill(0, Ok(100));
    metrics.record_fill(1, Err(NotStored::SetCookie));
    metrics.record_upstream_response(StatusCode::BAD_GATEWAY, Duration::from_millis(30), Moment::now());
    let _wait = metrics.start_upstream_wait(Moment::now());
    metrics.record_upstream_failure("timeout");
    metrics.connection_opened();
    metrics.connection_opened();
    metrics.connection_closed();
    let _follower = metrics.start_following();
    drop(metrics.start_following());
    let text = rendered(&metrics);
    assert_lines(
        &text,
        &[
            "larder_fills_total{route=\"courses\"} 1",
            "larder_filled_bytes_total{route=\"courses\"} 100",
            "larder_not_stored_total{route=\"courses\",reason=\"set-cookie\"} 1",
            "larder_upstream_seconds_bucket{le=\"0.025\"} 0",
            "larder_upstream_seconds_bucket{le=\"0.05\"} 1",
            "larder_upstream_failures_total{reason=\"timeout\"} 1",
            "larder_upstream_responses_total{status_class=\"5xx\"} 1",
            "larder_upstream_waiting 1",
            "larder_connections 1",
            "larder_followers 1",
            "larder_stored_entries 1",
            "larder_stored_bytes 2",
            "larder_store_capacity_bytes 3",
            "larder_evicted_total 4",
            "larder_purge_records 5",
            "larder_request_memory_bytes 6",
            "larder_memory_refusals_total 7",
            &format!("larder_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
            "# EOF",
        ],
    );
    assert!(text.contains("larder_memory_resident_bytes "), "{text}");
}

#[test]
fn no_series_is_written_twice_whatever_routes_are_called() {
    let names = ["other", "a\"b\\c\nd", "same", "same"];
    let metrics = build_metrics(&names.map(|name| (name, Ttl::UntilPurged)));
    for index in [None, Some(0), Some(1), Some(2), Some(3), Some(99)] {
        request(&metrics, index, miss(Fwd::Miss));
        request(&metrics, index, hit());
    }
    let text = rendered(&metrics);
    let mut series: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap().0)
        .collect();
    let all = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), all, "{text}");
    assert!(text.contains(r#"namespace="a\"b\\c\nd""#), "{text}");
}

#[test]
fn a_snapshot_tells_the_ttl_where_the_routes_of_a_name_agree() {
    let seconds = Duration::from_secs;
    for (ttls, expected) in [
        (vec![Ttl::For(seconds(90))], Some(90.0)),
        (vec![Ttl::For(Duration::from_millis(250))], Some(0.25)),
        (vec![Ttl::For(seconds(90)), Ttl::For(seconds(90))], Some(90.0)),
        (vec![Ttl::For(seconds(90)), Ttl::Never], Some(90.0)),
        (vec![Ttl::For(seconds(90)), Ttl::For(seconds(60))], None),
        (vec![Ttl::For(seconds(90)), Ttl::UntilPurged], None),
        (vec![Ttl::UntilPurged], None),
        (vec![Ttl::Upstream], None),
        (vec![Ttl::Never], None),
    ] {
        let routes: Vec<_> = ttls.iter().map(|ttl| ("name", *ttl)).collect();
        assert_eq!(route(&build_metrics(&routes).snapshot(), "name").ttl_seconds, expected, "{ttls:?}");
    }
}

#[test]
fn the_hit_rate_is_absent_without_cacheable_requests() {
    let metrics = counts();
    let rate = |metrics: &Metrics| {
        let snapshot = metrics.snapshot();
        hit_rate(snapshot.sum(RouteSnapshot::hits), snapshot.sum(RouteSnapshot::misses))
    };
    assert_eq!(rate(&metrics), None);
    for outcome in [hit(), hit(), hit(), miss(Fwd::Stale)] {
        request(&metrics, Some(2), outcome);
    }
    assert_eq!(rate(&metrics), Some(0.75));
}

#[test]
fn every_answer_counts_once_by_route_outcome_and_status_class() {
    let metrics = counts();
    for (reply, status) in [
        (NonCacheReply::Error, StatusCode::BAD_GATEWAY),
        (NonCacheReply::Error, StatusCode::BAD_REQUEST),
        (NonCacheReply::Purge, StatusCode::OK),
        (NonCacheReply::Webhook, StatusCode::OK),
        (NonCacheReply::Tunnel, StatusCode::SWITCHING_PROTOCOLS),
    ] {
        metrics.record_request(Some(0), &Err(reply), status, Duration::from_millis(3));
    }
    request(&metrics, Some(0), hit());
    let snapshot = metrics.snapshot();
    let courses = route(&snapshot, "courses");
    assert_eq!((courses.requests(), courses.errors(), courses.hits(), courses.misses()), (6, 1, 1, 0));
    assert_lines(
        &rendered(&metrics),
        &[
            "larder_requests_total{route=\"courses\",outcome=\"error\",status_class=\"5xx\"} 1",
            "larder_requests_total{route=\"courses\",outcome=\"error\",status_class=\"4xx\"} 1",
            "larder_requests_total{route=\"courses\",outcome=\"tunnel\",status_class=\"1xx\"} 1",
            "larder_request_seconds_count{route=\"courses\",from=\"larder\"} 5",
        ],
    );
}

/// The value after the last space of a line, and the labels of its series.
fn samples<'t>(text: &'t str, name: &str) -> Vec<(&'t str, f64)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
    lines.map(|(labels, value)| (labels, value.parse().expect("a number"))).collect()
}

#[test]
fn each_histogram_ends_in_a_bucket_without_a_bound() {
    let metrics = counts();
    metrics.record_upstream_response(StatusCode::OK, Duration::from_secs(3600), Moment::now());
    metrics.record_request(Some(0), &Ok(hit()), StatusCode::OK, Duration::from_secs(3600));
    request(&metrics, None, miss(Fwd::UriMiss));
    let text = rendered(&metrics);
    let histograms: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram")).collect();
    assert_eq!(histograms, ["larder_request_seconds", "larder_upstream_seconds"]);
    for name in histograms {
        let buckets = samples(&text, &format!("{name}_bucket"));
        let counts = samples(&text, &format!("{name}_count"));
        let unbounded: Vec<_> = buckets.iter().filter(|(labels, _)| labels.contains("le=\"+Inf\"")).collect();
        assert!(!counts.is_empty() && unbounded.len() == counts.len(), "{name}\n{text}");
        for ((labels, count), (_, unbounded)) in counts.iter().zip(unbounded) {
            assert_eq!(count, unbounded, "{name}{labels}");
        }
        for (labels, _) in buckets {
            let bound =
                labels.split("le=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a bound");
            assert!(bound == "+Inf" || bound.parse::<f64>().expect("a number") <= 30.0, "{name}{labels}");
        }
    }
}

#[test]
fn seconds_are_counted_in_fractions() {
    let mut seconds = exposition::MetricFamily::counter("larder_redis_command_seconds", "");
    for (command, value) in [("get", 0.274), ("set", 2.0)] {
        seconds.push(vec![("command", command.to_owned())], value);
    }
    let text = render::encode(vec![seconds]);
    assert_lines(
        &text,
        &[
            "larder_redis_command_seconds_total{command=\"get\"} 0.274",
            "larder_redis_command_seconds_total{command=\"set\"} 2",
        ],
    );
}
