//! Counters of the whole process. A hit costs a few atomic adds, without label lookup or lock.
//!
//! Labels are route names and enum values, never values from requests, so the number of series is bounded.

mod background;
mod cdn;
mod exposition;
mod history;
mod labels;
mod latency;
mod memory;
mod redis;
mod render;
mod snapshot;
mod sources;
#[cfg(test)]
mod tests;
mod upstream;
mod watchdog;

pub(crate) use background::BackgroundKind;
pub(crate) use cdn::CdnMetrics;
pub(crate) use exposition::{MetricFamily, MetricKind};
pub(crate) use history::{SAMPLE_INTERVAL, Sample};
pub use labels::NonCacheReply;
pub(crate) use latency::{LatencyCounts, LatencySnapshot};
pub(crate) use memory::ProcessMemory;
pub(crate) use render::MetricsFormat;
pub(crate) use snapshot::{RouteSnapshot, Snapshot, hit_rate};
pub(crate) use sources::{SilenceLimit, SourceMetrics, SourceStatus, WebhookRefusal};
pub(crate) use upstream::{UpstreamCounts, UpstreamWaits};
pub(crate) use watchdog::{WATCHDOG_INTERVAL, WorkerHeartbeat};

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Moment, Timestamp};
use crate::log_interval::LogInterval;
use crate::policy::Route;
use crate::policy::cache_status::CacheOutcome;
use crate::policy::not_stored::NotStored;
use crate::policy::route::Ttl;
use history::MetricsHistory;
pub(crate) use labels::outcome_words;
use labels::{
    FORWARD_REASONS, FWDS, NOT_STORED_REASONS, PURGE_SOURCES, REQUEST_OUTCOMES, RequestOutcome,
    STATUS_CLASSES,
};
use latency::LatencyHistogram;
use upstream::UpstreamActivity;
use watchdog::Watchdog;

/// Counters as seen by one configuration: its routes, and everything counted across configurations.
#[derive(Debug)]
pub struct Metrics {
    /// Indexed by route.
    routes: Box<[RouteLabels]>,
    /// Index 0 counts requests without a route.
    namespaces: Box<[Namespace]>,
    process: Arc<ProcessCounters>,
}

/// Counters that survive configuration changes.
#[derive(Debug, Default)]
struct ProcessCounters {
    /// Counters of every route name so far, so that a route that is removed and added again continues.
    namespaces: Mutex<BTreeMap<Arc<str>, Arc<NamespaceCounts>>>,
    upstream_latencies: LatencyHistogram,
    upstream_activity: UpstreamActivity,
    upstream_health: Mutex<HealthSource>,
    /// By reason. Reasons are fixed strings, so the map stays small.
    upstream_failures: Mutex<BTreeMap<&'static str, u64>>,
    purges: [PurgeCounts; PURGE_SOURCES.len()],
    /// Purges whose sender waited for all replicas: applied in time, or not.
    awaited: [Counter; 2],
    widened: Counter,
    writes_over_budget: Counter,
    write_fields_dropped: Counter,
    merges: Counter,
    background: background::BackgroundCounters,
    connections: AtomicI64,
    /// Seconds by which the `Date` of the last response lay before its receipt.
    upstream_clock_lag: AtomicI64,
    /// Requests that wait for another request's fetch.
    followers: AtomicU64,
    accepts_failed: Counter,
    connections_refused: [Counter; RefusedBy::ALL.len()],
    watchdog: Arc<Watchdog>,
    sources: Mutex<Vec<Arc<SourceMetrics>>>,
    cdns: Mutex<Vec<Arc<CdnMetrics>>>,
    history: MetricsHistory,
    reloads: Counter,
    reloads_refused: Counter,
    /// Whether the last reload was rejected.
    refused: AtomicBool,
    /// Whether the file has changes that need a restart.
    needs_restart: AtomicBool,
    /// Seconds since 1970.
    loaded_at: AtomicU64,
    /// Certificate files and their expiry in seconds since 1970.
    certificates: Mutex<Vec<(String, u64)>>,
    /// Entries of `callers`: their keys, and whether the last fetch succeeded.
    caller_keys: Mutex<Vec<(Arc<str>, usize, bool)>>,
}

/// The health of the upstream at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct UpstreamHealth {
    /// The circuit breakers of all instances are open.
    pub is_breaker_open: bool,
    /// The URL of each instance, and whether its last request did not fail.
    pub instances: Vec<(String, bool)>,
}

