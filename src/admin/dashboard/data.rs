//! `GET /dashboard/data`: the page's figures, from the same snapshot as `/metrics`, and the last hour's samples.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::health_notices;
use super::notice::Notice;
use crate::admin::{AdminState, health};
use crate::metrics::{LatencySnapshot, RouteSnapshot, SAMPLE_INTERVAL, Sample, Snapshot, hit_rate};
use crate::store::remote_status::RemoteStatus;
use crate::store::{StoreStats, remote_status::CommandStats};

pub(crate) fn dashboard_data(state: &AdminState) -> Value {
    let (figures, remote) = (state.store.stats(), state.store.remote_status());
    let (metrics, history) = (state.metrics.snapshot(), state.metrics.history());
    json!({
        "at": unix_millis(state.clock.now()),
        "version": env!("CARGO_PKG_VERSION"),
        "status": health::overall_status(state.readiness.phase().current(), remote.as_ref()),
        "notes": collect_notices(state, &metrics, &figures, remote.as_ref()),
        "overview": overview_json(&metrics),
        "store": store_json(&figures),
        "redis": remote.as_ref().map(redis_json),
        "history": history_json(&history),
    })
}

/// Present problems, most severe first.
pub(crate) fn collect_notices(
    state: &AdminState,
    metrics: &Snapshot,
    figures: &StoreStats,
    remote: Option<&RemoteStatus>,
) -> Vec<Notice> {
    health_notices::collect_notices(&health_notices::NoticeInputs {
        phase: state.readiness.phase().current(),
        file: &state.config.source,
        refused: state.readiness.config_error(),
        needs_restart: state.readiness.needs_restart(),
        remote,
        figures,
        metrics,
        recent_upstream: state.metrics.recent_upstream_counts(),
        field_notices: (state.field_notices)(),
    })
}

fn overview_json(metrics: &Snapshot) -> Value {
    let (hits, misses) = (metrics.sum(RouteSnapshot::hits), metrics.sum(RouteSnapshot::misses));
    let purges: Map<_, _> = metrics
        .purges
        .iter()
        .map(|(source, counts)| {
            let counts = json!({"purges": counts.purges, "targets": counts.targets, "failed": counts.failed});
            (source.as_str().to_owned(), counts)
        })
        .collect();
    let shown = metrics.routes.iter().filter(|route| route.requests() > 0 || route.caches);
    json!({
        "requests": metrics.sum(RouteSnapshot::requests),
        "hits": hits,
        "misses": misses,
        "errors": metrics.sum(RouteSnapshot::errors),
        // Requests answered without an upstream request of their own.
        "saved": hits + metrics.sum(RouteSnapshot::collapsed),
        "hitRate": hit_rate(hits, misses),
        "fromStore": quantiles_json(&metrics.merge(|route| &route.from_store)),
        "fromUpstream": quantiles_json(&metrics.merge(|route| &route.from_upstream)),
        "purges": purges,
        "upstreamFailures": metrics.upstream_failures,
        "upstreamWaiting": metrics.upstream_waits.waiting,
        "upstreamOldestWait": metrics.upstream_waits.oldest.map(|oldest| oldest.as_secs_f64()),
        "upstreamBreakerOpen": metrics.upstream_health.is_breaker_open,
        "connections": metrics.connections,
        "acceptsFailed": metrics.accepts_failed,
        "memoryResident": metrics.memory.resident,
        "workersStalled": metrics.workers_overdue.iter().map(|(_, overdue)| overdue.as_secs_f64()).collect::<Vec<_>>(),
        "workerStalls": metrics.worker_stalls,
        "routes": shown.map(route_json).collect::<Vec<_>>(),
    })
}

fn route_json(route: &RouteSnapshot) -> Value {
    json!({
        "name": &*route.name,
        "caches": route.caches,
        "requests": route.requests(),
        "hits": route.hits(),
        "misses": route.misses(),
        "collapsed": route.collapsed(),
        "errors": route.errors(),
        "saved": route.hits() + route.collapsed(),
        "hitRate": hit_rate(route.hits(), route.misses()),
        "forwarded": route.forward_reasons().collect::<Vec<_>>(),
        "notStored": route.not_stored_reasons().collect::<Vec<_>>(),
        "fills": route.fills,
        "filledBytes": route.filled_bytes,
        "invalidations": route.invalidations,
        "ttlSeconds": route.ttl_seconds,
        "fromStore": quantiles_json(&route.from_store),
        "fromUpstream": quantiles_json(&route.from_upstream),
    })
}

/// Quantiles in seconds; `null` without observations.
fn quantiles_json(latencies: &LatencySnapshot) -> Value {
    let quantile = |quantile| latencies.quantile(quantile);
    json!({"count": latencies.count(), "p50": quantile(0.5), "p95": quantile(0.95), "p99": quantile(0.99)})
}

fn store_json(figures: &StoreStats) -> Value {
    json!({
        "entries": figures.entries,
        "bytes": figures.bytes,
        "capacity": figures.capacity,
        "evicted": figures.evicted,
        "purgeRecords": figures.purge_records,
    })
}

fn redis_json(remote: &RemoteStatus) -> Value {
    json!({
        "up": !remote.is_unavailable(),
        "breaker": remote.breaker.as_str(),
        "breakerOpened": remote.times_opened,
        "trouble": remote.failure.as_ref().map(|reason| &reason.message),
        "confirmedSeconds": remote.synced_ago.map(|ago| ago.as_secs_f64()),
        "maxLagSeconds": remote.max_lag.as_secs_f64(),
        "purgesWaiting": remote.pending_purges,
        "connections": remote.connections,
        "inFlight": remote.in_flight,
        "newIndexes": remote.index_resets,
        "memoryUsed": remote.memory.map(|memory| memory.used),
        "memoryLimit": remote.memory.and_then(|memory| memory.limit),
        "keys": remote.memory.and_then(|memory| memory.keys),
        "commands": remote.commands.iter().filter(|figure| figure.sent > 0).map(command_json).collect::<Vec<_>>(),
    })
}

fn command_json(figure: &CommandStats) -> Value {
    json!({
        "command": figure.command,
        "sent": figure.sent,
        "timedOut": figure.timed_out,
        "redirected": figure.redirected,
        "failed": figure.failed,
        "meanSeconds": figure.seconds / figure.sent as f64,
    })
}

/// One column per route, as long as the list of samples; `null` where the route had no requests.
fn history_json(samples: &[Sample]) -> Value {
    let mut routes: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (at, sample) in samples.iter().enumerate() {
        for (name, route) in &sample.routes {
            let column = routes.entry(name).or_insert_with(|| vec![Value::Null; samples.len()]);
            column[at] = json!([route.requests, route.hits, route.misses, route.p50, route.p95]);
        }
    }
    let routes: Map<String, Value> =
        routes.into_iter().map(|(name, column)| (name.to_owned(), Value::Array(column))).collect();
    json!({
        "everySeconds": SAMPLE_INTERVAL.as_secs(),
        "at": samples.iter().map(|sample| unix_millis(sample.at)).collect::<Vec<_>>(),
        "failures": samples.iter().map(|sample| sample.upstream.failures).collect::<Vec<_>>(),
        "apiErrors": samples.iter().map(|sample| sample.upstream.errors).collect::<Vec<_>>(),
        "columns": ["requests", "hits", "misses", "p50", "p95"],
        "routes": routes,
    })
}

fn unix_millis(at: crate::clock::Timestamp) -> u64 {
    at.as_micros() / 1000
}
