//! The state that all workers share, under one configuration.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::content_parser::ContentParser;
use super::first_notices::{FieldEffect, FieldNotices, FirstNotices};
use super::merged_validators::MergedValidators;
use super::operator::Operator;
use super::pending_writes::PendingWrites;
use super::purge_rate::PurgeRateLimiter;
use super::rate_budgets::LocalBudgets;
use super::search_hints::SearchHints;
use super::sender_budgets::SenderBudgets;
use super::single_flight::CollapseTable;
use crate::access_log::AccessLog;
use crate::audit::Audit;
use crate::callers::Callers;
use crate::cdn::CdnRelay;
use crate::clock::Clock;
use crate::config::Config;
use crate::decision_feed::DecisionFeed;
use crate::events::{EventSources, FallbackTtls};
use crate::memory_budget::MemoryBudget;
use crate::metrics::{Metrics, UpstreamHealth};
use crate::observation::TrafficSketch;
use crate::policy::route::RouteMode;
use crate::policy::routes::Routes;
use crate::policy::{CacheKey, Route};
use crate::purging::Purger;
use crate::store::Store;
use crate::telemetry::Telemetry;
use crate::upstream::Destination;

/// The shared state under one configuration. A request keeps the one that it began with.
pub(crate) struct Proxy {
    pub config: Arc<Config>,
    pub routes: Arc<Routes>,
    pub store: Arc<dyn Store>,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    pub events: Arc<EventSources>,
    pub callers: Arc<Callers>,
    /// The routes' lifetimes while sources of change events are silent.
    pub(super) fallbacks: FallbackTtls,
    pub(super) collapse_table: Arc<CollapseTable>,
    pub(super) content_parser: Arc<ContentParser>,
    pub destination: Arc<Destination>,
    /// `None`: requests are not logged.
    pub access_log: Option<Arc<AccessLog>>,
    /// `None`: requests are not traced.
    pub telemetry: Option<Arc<Telemetry>>,
    /// `None`: no hit is audited.
    pub audit: Option<Arc<Audit>>,
    /// `None`: no route has `mode: observe`.
    pub observed: Option<Arc<TrafficSketch>>,
    pub decisions: Arc<DecisionFeed>,
    pub(super) pending_writes: Arc<PendingWrites>,
    pub(super) first_notices: Arc<FirstNotices>,
    pub(super) search_hints: SearchHints,
    pub(super) merged_validators: MergedValidators,
    pub(super) sender_budgets: Arc<SenderBudgets>,
    pub(super) purge_rate: Arc<PurgeRateLimiter>,
    pub(super) rate_budgets: Arc<LocalBudgets>,
    /// Bounds the bodies of responses that are stored, being fetched and being sent.
    pub(super) memory: Arc<MemoryBudget>,
    /// Carries out the operations of `admin_at`; set once the admin endpoints are there.
    pub operator: Arc<OnceLock<Operator>>,
    /// Turns true when tunnels are to close.
    pub(super) tunnels: watch::Sender<bool>,
    /// Writes and fetches, which go on when their client has gone. A shutdown waits for them.
    pub tasks: TaskTracker,
}

/// Returns the kinds of callers held back for a key, with reason and remaining time.
pub(super) type HeldBackKeys =
    Arc<dyn Fn(&CacheKey) -> Vec<(&'static str, &'static str, Duration)> + Send + Sync>;

impl Proxy {
    /// # Errors
    ///
    /// The upstream's or a caller source's TLS settings, the access log or the exporter can't be used.
    pub(crate) fn new(config: Config, store: Arc<dyn Store>, clock: Clock) -> io::Result<Self> {
        let routes = Arc::new(Routes::new(&config.routes).with_rules(&config.purge_rules()));
        store.use_rules(routes.rules());
        let metrics = Arc::new(Metrics::new(&config.routes));
        let cdn = CdnRelay::new(&config.cdn, &metrics)?;
        let shared = (store.clone(), cdn);
        let events =
            EventSources::with_cdn(&config.events, shared, metrics.clone(), routes.clone(), clock.clone())?;
        let destination = Destination::new(&config.upstream)?;
        watch_health(&metrics, &destination);
        let telemetry =
            config.tracing.as_ref().map(|tracing| Telemetry::start(tracing, &clock)).transpose()?;
        export_metrics(telemetry.as_deref(), &metrics, &store);
        Ok(Self {
            observed: start_sketch(&config, &clock),
            fallbacks: events.fallbacks(&config.routes),
            events,
            routes,
            memory: store.memory_budget().clone(),
            store,
            metrics,
            collapse_table: CollapseTable::new(clock.clone()),
            content_parser: Arc::new(ContentParser::new()),
            callers: Callers::new(&config.callers, clock.clone())?,
            destination,
            clock,
            access_log: config.log.access.as_ref().map(AccessLog::open).transpose()?,
            telemetry,
            audit: config.audit.as_ref().map(Audit::new),
            decisions: Arc::default(),
            pending_writes: Arc::default(),
            first_notices: Arc::default(),
            search_hints: SearchHints::default(),
            merged_validators: MergedValidators::default(),
            sender_budgets: Arc::default(),
            purge_rate: Arc::default(),
            rate_budgets: Arc::default(),
            operator: Arc::default(),
            tunnels: watch::Sender::new(false),
            tasks: TaskTracker::new(),
            config: Arc::new(config),
        })
    }