/// The source of the upstream's health.
#[derive(Default)]
struct HealthSource(Option<Box<dyn Fn() -> UpstreamHealth + Send + Sync>>);

impl fmt::Debug for HealthSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HealthSource").finish_non_exhaustive()
    }
}

/// A request that waits for another request's fetch.
#[derive(Debug)]
pub(crate) struct FollowerGuard<'a>(&'a AtomicU64);

impl Drop for FollowerGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sender of a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PurgeSource {
    Write,
    PurgeMethod,
    Admin,
    Event,
}

/// Stage at which a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusedBy {
    ProxyProtocol,
    Tls,
    ClientLimit,
}

impl RefusedBy {
    pub(crate) const ALL: [RefusedBy; 3] = [RefusedBy::ProxyProtocol, RefusedBy::Tls, RefusedBy::ClientLimit];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            RefusedBy::ProxyProtocol => "proxy-protocol",
            RefusedBy::Tls => "tls",
            RefusedBy::ClientLimit => "client-limit",
        }
    }
}

#[derive(Debug)]
struct RouteLabels {
    namespace: usize,
    caches: bool,
}

/// Routes that share a name are counted together.
#[derive(Debug)]
struct Namespace {
    name: Arc<str>,
    /// TTLs of its caching routes.
    ttls: Vec<Ttl>,
    /// Whether a configured route has this name.
    is_configured: bool,
    counts: Arc<NamespaceCounts>,
}

/// The result of a request over the rate of its route.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OverRate {
    Refused,
    Observed,
    /// Refused for the address of a trusted proxy, whose client's address can't be read.
    Unidentified,
}

/// The names of [`OverRate`], in its order.
const OVER_RATE_RESULTS: [&str; 3] = ["refused", "observed", "unidentified"];

#[derive(Debug, Default)]
struct NamespaceCounts {
    requests: CounterTable<{ REQUEST_OUTCOMES.len() }, STATUS_CLASSES>,
    forwarded: CounterTable<{ FWDS.len() }, { FORWARD_REASONS.len() + 1 }>,
    not_stored: CounterTable<1, { NOT_STORED_REASONS.len() + 1 }>,
    stored: Counter,
    stored_bytes: Counter,
    invalidations: Counter,
    /// By [`OverRate`].
    over_rate: [Counter; OVER_RATE_RESULTS.len()],
    /// Time to the response head: of hits, of forwarded requests, and of larder's own answers.
    from_store: LatencyHistogram,
    from_upstream: LatencyHistogram,
    from_larder: LatencyHistogram,
}

#[derive(Debug, Default)]
struct PurgeCounts {
    purges: Counter,
    targets: Counter,
    failed: Counter,
    failure_log: LogInterval,
}

impl Metrics {
    /// Metrics that start at zero.
    pub fn new(routes: &[Arc<Route>]) -> Self {
        Self::with_counters(routes.iter().map(route_labels), Arc::default())
    }

    /// Creates the counters for another configuration; routes keep their counts by name.
    pub(crate) fn reconfigured(&self, routes: &[Arc<Route>]) -> Self {
        Self::with_counters(routes.iter().map(route_labels), self.process.clone())
    }

    /// Takes the name of each route, and its TTL if it caches.
    fn with_counters<'a>(
        routes: impl Iterator<Item = (&'a Arc<str>, Option<Ttl>)>,
        all: Arc<ProcessCounters>,
    ) -> Self {
        let namespace = |name: Arc<str>| {
            let mut known = all.namespaces.lock();
            let counts = known.entry(name.clone()).or_default().clone();
            Namespace { name, ttls: Vec::new(), is_configured: false, counts }
        };
        let mut namespaces = vec![namespace(labels::NO_ROUTE.into())];
        let mut known = HashMap::from([(namespaces[0].name.clone(), 0)]);
        let facts = routes.map(|(name, ttl)| {
            let namespace = *known.entry(name.clone()).or_insert_with(|| {
                namespaces.push(namespace(name.clone()));
                namespaces.len() - 1
            });
            namespaces[namespace].is_configured = true;
            namespaces[namespace].ttls.extend(ttl);
            RouteLabels { namespace, caches: ttl.is_some() }
        });
        Self { routes: facts.collect(), namespaces: namespaces.into(), process: all }
    }

