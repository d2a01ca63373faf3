//! `GET /stats`: counters under the names that cache dashboards expect.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Number, Value};

use crate::clock::Timestamp;
use crate::metrics::{LatencyCounts, LatencySnapshot, RouteSnapshot, Snapshot, hit_rate};
use crate::store::StoreStats;
use crate::store::remote_status::RemoteStatus;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stats {
    stats: StatsTotals,
    /// The shared store, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<SharedStore>,
    status: &'static str,
    timestamp: String,
    routes: BTreeMap<String, RouteStats>,
    /// Requests without a route of the configuration.
    unrouted: RouteStats,
    /// Present problems, most severe first.
    notes: Value,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StatsTotals {
    hits: u64,
    misses: u64,
    /// Percentage with two decimals.
    hit_rate: f64,
    /// Answers with a status of 500 or above.
    errors: u64,
    /// This replica's memory.
    memory_used: u64,
    evicted_keys: u64,
    key_count: u64,
    /// Acknowledged purges by writes, events and operators.
    invalidations: u64,
}

/// Redis as it reports itself; `null` until it has.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SharedStore {
    memory_used: Option<u64>,
    memory_limit: Option<u64>,
    key_count: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RouteStats {
    requests: u64,
    /// All that was stored, in bytes of content.
    filled_bytes: u64,
    /// Times until the response head.
    from_store: LatencyCounts,
    from_upstream: LatencyCounts,
    hits: u64,
    misses: u64,
    errors: u64,
    invalidations: u64,
    ttl_seconds: Option<Number>,
}

impl Stats {
    pub(super) fn new(
        status: &'static str,
        snapshot: &Snapshot,
        store: StoreStats,
        remote: Option<&RemoteStatus>,
        now: Timestamp,
    ) -> Self {
        let (hits, misses) = (snapshot.sum(RouteSnapshot::hits), snapshot.sum(RouteSnapshot::misses));
        let stats = StatsTotals {
            hits,
            misses,
            hit_rate: round_percent(hit_rate(hits, misses).unwrap_or_default()),
            errors: snapshot.sum(RouteSnapshot::errors),
            memory_used: store.bytes,
            evicted_keys: store.evicted,
            key_count: store.entries,
            invalidations: snapshot.purges.iter().map(|(_, counts)| counts.purges).sum(),
        };
        let store = remote.map(|remote| SharedStore {
            memory_used: remote.memory.map(|memory| memory.used),
            memory_limit: remote.memory.and_then(|memory| memory.limit),
            key_count: remote.memory.and_then(|memory| memory.keys),
        });
        let (routes, unrouted): (Vec<&RouteSnapshot>, Vec<_>) =
            snapshot.routes.iter().partition(|route| route.is_configured);
        let unrouted = RouteStats::sum(&unrouted);
        let routes = routes.into_iter().map(|route| (route.name.to_string(), RouteStats::sum(&[route])));
        let timestamp = format_rfc3339(now);
        Self { stats, store, status, timestamp, routes: routes.collect(), unrouted, notes: Value::Null }
    }
}

impl Stats {
    pub(super) fn with_notes(self, notes: Value) -> Self {
        Self { notes, ..self }
    }
}

impl RouteStats {
    fn sum(routes: &[&RouteSnapshot]) -> Self {
        let count = |figure: fn(&RouteSnapshot) -> u64| routes.iter().map(|route| figure(route)).sum();
        let latencies = |histogram: fn(&RouteSnapshot) -> &LatencySnapshot| {
            let histograms = routes.iter().map(|route| histogram(route));
            let sum = histograms.fold(LatencySnapshot::default(), |sum, next| sum.merge(next));
            LatencyCounts::from(&sum)
        };
        Self {
            requests: count(RouteSnapshot::requests),
            hits: count(RouteSnapshot::hits),
            misses: count(RouteSnapshot::misses),
            errors: count(RouteSnapshot::errors),
            invalidations: count(|route| route.invalidations),
            filled_bytes: count(|route| route.filled_bytes),
            ttl_seconds: routes.first().and_then(|route| json_seconds(route.ttl_seconds?)),
            from_store: latencies(|route| &route.from_store),
            from_upstream: latencies(|route| &route.from_upstream),
        }
    }
}

/// A fraction as a percentage with two decimals.
pub(super) fn round_percent(fraction: f64) -> f64 {
    (fraction * 10_000.0).round() / 100.0
}

/// Whole seconds without a fraction: `60`, and `0.25`.
fn json_seconds(seconds: f64) -> Option<Number> {
    if seconds.fract() == 0.0 { Some(Number::from(seconds as u64)) } else { Number::from_f64(seconds) }
}

/// Formats an RFC 3339 UTC time with milliseconds: `2026-11-20T10:00:00.000Z`.
pub(super) fn format_rfc3339(now: Timestamp) -> String {
    now.to_rfc3339(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc_3339() {
        for (micros, written) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000_000, "2000-03-01T00:00:00.000Z"),
            (1_709_251_199_001_000, "2024-02-29T23:59:59.001Z"),
            (1_795_170_645_678_000, "2026-11-20T10:30:45.678Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(format_rfc3339(Timestamp::from_micros(micros)), written);
        }
    }
}
