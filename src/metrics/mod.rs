//! All counting. A hit is a few atomic adds: no label is looked up, no lock is taken.
//!
//! Labels come from the names of routes and from enums, never from requests, so that their number is bounded.

mod background;
mod exposition;
mod heartbeats;
mod history;
mod labels;
mod latency;
mod memory;
mod of_redis;
mod overview;
mod render;
mod snapshot;
#[cfg(test)]
mod tests;

pub use background::BackgroundKind;
pub use heartbeats::{EVERY as BEAT_EVERY, Heart};
pub use history::{EVERY as SAMPLE_EVERY, Sample};
pub use memory::Memory;
pub use overview::{OfRoute, Overview, Quantiles};
pub use render::CONTENT_TYPE;
pub use snapshot::{NamespaceFigures, Snapshot};

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

use crate::clock::{Moment, Timestamp};
use crate::policy::Route;
use crate::policy::cache_status::Outcome;
use crate::policy::route::Ttl;
use crate::policy::storing::NotStored;
use heartbeats::Heartbeats;
use history::History;
use labels::{FWDS, NOT_STORED, OUTCOMES, Outcomes, REASONS, SOURCES, STATUS_CLASSES};
use latency::Latency;

/// The counters as one configuration sees them: its routes, and what all configurations of this process count
/// together.
#[derive(Debug)]
pub struct Metrics {
    /// By the route's index.
    routes: Box<[RouteFacts]>,
    /// The first is what falls under no route.
    namespaces: Box<[Namespace]>,
    all: Arc<Process>,
}

/// What goes on counting when the configuration changes.
#[derive(Debug)]
struct Process {
    /// Of every name that a configuration ever had, so that a route that comes back goes on from where it was.
    namespaces: Mutex<BTreeMap<Arc<str>, Arc<NamespaceCounts>>>,
    upstream_seconds: Histogram,
    /// By reason: the callers' own words, so there are few.
    upstream_failures: Mutex<BTreeMap<&'static str, u64>>,
    purges: [PurgeCounts; SOURCES.len()],
    /// Purges that waited until every replica knows them: known, not known in time.
    awaited: [Count; 2],
    widened: Count,
    background: background::Background,
    connections: AtomicI64,
    accepts_failed: Count,
    connections_refused: [Count; Refused::ALL.len()],
    heartbeats: Arc<Heartbeats>,
    history: History,
    reloads: Count,
    reloads_refused: Count,
    /// Whether the last one was.
    refused: AtomicBool,
    /// In seconds since 1970.
    loaded_at: AtomicU64,
    /// Of the listeners' certificates: the file, and the second since 1970.
    certificates: Mutex<Vec<(String, u64)>>,
}

/// Who asked for a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PurgeSource {
    Write,
    PurgeMethod,
    Admin,
}

/// What a connection did not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    ProxyProtocol,
    Tls,
}

impl Refused {
    pub const ALL: [Refused; 2] = [Refused::ProxyProtocol, Refused::Tls];

    pub fn as_str(self) -> &'static str {
        match self {
            Refused::ProxyProtocol => "proxy-protocol",
            Refused::Tls => "tls",
        }
    }
}

#[derive(Debug)]
struct RouteFacts {
    namespace: usize,
    caches: bool,
}

/// What is counted together: the routes of one name.
#[derive(Debug)]
struct Namespace {
    name: Arc<str>,
    /// Those of its routes that cache; none for what falls under no route.
    ttls: Vec<Ttl>,
    /// Whether a route has this name.
    configured: bool,
    counts: Arc<NamespaceCounts>,
}

#[derive(Debug, Default)]
struct NamespaceCounts {
    requests: Table<{ OUTCOMES.len() }, STATUS_CLASSES>,
    forwarded: Table<{ FWDS.len() }, { REASONS.len() + 1 }>,
    not_stored: Table<1, { NOT_STORED.len() + 1 }>,
    stored: Count,
    stored_bytes: Count,
    invalidations: Count,
    /// Until the response began: of hits, and of all others.
    from_store: Latency,
    from_upstream: Latency,
}