    /// The same state under another configuration: stored responses, counters and running tasks stay.
    ///
    /// # Errors
    ///
    /// The new upstream's TLS settings can't be used.
    pub(crate) fn reconfigured(&self, config: Config) -> io::Result<Self> {
        let destination = match self.destination.has_settings(&config.upstream) {
            true => self.destination.clone(),
            false => Destination::new(&config.upstream)?,
        };
        let routes = Arc::new(Routes::new(&config.routes).with_rules(&config.purge_rules()));
        Ok(Self {
            audit: self.reconfigured_audit(&config, &routes),
            observed: self.reconfigured_sketch(&config),
            routes,
            store: self.store.clone(),
            metrics: Arc::new(self.metrics.reconfigured(&config.routes)),
            collapse_table: self.collapse_table.clone(),
            content_parser: self.content_parser.clone(),
            callers: self.callers.reconfigured(&config.callers)?,
            destination,
            clock: self.clock.clone(),
            fallbacks: self.events.fallbacks(&config.routes),
            events: self.events.clone(),
            access_log: self.access_log.clone(),
            telemetry: self.telemetry.clone(),
            decisions: self.decisions.clone(),
            pending_writes: self.pending_writes.clone(),
            first_notices: Arc::default(),
            search_hints: SearchHints::default(),
            merged_validators: MergedValidators::default(),
            sender_budgets: self.sender_budgets.clone(),
            purge_rate: self.purge_rate.clone(),
            rate_budgets: self.rate_budgets.clone(),
            operator: self.operator.clone(),
            tunnels: self.tunnels.clone(),
            memory: self.memory.clone(),
            tasks: self.tasks.clone(),
            config: Arc::new(config),
        })
    }

    /// Lets those who read figures of the process read those of this configuration.
    pub(crate) fn publish_figures(&self) {
        watch_health(&self.metrics, &self.destination);
        export_metrics(self.telemetry.as_deref(), &self.metrics, &self.store);
    }

    /// The same audit while its settings and what it judges by are the same: the purges, and each route's callers and
    /// lifetimes.
    fn reconfigured_audit(&self, config: &Config, routes: &Routes) -> Option<Arc<Audit>> {
        let settings = config.audit.as_ref()?;
        let judged_by = |routes: &[Arc<Route>]| {
            let route = |route: &Arc<Route>| {
                (route.path.as_str().to_owned(), route.fingerprint, route.lifetime_fingerprint)
            };
            routes.iter().map(route).collect::<Vec<_>>()
        };
        let known = self.audit.as_ref().filter(|audit| {
            audit.settings == *settings
                && routes.rules() == self.routes.rules()
                && judged_by(&config.routes) == judged_by(&self.config.routes)
        });
        Some(known.cloned().unwrap_or_else(|| Audit::new(settings)))
    }

    /// The same sketch while routes are observed and callers are told apart in the same way.
    fn reconfigured_sketch(&self, config: &Config) -> Option<Arc<TrafficSketch>> {
        let new = start_sketch(config, &self.clock)?;
        let known = self.observed.clone().filter(|_| config.credentials == self.config.credentials);
        Some(known.unwrap_or(new))
    }

    /// A mark behind the writes that were accepted so far.
    pub(crate) fn writes_so_far(&self) -> u64 {
        self.pending_writes.next_number()
    }

    /// Whether a write from before the mark is still under way.
    pub(crate) fn has_pending_write(&self, mark: u64) -> bool {
        self.pending_writes.is_any_before(mark)
    }

    /// Tells what keeps requests for a key from being collapsed or refreshed now.
    pub(crate) fn held_back_keys(&self) -> HeldBackKeys {
        let table = self.collapse_table.clone();
        Arc::new(move |key| table.describe(key))
    }

    /// Lists the fields because of which something is shared or not, as far as that was said.
    pub(crate) fn field_notices(&self) -> FieldNotices {
        let (notices, config) = (self.first_notices.clone(), self.config.clone());
        Arc::new(move || {
            let named = |(route, effect, field): (usize, FieldEffect, _)| {
                Some((config.routes.get(route)?.name.clone(), effect.as_str(), field))
            };
            notices.fields().into_iter().filter_map(named).collect()
        })
    }

    /// Purges, as in doubt, the targets of the writes that larder's end cuts off.
    pub(crate) async fn purge_pending_writes(&self) {
        self.pending_writes.purge_all(&self.purger()).await;
        self.events.throttle().flush().await;
    }

    pub(super) fn purger(&self) -> Purger {
        let (store, metrics, routes) = (self.store.clone(), self.metrics.clone(), self.routes.clone());
        Purger { store, metrics, routes, cdn: self.events.cdn().clone() }
    }
}

fn start_sketch(config: &Config, clock: &Clock) -> Option<Arc<TrafficSketch>> {
    let is_observed = config.routes.iter().any(|route| route.mode == RouteMode::Observe);
    is_observed.then(|| Arc::new(TrafficSketch::new(&config.credentials, clock.now())))
}

/// Lets the exporter read the metrics of this configuration.
fn export_metrics(telemetry: Option<&Telemetry>, metrics: &Arc<Metrics>, store: &Arc<dyn Store>) {
    let Some(telemetry) = telemetry else { return };
    let (metrics, store) = (metrics.clone(), store.clone());
    telemetry.set_metrics(Box::new(move || {
        metrics.snapshot().families(&store.stats(), store.remote_status().as_ref())
    }));
}

fn watch_health(metrics: &Metrics, destination: &Arc<Destination>) {
    let destination = destination.clone();
    metrics.set_upstream_health(move || UpstreamHealth {
        is_breaker_open: destination.is_breaker_open(),
        instances: destination.health(),
    });
}
