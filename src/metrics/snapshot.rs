//! All counters at one time. `/metrics`, `/stats`, the dashboard and its history render it, so that they agree.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::cdn::CdnStatus;
use super::labels::{
    self, FORWARD_REASONS, FWDS, NOT_STORED_REASONS, PURGE_SOURCES, REQUEST_OUTCOMES, RequestOutcome,
    STATUS_CLASSES,
};
use super::latency::LatencySnapshot;
use super::{
    BackgroundKind, Counter, Metrics, Namespace, OVER_RATE_RESULTS, ProcessMemory, PurgeCounts, PurgeSource,
    RefusedBy, SourceStatus, UpstreamHealth, UpstreamWaits,
};
use crate::clock::Moment;
use crate::policy::route::Ttl;
use crate::store::remote_status::FailureReason;

#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// By route name; the first counts requests without a route.
    pub routes: Vec<RouteSnapshot>,
    pub purges: Vec<(PurgeSource, PurgeSnapshot)>,
    /// Purges whose sender waited for all replicas: applied in time, or not.
    pub(super) awaited: [u64; 2],
    pub(super) widened: u64,
    pub(super) writes_over_budget: u64,
    pub(super) write_fields_dropped: u64,
    pub(super) merges: u64,
    pub(super) background: Vec<(BackgroundKind, &'static str, u64)>,
    pub(super) warm_runs: u64,
    pub(super) refreshed_ahead: u64,
    pub upstream_latencies: LatencySnapshot,
    pub upstream_failures: BTreeMap<&'static str, u64>,
    /// By status class.
    pub(super) upstream_responses: [u64; STATUS_CLASSES],
    pub upstream_waits: UpstreamWaits,
    pub upstream_health: UpstreamHealth,
    pub(super) upstream_clock_lag: i64,
    pub connections: u64,
    pub(super) followers: u64,
    pub accepts_failed: u64,
    pub(super) connections_refused: [u64; RefusedBy::ALL.len()],
    pub memory: ProcessMemory,
    /// How long each worker's heartbeat is overdue.
    pub workers_overdue: Vec<(usize, Duration)>,
    pub worker_stalls: u64,
    pub(super) sources: Vec<SourceStatus>,
    pub(super) cdns: Vec<CdnStatus>,
    pub(super) config: ConfigSnapshot,
}

/// Counters of the routes that share a name.
#[derive(Clone, Debug)]
pub(crate) struct RouteSnapshot {
    pub name: Arc<str>,
    /// Whether a configured route has this name.
    pub is_configured: bool,
    /// Whether one of its routes caches.
    pub caches: bool,
    /// TTL that all caching routes of this name share; `None` if they differ or have no fixed TTL.
    pub ttl_seconds: Option<f64>,
    pub(super) requests: [[u64; STATUS_CLASSES]; REQUEST_OUTCOMES.len()],
    /// Non-zero counts by `fwd` and reason.
    pub(super) forwarded: Vec<(usize, usize, u64)>,
    /// Non-zero counts by reason.
    pub(super) not_stored: Vec<(usize, u64)>,
    pub fills: u64,
    pub filled_bytes: u64,
    pub invalidations: u64,
    pub(super) over_rate: [u64; OVER_RATE_RESULTS.len()],
    pub from_store: LatencySnapshot,
    pub from_upstream: LatencySnapshot,
    pub from_larder: LatencySnapshot,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct PurgeSnapshot {
    pub purges: u64,
    pub targets: u64,
    pub failed: u64,
}

#[derive(Clone, Debug)]
pub(super) struct ConfigSnapshot {
    pub reloads: u64,
    pub reloads_rejected: u64,
    pub is_in_use: bool,
    pub needs_restart: bool,
    pub loaded_at: u64,
    pub certificates: Vec<(String, u64)>,
    pub caller_keys: Vec<(Arc<str>, usize, bool)>,
}

impl Metrics {
    pub(crate) fn snapshot(&self) -> Snapshot {
        let process = &self.process;
        let background = process.background.requests.lock().clone();
        Snapshot {
            routes: self.namespaces.iter().map(Namespace::snapshot).collect(),
            purges: PURGE_SOURCES
                .iter()
                .copied()
                .zip(process.purges.iter().map(PurgeCounts::snapshot))
                .collect(),
            awaited: process.awaited.each_ref().map(Counter::get),
            widened: process.widened.get(),
            writes_over_budget: process.writes_over_budget.get(),
            write_fields_dropped: process.write_fields_dropped.get(),
            merges: process.merges.get(),
            background: background.into_iter().map(|((kind, result), count)| (kind, result, count)).collect(),
            warm_runs: process.background.warmed.get(),
            refreshed_ahead: process.background.refreshed_ahead.get(),
            upstream_latencies: process.upstream_latencies.snapshot(),
            upstream_failures: self.lock_upstream_failures().clone(),
            upstream_responses: self.upstream_responses(),
            upstream_waits: self.upstream_waits(Moment::now()),
            upstream_health: process.upstream_health.lock().0.as_ref().map(|read| read()).unwrap_or_default(),
            upstream_clock_lag: process.upstream_clock_lag.load(Ordering::Relaxed),
            connections: self.open_connections(),
            followers: process.followers.load(Ordering::Relaxed),
            accepts_failed: process.accepts_failed.get(),
            connections_refused: process.connections_refused.each_ref().map(Counter::get),
            memory: ProcessMemory::read(),
            workers_overdue: process.watchdog.overdue(Moment::now()),
            worker_stalls: process.watchdog.stalls(),
            sources: self.source_statuses(),
            cdns: self.cdn_statuses(),
            config: ConfigSnapshot {
                reloads: process.reloads.get(),
                reloads_rejected: process.reloads_refused.get(),
                is_in_use: !process.refused.load(Ordering::Relaxed),
                needs_restart: process.needs_restart.load(Ordering::Relaxed),
                loaded_at: process.loaded_at.load(Ordering::Relaxed),
                certificates: process.certificates.lock().clone(),
                caller_keys: process.caller_keys.lock().clone(),
            },
        }
    }
}

impl Snapshot {
    /// The names of the event sources that can't be heard, each with the reason.
    pub(crate) fn unavailable_sources(&self) -> impl Iterator<Item = (&str, &FailureReason)> {
        self.sources.iter().filter_map(|source| Some((&*source.name, source.trouble.as_ref()?)))
    }