#[derive(Debug, Default)]
struct PurgeCounts {
    purges: Count,
    targets: Count,
    failed: Count,
}

impl Metrics {
    pub fn new(routes: &[Arc<Route>]) -> Self {
        Self::of(routes.iter().map(facts), Arc::default())
    }

    /// For other routes: what they share by name with those before goes on counting.
    pub fn reconfigured(&self, routes: &[Arc<Route>]) -> Self {
        Self::of(routes.iter().map(facts), self.all.clone())
    }

    /// By the name of each route, and its TTL if it caches.
    fn of<'a>(routes: impl Iterator<Item = (&'a Arc<str>, Option<Ttl>)>, all: Arc<Process>) -> Self {
        let namespace = |name: Arc<str>| {
            let mut known = all.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
            let counts = known.entry(name.clone()).or_default().clone();
            Namespace { name, ttls: Vec::new(), configured: false, counts }
        };
        let mut namespaces = vec![namespace(labels::NO_ROUTE.into())];
        let mut known = HashMap::from([(namespaces[0].name.clone(), 0)]);
        let facts = routes.map(|(name, ttl)| {
            let namespace = *known.entry(name.clone()).or_insert_with(|| {
                namespaces.push(namespace(name.clone()));
                namespaces.len() - 1
            });
            namespaces[namespace].configured = true;
            namespaces[namespace].ttls.extend(ttl);
            RouteFacts { namespace, caches: ttl.is_some() }
        });
        Self { routes: facts.collect(), namespaces: namespaces.into(), all }
    }

    /// One request that was answered with `status`, which took so long to begin. `route` is the index of its route.
    pub fn request(&self, route: Option<usize>, outcome: &Outcome, status: http::StatusCode, took: Duration) {
        let (namespace, caches) = self.find(route);
        let outcomes = Outcomes::of(outcome, caches);
        match outcomes {
            Outcomes::Hit => namespace.counts.from_store.observe(took),
            _ => namespace.counts.from_upstream.observe(took),
        }
        namespace.counts.requests.add(outcomes as usize, labels::status_class(status), 1);
        if let Outcome::Forwarded { fwd, detail, .. } = outcome {
            namespace.counts.forwarded.add(labels::fwd_slot(*fwd), labels::reason_slot(*detail), 1);
        }
    }

    /// From the request's last byte to the upstream's header section.
    pub fn upstream(&self, latency: Duration) {
        self.all.upstream_seconds.observe(latency.as_secs_f64());
    }

    pub fn upstream_failed(&self, reason: &'static str) {
        *self.failures().entry(reason).or_default() += 1;
    }

    /// A purge of `targets` targets. A write's counts as an invalidation of the namespace of the route that it came in on,
    /// whatever it purges.
    pub fn purged(&self, source: PurgeSource, route: Option<usize>, targets: usize) {
        let counts = &self.all.purges[source as usize];
        counts.purges.add(1);
        counts.targets.add(targets as u64);
        if source == PurgeSource::Write {
            self.find(route).0.counts.invalidations.add(1);
        }
    }

    /// How many were acknowledged.
    pub fn purges(&self) -> u64 {
        self.all.purges.iter().map(|counts| counts.purges.get()).sum()
    }

    /// A purge that the store did not take.
    pub fn purge_failed(&self, source: PurgeSource) {
        self.all.purges[source as usize].failed.add(1);
    }

    /// A purge waited until every replica knows it, or in vain.
    pub fn purge_awaited(&self, is_known: bool) {
        self.all.awaited[usize::from(!is_known)].add(1);
    }

    /// Templates of a write that found no value and were widened.
    pub fn widened(&self, templates: usize) {
        self.all.widened.add(templates as u64);
    }

    /// A response was stored, with so many bytes, or why not.
    pub fn filled(&self, route: usize, result: Result<u64, NotStored>) {
        let (namespace, _) = self.find(Some(route));
        match result {
            Ok(bytes) => {
                namespace.counts.stored.add(1);
                namespace.counts.stored_bytes.add(bytes);
            }
            Err(reason) => namespace.counts.not_stored.add(0, labels::not_stored_slot(reason), 1),
        }
    }

    pub fn connection_opened(&self) {
        self.all.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub fn connection_closed(&self) {
        self.all.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection could not be accepted: the process is out of file descriptors, most likely.
    pub fn accept_failed(&self) {
        self.all.accepts_failed.add(1);
    }

    /// A connection did not come as far as HTTP.
    pub fn connection_refused(&self, by: Refused) {
        self.all.connections_refused[by as usize].add(1);
    }

    /// The heart of a worker, which is to beat every [`BEAT_EVERY`].
    pub fn watch_worker(&self, number: usize, now: Moment) -> Heart {
        self.all.heartbeats.watch(number, now)
    }

    /// A configuration came into use, the first one too.
    pub fn config_loaded(&self, at: Timestamp) {
        self.all.refused.store(false, Ordering::Relaxed);
        self.all.loaded_at.store(at.as_secs(), Ordering::Relaxed);
    }

    pub fn reloaded(&self, at: Timestamp) {
        self.all.reloads.add(1);
        self.config_loaded(at);
    }

    /// Which certificates the listeners answer with, by file, and when they end.
    pub fn certificates_end(&self, ends: Vec<(String, u64)>) {
        *self.all.certificates.lock().unwrap_or_else(PoisonError::into_inner) = ends;
    }

    /// A configuration was wrong: the one before stays.
    pub fn reload_refused(&self) {
        self.all.reloads_refused.add(1);
        self.all.refused.store(true, Ordering::Relaxed);
    }

    /// An index that no route has counts as no route: a wrong figure is better than a lost request.
    fn find(&self, route: Option<usize>) -> (&Namespace, bool) {
        match route.and_then(|index| self.routes.get(index)) {
            Some(route) => (&self.namespaces[route.namespace], route.caches),
            None => (&self.namespaces[0], false),
        }
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.all.upstream_failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn facts(route: &Arc<Route>) -> (&Arc<str>, Option<Ttl>) {
    (&route.name, route.caches().then_some(route.ttl))
}

impl Default for Process {
    fn default() -> Self {
        Self {
            namespaces: Mutex::default(),
            upstream_seconds: Histogram::new(labels::SECONDS),
            upstream_failures: Mutex::default(),
            purges: Default::default(),
            awaited: Default::default(),
            widened: Count::default(),
            background: Default::default(),
            connections: AtomicI64::default(),
            accepts_failed: Count::default(),
            connections_refused: Default::default(),
            heartbeats: Arc::default(),
            history: History::default(),
            reloads: Count::default(),
            reloads_refused: Count::default(),
            refused: AtomicBool::default(),
            loaded_at: AtomicU64::default(),
            certificates: Mutex::default(),
        }
    }
}

/// Without routes.
impl Default for Metrics {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Namespace {
    fn hits(&self) -> u64 {
        self.counts.requests.row(Outcomes::Hit as usize)
    }

    /// A collapsed request is a miss too: it was not answered from the store.
    fn misses(&self) -> u64 {
        self.counts.requests.row(Outcomes::Miss as usize) + self.collapsed()
    }

    fn collapsed(&self) -> u64 {
        self.counts.requests.row(Outcomes::Collapsed as usize)
    }
}

#[derive(Debug, Default)]
struct Count(AtomicU64);

impl Count {
    fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts by two enums.
#[derive(Debug)]
struct Table<const ROWS: usize, const COLUMNS: usize>(Box<[[Count; COLUMNS]; ROWS]>);

impl<const ROWS: usize, const COLUMNS: usize> Table<ROWS, COLUMNS> {
    fn add(&self, row: usize, column: usize, count: u64) {
        self.0[row][column].add(count);
    }

    fn get(&self, row: usize, column: usize) -> u64 {
        self.0[row][column].get()
    }

    fn row(&self, row: usize) -> u64 {
        self.0[row].iter().map(Count::get).sum()
    }
}

impl<const ROWS: usize, const COLUMNS: usize> Default for Table<ROWS, COLUMNS> {
    fn default() -> Self {
        Self(Box::new(std::array::from_fn(|_| std::array::from_fn(|_| Count::default()))))
    }
}