    /// Counts an answered request. `took` is the time to the response head, `route` the index of its route.
    pub fn record_request(
        &self,
        route: Option<usize>,
        outcome: &Result<CacheOutcome, NonCacheReply>,
        status: http::StatusCode,
        took: Duration,
    ) {
        let (namespace, caches) = self.find_namespace(route);
        let counts = &namespace.counts;
        let kind = match outcome {
            Ok(outcome) => RequestOutcome::classify(outcome, caches),
            Err(reply) => (*reply).into(),
        };
        match (kind, outcome) {
            (RequestOutcome::Hit, _) => counts.from_store.observe(took),
            (_, Err(_)) => counts.from_larder.observe(took),
            _ => counts.from_upstream.observe(took),
        }
        counts.requests.add(kind as usize, labels::status_class(status), 1);
        if let Ok(CacheOutcome::Forwarded { fwd, detail, .. }) = outcome {
            counts.forwarded.add(labels::fwd_slot(*fwd), labels::reason_slot(*detail), 1);
        }
    }

    /// Counts a request whose client left before it was answered, as 499.
    pub(crate) fn record_left_client(&self, route: Option<usize>, took: Duration) {
        let status = http::StatusCode::from_u16(499).unwrap_or(http::StatusCode::BAD_REQUEST);
        self.record_request(route, &Err(NonCacheReply::Error), status, took);
    }

    pub(crate) fn record_upstream_failure(&self, reason: &'static str) {
        *self.lock_upstream_failures().entry(reason).or_default() += 1;
    }

    /// Records how far the upstream's clock is behind this one, by a response that it made now; negative if ahead.
    pub(crate) fn record_upstream_clock_lag(&self, seconds: i64) {
        self.process.upstream_clock_lag.store(seconds, Ordering::Relaxed);
    }

    /// Sets the source of the upstream's health.
    pub(crate) fn set_upstream_health(&self, read: impl Fn() -> UpstreamHealth + Send + Sync + 'static) {
        *self.process.upstream_health.lock() = HealthSource(Some(Box::new(read)));
    }

    /// Counts an acknowledged purge, and an invalidation of each route name that it reaches.
    pub(crate) fn record_purge(&self, source: PurgeSource, routes: &[usize], targets: usize) {
        let counts = &self.process.purges[source as usize];
        counts.purges.add(1);
        counts.targets.add(targets as u64);
        let mut reached: Vec<_> = routes.iter().filter_map(|route| self.routes.get(*route)).collect();
        reached.sort_unstable_by_key(|route| route.namespace);
        reached.dedup_by_key(|route| route.namespace);
        for route in reached {
            self.namespaces[route.namespace].counts.invalidations.add(1);
        }
    }

    /// Counts a request over the rate of its route.
    pub(crate) fn record_over_rate(&self, route: usize, result: OverRate) {
        let (namespace, _) = self.find_namespace(Some(route));
        namespace.counts.over_rate[result as usize].add(1);
    }

    /// Number of acknowledged purges.
    pub(crate) fn purge_count(&self) -> u64 {
        self.process.purges.iter().map(|counts| counts.purges.get()).sum()
    }

    /// Counts a purge that the store rejected. Returns the number to log, if a line is due.
    pub(crate) fn record_purge_failure(&self, source: PurgeSource) -> Option<u64> {
        let counts = &self.process.purges[source as usize];
        counts.failed.add(1);
        counts.failure_log.record(Moment::now())
    }

    /// The number of rejected purges that no line in the log has told of, if one is due.
    pub(crate) fn take_unlogged_purge_failures(&self, source: PurgeSource) -> Option<u64> {
        self.process.purges[source as usize].failure_log.take_due(Moment::now())
    }

    /// Counts a purge whose sender waited for all replicas.
    pub(crate) fn record_purge_wait(&self, is_known: bool) {
        self.process.awaited[usize::from(!is_known)].add(1);
    }

    /// Counts tag templates of writes that had no value, so that more was purged.
    pub(crate) fn record_widened(&self, templates: usize) {
        self.process.widened.add(templates as u64);
    }

    /// Counts a write that left less than it named, because its sender's budget was used up.
    pub(crate) fn record_write_over_budget(&self) {
        self.process.writes_over_budget.add(1);
    }

    /// Counts fields that `underscores` dropped from a write.
    pub(crate) fn record_write_fields_dropped(&self, fields: usize) {
        self.process.write_fields_dropped.add(fields as u64);
    }

    /// Counts a merge of the parts of a response.
    pub(crate) fn record_merge(&self) {
        self.process.merges.add(1);
    }

