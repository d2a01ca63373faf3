use std::time::Duration;

use http::StatusCode;

use super::*;
use crate::policy::cache_status::{Detail, Fwd};
use crate::policy::classify::PassReason;
use crate::store::Figures;

/// Routes with their TTLs; `Ttl::Never` does not cache.
fn metrics_of(routes: &[(&str, Ttl)]) -> Metrics {
    let names: Vec<Arc<str>> = routes.iter().map(|(name, _)| (*name).into()).collect();
    let ttls = routes.iter().map(|(_, ttl)| (*ttl != Ttl::Never).then_some(*ttl));
    Metrics::of(names.iter().zip(ttls), Default::default())
}

fn counts() -> Metrics {
    let ttl = Ttl::For(Duration::from_secs(30));
    metrics_of(&[("courses", ttl), ("courses", ttl), ("orders", Ttl::UntilPurged), ("enroll", Ttl::Never)])
}

fn hit() -> Outcome {
    Outcome::Hit { ttl: 9, detail: None }
}

fn miss(fwd: Fwd) -> Outcome {
    Outcome::forwarded(fwd, None)
}

fn collapsed() -> Outcome {
    Outcome::Forwarded {
        fwd: Fwd::UriMiss,
        fwd_status: None,
        stored: false,
        collapsed: true,
        ttl: None,
        detail: None,
    }
}

fn request(metrics: &Metrics, route: Option<usize>, outcome: Outcome) {
    metrics.request(route, &outcome, StatusCode::OK, Duration::from_millis(3));
}

fn rendered(metrics: &Metrics) -> String {
    metrics.render(&Figures { entries: 1, bytes: 2, capacity: 3, evicted: 4, purge_records: 5 }, None)
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
    for fwd in [Fwd::UriMiss, Fwd::VaryMiss, Fwd::Miss, Fwd::Stale, Fwd::Request, Fwd::Partial] {
        let metrics = counts();
        request(&metrics, Some(2), miss(fwd));
        assert_eq!(metrics.snapshot().misses, 1, "{fwd:?}");
    }
    for (route, fwd) in
        [(Some(2), Fwd::Bypass), (Some(2), Fwd::Method), (Some(3), Fwd::UriMiss), (None, Fwd::Miss)]
    {
        let metrics = counts();
        request(&metrics, route, miss(fwd));
        assert_eq!(metrics.snapshot().misses, 0, "{route:?} {fwd:?}");
    }
}

#[test]
fn a_collapsed_request_is_a_miss_and_counted_as_collapsed() {
    let metrics = counts();
    request(&metrics, Some(0), collapsed());
    assert_eq!(metrics.snapshot().misses, 1);
    assert_lines(&rendered(&metrics), &["larder_collapsed_total{route=\"courses\"} 1"]);
}

#[test]
fn a_forwarded_request_says_why() {
    let metrics = counts();
    request(&metrics, None, Outcome::pass(PassReason::NoRoute));
    request(&metrics, Some(0), Outcome::forwarded(Fwd::Stale, Some(Detail::StoreDown)));
    request(&metrics, Some(0), miss(Fwd::UriMiss));
    assert_lines(
        &rendered(&metrics),
        &[
            "larder_forwarded_total{route=\"other\",fwd=\"bypass\",reason=\"no-route\"} 1",
            "larder_forwarded_total{route=\"courses\",fwd=\"stale\",reason=\"store-down\"} 1",
            "larder_forwarded_total{route=\"courses\",fwd=\"uri-miss\",reason=\"none\"} 1",
        ],
    );
}

#[test]
fn a_writes_purge_is_an_invalidation_of_its_namespace_and_others_are_not() {
    let metrics = counts();
    metrics.purged(PurgeSource::Write, Some(3), 4);
    metrics.purged(PurgeSource::Admin, None, 1);
    metrics.purge_failed(PurgeSource::PurgeMethod);
    metrics.widened(2);
    let snapshot = metrics.snapshot();
    assert_eq!(snapshot.namespaces["enroll"].invalidations, 1);
    assert_eq!(snapshot.namespaces["courses"].invalidations, 0);
    assert_lines(
        &rendered(&metrics),
        &[
            "larder_purges_total{source=\"write\"} 1",
            "larder_purged_targets_total{source=\"write\"} 4",
            "larder_purges_total{source=\"admin\"} 1",
            "larder_purges_failed_total{source=\"purge\"} 1",
            "larder_widened_total 2",
        ],
    );
}

#[test]
fn fills_upstream_store_and_process_have_their_figures() {
    let metrics = counts();
    metrics.filled(0, Ok(100));
    metrics.filled(1, Err(NotStored::SetCookie));
    metrics.upstream(Duration::from_millis(30));
    metrics.upstream_failed("timeout");
    metrics.connection_opened();
    metrics.connection_opened();
    metrics.connection_closed();
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
            "larder_connections 1",
            "larder_stored_entries 1",
            "larder_stored_bytes 2",
            "larder_store_capacity_bytes 3",
            "larder_evicted_total 4",
            "larder_purge_records 5",
            &format!("larder_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
            "# EOF",
        ],
    );
    assert!(text.contains("larder_memory_resident_bytes "), "{text}");
}

#[test]
fn no_series_is_written_twice_whatever_routes_are_called() {
    let names = ["other", "a\"b\\c\nd", "same", "same"];
    let metrics = metrics_of(&names.map(|name| (name, Ttl::UntilPurged)));
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
        assert_eq!(metrics_of(&routes).snapshot().namespaces["name"].ttl_seconds, expected, "{ttls:?}");
    }
}

#[test]
fn the_hit_rate_of_a_snapshot_is_in_percent() {
    let metrics = counts();
    assert_eq!(metrics.snapshot().hit_rate(), 0.0);
    for outcome in [hit(), hit(), hit(), miss(Fwd::Stale)] {
        request(&metrics, Some(2), outcome);
    }
    assert_eq!(metrics.snapshot().hit_rate(), 75.0);
}