    /// Sums a figure over all routes.
    pub(crate) fn sum(&self, figure: impl Fn(&RouteSnapshot) -> u64) -> u64 {
        self.routes.iter().map(figure).sum()
    }

    /// The number of audits with this result.
    pub(crate) fn audits(&self, result: &str) -> u64 {
        let audits =
            self.background.iter().filter(|(kind, its, _)| *kind == BackgroundKind::Audit && *its == result);
        audits.map(|(_, _, count)| count).sum()
    }

    /// Merges a histogram of all routes.
    pub(crate) fn merge(&self, histogram: impl Fn(&RouteSnapshot) -> &LatencySnapshot) -> LatencySnapshot {
        self.routes.iter().map(histogram).fold(LatencySnapshot::default(), |sum, route| sum.merge(route))
    }
}

impl RouteSnapshot {
    pub(crate) fn requests(&self) -> u64 {
        self.requests.as_flattened().iter().sum()
    }

    pub(super) fn with_outcome(&self, outcome: RequestOutcome) -> u64 {
        self.requests[outcome as usize].iter().sum()
    }

    pub(crate) fn hits(&self) -> u64 {
        self.with_outcome(RequestOutcome::Hit)
    }

    /// Collapsed requests are misses too: the store did not answer them.
    pub(crate) fn misses(&self) -> u64 {
        self.with_outcome(RequestOutcome::Miss) + self.collapsed()
    }

    pub(crate) fn collapsed(&self) -> u64 {
        self.with_outcome(RequestOutcome::Collapsed)
    }

    /// Forwarded requests by `fwd` (RFC 9211) and reason, without zeros.
    pub(crate) fn forward_reasons(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let named =
            |(fwd, reason, count): &(usize, usize, u64)| (FWDS[*fwd].1, labels::reason_name(*reason), *count);
        self.forwarded.iter().map(named)
    }

    /// Responses that were not stored, by reason, without zeros.
    pub(crate) fn not_stored_reasons(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.not_stored.iter().map(|(slot, count)| (labels::not_stored_name(*slot), *count))
    }

    /// Answers with a status of 500 or above, by the upstream or by larder.
    pub(crate) fn errors(&self) -> u64 {
        self.requests.iter().map(|classes| classes[4]).sum()
    }
}

impl Namespace {
    fn snapshot(&self) -> RouteSnapshot {
        let counts = &self.counts;
        let pairs =
            (0..FWDS.len()).flat_map(|fwd| (0..=FORWARD_REASONS.len()).map(move |reason| (fwd, reason)));
        let forwarded = pairs.map(|(fwd, reason)| (fwd, reason, counts.forwarded.get(fwd, reason)));
        let not_stored = (0..=NOT_STORED_REASONS.len()).map(|slot| (slot, counts.not_stored.get(0, slot)));
        RouteSnapshot {
            name: self.name.clone(),
            is_configured: self.is_configured,
            caches: !self.ttls.is_empty(),
            ttl_seconds: shared_ttl(&self.ttls),
            requests: std::array::from_fn(|outcome| {
                std::array::from_fn(|class| counts.requests.get(outcome, class))
            }),
            forwarded: forwarded.filter(|(_, _, count)| *count > 0).collect(),
            not_stored: not_stored.filter(|(_, count)| *count > 0).collect(),
            fills: counts.stored.get(),
            filled_bytes: counts.stored_bytes.get(),
            invalidations: counts.invalidations.get(),
            over_rate: counts.over_rate.each_ref().map(Counter::get),
            from_store: counts.from_store.snapshot(),
            from_upstream: counts.from_upstream.snapshot(),
            from_larder: counts.from_larder.snapshot(),
        }
    }
}

fn shared_ttl(ttls: &[Ttl]) -> Option<f64> {
    match ttls.split_first() {
        Some((Ttl::For(ttl), rest)) if rest.iter().all(|other| *other == Ttl::For(*ttl)) => {
            Some(ttl.as_secs_f64())
        }
        _ => None,
    }
}

impl PurgeCounts {
    fn snapshot(&self) -> PurgeSnapshot {
        PurgeSnapshot { purges: self.purges.get(), targets: self.targets.get(), failed: self.failed.get() }
    }
}

/// Hits among hits and misses, 0 to 1; `None` if there are none.
pub(crate) fn hit_rate(hits: u64, misses: u64) -> Option<f64> {
    (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64)
}