    /// Counts a stored response with its size, or the reason it was not stored.
    pub(crate) fn record_fill(&self, route: usize, result: Result<u64, NotStored>) {
        let (namespace, _) = self.find_namespace(Some(route));
        match result {
            Ok(bytes) => {
                namespace.counts.stored.add(1);
                namespace.counts.stored_bytes.add(bytes);
            }
            Err(reason) => namespace.counts.not_stored.add(0, labels::not_stored_slot(reason), 1),
        }
    }

    pub(crate) fn connection_opened(&self) {
        self.process.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_closed(&self) {
        self.process.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// The client connections that are open now.
    pub fn open_connections(&self) -> u64 {
        u64::try_from(self.process.connections.load(Ordering::Relaxed)).unwrap_or_default()
    }

    /// Counts a request that waits for another request's fetch, until the guard is dropped.
    pub(crate) fn start_following(&self) -> FollowerGuard<'_> {
        self.process.followers.fetch_add(1, Ordering::Relaxed);
        FollowerGuard(&self.process.followers)
    }

    /// Counts a failed `accept`, mostly for lack of file descriptors.
    pub(crate) fn record_accept_failure(&self) {
        self.process.accepts_failed.add(1);
    }

    /// Counts a connection that ended before HTTP.
    pub(crate) fn record_connection_refusal(&self, by: RefusedBy) {
        self.process.connections_refused[by as usize].add(1);
    }

    /// Registers a worker, which must beat every [`WATCHDOG_INTERVAL`].
    pub(crate) fn watch_worker(&self, number: usize, now: Moment) -> WorkerHeartbeat {
        self.process.watchdog.register(number, now)
    }

    /// Records that a configuration, possibly the first, is in use.
    pub(crate) fn record_config_loaded(&self, at: Timestamp) {
        self.process.refused.store(false, Ordering::Relaxed);
        self.process.loaded_at.store(at.as_secs(), Ordering::Relaxed);
    }

    pub(crate) fn record_reload(&self, at: Timestamp) {
        self.process.reloads.add(1);
        self.record_config_loaded(at);
    }

    /// Replaces the certificate files and expiries of the listeners.
    pub(crate) fn set_certificate_expiries(&self, ends: Vec<(String, u64)>) {
        *self.process.certificates.lock() = ends;
    }

    /// Replaces the state of the keys of `callers`.
    pub(crate) fn set_caller_keys(&self, keys: Vec<(Arc<str>, usize, bool)>) {
        *self.process.caller_keys.lock() = keys;
    }

    /// Records whether the file has changes that take effect only after a restart.
    pub(crate) fn set_needs_restart(&self, needs_restart: bool) {
        self.process.needs_restart.store(needs_restart, Ordering::Relaxed);
    }

    /// Counts a rejected reload.
    pub(crate) fn record_reload_refusal(&self) {
        self.process.reloads_refused.add(1);
        self.process.refused.store(true, Ordering::Relaxed);
    }

    /// An unknown index counts as no route, so that no request is lost.
    fn find_namespace(&self, route: Option<usize>) -> (&Namespace, bool) {
        match route.and_then(|index| self.routes.get(index)) {
            Some(route) => (&self.namespaces[route.namespace], route.caches),
            None => (&self.namespaces[0], false),
        }
    }

    fn lock_upstream_failures(&self) -> parking_lot::MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.process.upstream_failures.lock()
    }
}

fn route_labels(route: &Arc<Route>) -> (&Arc<str>, Option<Ttl>) {
    (&route.name, route.caches().then_some(route.ttl))
}

/// Counters without routes.
impl Default for Metrics {
    fn default() -> Self {
        Self::new(&[])
    }
}

#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters indexed by two enums.
#[derive(Debug)]
struct CounterTable<const ROWS: usize, const COLUMNS: usize>(Box<[[Counter; COLUMNS]; ROWS]>);

impl<const ROWS: usize, const COLUMNS: usize> CounterTable<ROWS, COLUMNS> {
    fn add(&self, row: usize, column: usize, count: u64) {
        self.0[row][column].add(count);
    }

    fn get(&self, row: usize, column: usize) -> u64 {
        self.0[row][column].get()
    }
}

impl<const ROWS: usize, const COLUMNS: usize> Default for CounterTable<ROWS, COLUMNS> {
    fn default() -> Self {
        Self(Box::new(std::array::from_fn(|_| std::array::from_fn(|_| Counter::default()))))
    }
}
