//! The admin listener: purges, statistics, health and metrics. It never serves clients' requests, and clients of the
//! proxy cannot reach it.

mod access;
mod dashboard;
mod decisions;
mod drain;
mod event_stream;
mod explain;
mod health;
mod operate;
mod purge_events;
mod purge_request;
mod purges;
mod query;
mod readiness;
mod response;
mod server;
mod shared_stats;
mod sizes;
mod stats;
mod stored_key;
#[cfg(test)]
mod tests;
mod warm;

pub(crate) use access::Peer;
pub(crate) use event_stream::ReaderSlots;
pub(crate) use operate::operate;
pub(crate) use readiness::Readiness;
pub(crate) use server::serve;
pub(crate) use shared_stats::report_stats;
use sizes::{Sizes, SizesQuery, SortBy};

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body;
use serde_json::Value;

use crate::audit::Audit;
use crate::callers::Callers;
use crate::clock::Clock;
use crate::config::{Config, Secret};
use crate::decision_feed::DecisionFeed;
use crate::events::EventSources;
use crate::metrics::{BackgroundKind, Metrics, MetricsFormat, PurgeSource};
use crate::observation::{ObservedTraffic, TrafficSketch};
use crate::phase::Phase;
use crate::policy::CacheKey;
use crate::policy::routes::Routes;
use crate::purge::Purge;
use crate::purging::{self, Purger, purge_wait};
use crate::store::remote_status::ReplicaStatus;
use crate::store::{StatsReports, Store};
use crate::warming::Warming;
use response::{AdminError, AdminResponse, LISTENER_FIELD, LISTENER_NAME, json, text, with_content_type};
use stats::Stats;

/// Tells who is held back for a key, why, and for how long.
pub(crate) type HeldBackReporter =
    Arc<dyn Fn(&CacheKey) -> Vec<(&'static str, &'static str, Duration)> + Send + Sync>;

/// Lists the fields because of which something is shared or not: the name of the route, the effect, the field.
pub(crate) type FieldNoticeReporter =
    Arc<dyn Fn() -> Vec<(Arc<str>, &'static str, HeaderName)> + Send + Sync>;

/// Everything the endpoints need.
pub(crate) struct AdminState {
    pub store: Arc<dyn Store>,
    pub metrics: Arc<Metrics>,
    pub routes: Arc<Routes>,
    /// The configuration in use.
    pub config: Arc<Config>,
    pub clock: Clock,
    pub events: Arc<EventSources>,
    pub callers: Arc<Callers>,
    /// `None` admits requests from this machine only.
    pub token: Option<Secret>,
    /// Default bound of `?wait=applied`.
    pub wait_timeout: Duration,
    pub readiness: Readiness,
    /// `None`: no hit is audited.
    pub audit: Option<Arc<Audit>>,
    /// `None`: no route has `mode: observe`.
    pub observed: Option<Arc<TrafficSketch>>,
    /// Keys that are not collapsed or refreshed for a while.
    pub held_back: HeldBackReporter,
    pub field_notices: FieldNoticeReporter,
    /// `None` in a process that sends no background requests.
    pub warming: Option<Arc<Warming>>,
    pub decisions: Arc<DecisionFeed>,
    pub reader_slots: ReaderSlots,
}

const MAX_BODY_BYTES: usize = 1024 * 1024;

/// Bound for reading a whole request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Clients read the first line.
const INDEX: &str = "\
larder admin API

GET    /healthz             liveness
GET    /readyz              readiness
GET    /metrics             metrics for Prometheus
GET    /dashboard           dashboard for a browser
GET    /stats               hits, misses, invalidations and latencies, in total and by route; ?scope=all adds up the replicas
GET    /sizes               memory use by route, tag and path, and single paths: ?by=bytes|responses|uses&limit=20; ?by=uses&scope=all for the paths of all replicas
GET    /replicas            replicas that share the store, and which purges each has applied
GET    /events              purges as server-sent events
GET    /purges              journal of purges: ?limit=100&since=POSITION&tag=TAG
GET    /audit               responses that differed from the API's present answer, and why
GET    /observed            a sketch of the traffic on routes in `mode: observe`, for `larder suggest --observed`
GET    /decisions           requests and how they are answered as server-sent events: ?route=NAME&outcome=hit&path=/api&client=IP&caller=anonymous&slower=50ms
GET    /explain             how a request is treated, and what is stored for it: ?url=http://host/path, or ?key=KEY-IN-REDIS; or POST
POST   /purge               {\"tags\": [], \"urls\": [], \"prefixes\": [], \"everything\": false, \"soft\": false}; ?wait=applied&timeout=5s&dry_run=true
GET    /warm                progress of the `warm` entries
POST   /warm                {\"route\": \"/api/courses/{id}\", \"values\": {\"id\": [1, 2]}}, or {\"urls\": []}, or {\"name\": …}: fetches them now
POST   /refresh             {\"expiring_within\": \"5m\", \"route\": …, \"tag\": …}: refreshes used entries
POST   /drain              clients are told to close their connections; ?exit=true ends the process as SIGTERM does
DELETE /cache               purges everything
DELETE /cache/tags/{tag}    purges a tag

Everything after /dashboard needs `Authorization: Bearer TOKEN` if `admin.token` is set, or else a request from this
machine.
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint<'p> {
    Index,
    Healthz,
    Readyz,
    Metrics,
    Dashboard(dashboard::Asset),
    DashboardData,
    DashboardRules,
    Stats,
    Purges,
    PurgeEvents,
    Replicas,
    Sizes,
    Audit,
    Observed,
    Decisions,
    Explain,
    Purge,
    /// GET reports progress, POST starts a run.
    Warm,
    Refresh,
    Drain,
    PurgeEverything,
    /// Holds the tag as spelled in the path.
    PurgeTag(&'p str),
}

/// The endpoints with a path of their own.
const ENDPOINTS: [(&str, Endpoint<'static>); 20] = [
    ("/", Endpoint::Index),
    ("/healthz", Endpoint::Healthz),
    ("/readyz", Endpoint::Readyz),
    ("/metrics", Endpoint::Metrics),
    ("/dashboard/data", Endpoint::DashboardData),
    ("/dashboard/rules", Endpoint::DashboardRules),
    ("/stats", Endpoint::Stats),
    ("/purges", Endpoint::Purges),
    ("/events", Endpoint::PurgeEvents),
    ("/replicas", Endpoint::Replicas),
    ("/sizes", Endpoint::Sizes),
    ("/decisions", Endpoint::Decisions),
    ("/audit", Endpoint::Audit),
    ("/observed", Endpoint::Observed),
    ("/explain", Endpoint::Explain),
    ("/purge", Endpoint::Purge),
    ("/warm", Endpoint::Warm),
    ("/refresh", Endpoint::Refresh),
    ("/drain", Endpoint::Drain),
    ("/cache", Endpoint::PurgeEverything),
];

/// Answers one request.
pub(crate) async fn handle<B>(state: &AdminState, peer: Peer, request: Request<B>) -> AdminResponse
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut answer = dispatch(state, peer, request).await.unwrap_or_else(AdminError::into_response);
    answer.headers_mut().insert(LISTENER_FIELD, LISTENER_NAME);
    answer
}

async fn dispatch<B>(state: &AdminState, peer: Peer, request: Request<B>) -> Result<AdminResponse, AdminError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    // Webhooks are authenticated by their signature.
    if let Some(hook) = state.events.webhooks().find(head.uri.path(), false) {
        let (status, answer) = hook.receive(&head.method, &head.headers, body).await;
        return Ok(json(status, &answer));
    }
    let endpoint = Endpoint::find(head.uri.path())?;
    endpoint.check_method(&head.method)?;
    if !endpoint.is_open() {
        access::authorize(state.token.as_ref(), peer, &head, &state.config)?;
    }
    respond(state, endpoint, peer, &head, body).await
}

/// Answers a request that is authorized.
async fn respond<B>(
    state: &AdminState,
    endpoint: Endpoint<'_>,
    peer: Peer,
    head: &Parts,
    body: B,
) -> Result<AdminResponse, AdminError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match endpoint {
        Endpoint::Index => Ok(text(StatusCode::OK, INDEX)),
        Endpoint::Healthz => Ok(state.healthz()),
        Endpoint::Readyz => Ok(state.readyz()),
        Endpoint::Metrics => Ok(state.metrics(&head.headers)),
        Endpoint::Dashboard(file) => Ok(file.response()),
        Endpoint::DashboardData => Ok(json(StatusCode::OK, &dashboard::dashboard_data(state))),
        Endpoint::DashboardRules => dashboard::describe_rules(state, head.uri.query()),
        Endpoint::Stats => state.stats(head.uri.query()).await,
        Endpoint::Replicas => state.replicas().await,
        Endpoint::Sizes => state.sizes(head.uri.query()).await,
        Endpoint::Decisions => decisions::stream_decisions(state, head.uri.query()),
        Endpoint::Audit => Ok(state.audit()),
        Endpoint::Observed => state.observed(),
        Endpoint::Purges => state.purges(head.uri.query()).await,
        Endpoint::Explain => {
            let body = if head.method == Method::POST { Some(read_body(body).await?) } else { None };
            explain::explain(state, head.uri.query(), body).await
        }
        Endpoint::PurgeEvents => purge_events::stream_purges(state, &head.headers),
        Endpoint::Purge => {
            let body = read_body(body).await?;
            state.purge(purge_request::parse_body(&state.routes, &body)?, peer, head).await
        }
        Endpoint::Warm if head.method == Method::POST => {
            state.warm(&head.headers, &read_body(body).await?).await
        }
        Endpoint::Warm => Ok(state.warm_status()),
        Endpoint::Refresh => state.refresh(&head.headers, &read_body(body).await?).await,
        Endpoint::Drain => drain::drain(state, head.uri.query()),
        Endpoint::PurgeEverything => {
            purge_request::refuse_content(&read_body(body).await?)?;
            state.purge(purge_request::purge_everything(), peer, head).await
        }
        Endpoint::PurgeTag(tag) => {
            purge_request::refuse_content(&read_body(body).await?)?;
            state.purge(purge_request::parse_tag_path(tag, head.uri.query())?, peer, head).await
        }
    }
}

impl<'p> Endpoint<'p> {
    fn find(path: &'p str) -> Result<Self, AdminError> {
        if let Some(file) = dashboard::Asset::find(path) {
            return Ok(Endpoint::Dashboard(file));
        }
        if let Some((_, endpoint)) = ENDPOINTS.iter().find(|(known, _)| *known == path) {
            return Ok(*endpoint);
        }
        let tag = path.strip_prefix("/cache/tags/").filter(|tag| !tag.is_empty());
        tag.map(Endpoint::PurgeTag).ok_or_else(|| {
            AdminError::new(
                StatusCode::NOT_FOUND,
                "unknown endpoint",
                "GET / lists the endpoints; clients' requests belong on the proxy's listener",
            )
        })
    }

    fn check_method(&self, method: &Method) -> Result<(), AdminError> {
        let allowed = match self {
            Endpoint::Explain | Endpoint::Warm => "GET, HEAD, POST",
            Endpoint::Purge | Endpoint::Refresh | Endpoint::Drain => "POST",
            Endpoint::PurgeEverything | Endpoint::PurgeTag(_) => "DELETE",
            _ => "GET, HEAD",
        };
        let is_allowed = allowed.split(", ").any(|allowed| method == allowed);
        if is_allowed { Ok(()) } else { Err(AdminError::method_not_allowed(allowed)) }
    }

    /// Endpoints for probes and scrapers are open; they disclose nothing about stored responses.
    fn is_open(&self) -> bool {
        matches!(
            self,
            Endpoint::Index
                | Endpoint::Healthz
                | Endpoint::Readyz
                | Endpoint::Metrics
                | Endpoint::Dashboard(_)
        )
    }
}

impl AdminState {
    fn purger(&self) -> Purger {
        let (store, metrics, routes) = (self.store.clone(), self.metrics.clone(), self.routes.clone());
        Purger { store, metrics, routes, cdn: self.events.cdn().clone() }
    }

    /// A process that starts or drains is alive.
    fn healthz(&self) -> AdminResponse {
        json(StatusCode::OK, &self.health(self.readiness.phase().current().max(Phase::Ready)))
    }

    fn health(&self, phase: Phase) -> Value {
        let mut health = health::report(phase, self.store.remote_status().as_ref());
        health::add_source_statuses(&mut health, &self.metrics.source_statuses());
        health::add_key_statuses(&mut health, &self.callers.key_statuses());
        health
    }

    fn readyz(&self) -> AdminResponse {
        let phase = self.readiness.phase().current();
        let code = if phase == Phase::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut body = self.health(phase);
        self.readiness.add_config_status(&mut body);
        json(code, &body)
    }

    fn metrics(&self, fields: &HeaderMap) -> AdminResponse {
        let accept = fields.get(ACCEPT).and_then(|accept| accept.to_str().ok());
        let format = MetricsFormat::choose(accept);
        let (stats, remote) = (self.store.stats(), self.store.remote_status());
        let keys = self.callers.key_statuses().into_iter();
        self.metrics.set_caller_keys(keys.map(|it| (it.callers, it.keys, it.trouble.is_none())).collect());
        let written = self.metrics.snapshot().render(&stats, remote.as_ref());
        let content_type = HeaderValue::from_static(format.content_type());
        with_content_type(StatusCode::OK, content_type, format.convert(written))
    }

    async fn stats(&self, query: Option<&str>) -> Result<AdminResponse, AdminError> {
        if !shared_stats::parse_scope(query)? {
            return Ok(json(StatusCode::OK, &self.current_stats()));
        }
        let reports = self.reports_of_replicas().await?;
        Ok(json(StatusCode::OK, &shared_stats::add_reports(self.stats_value(), &reports)))
    }

    async fn reports_of_replicas(&self) -> Result<StatsReports, AdminError> {
        self.store.stats_reports().await.map_err(|error| {
            let fix = "retry when Redis is available, or ask each replica for its own without `scope`";
            AdminError::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string(), fix)
        })
    }

    /// The counters as JSON, without the order of their declaration.
    fn stats_value(&self) -> serde_json::Value {
        serde_json::to_value(self.current_stats()).unwrap_or_default()
    }

    fn current_stats(&self) -> Stats {
        let remote = self.store.remote_status();
        let status = health::overall_status(self.readiness.phase().current(), remote.as_ref());
        let (snapshot, stats) = (self.metrics.snapshot(), self.store.stats());
        let notes = dashboard::collect_notices(self, &snapshot, &stats, remote.as_ref());
        Stats::new(status, &snapshot, stats, remote.as_ref(), self.clock.now())
            .with_notes(serde_json::json!(notes))
    }

    /// The findings of this replica.
    fn audit(&self) -> AdminResponse {
        // Read first, so that the results of all others are in the report.
        let pending = self.audit.as_ref().map_or(0, |audit| audit.pending());
        let findings = self.audit.as_ref().map(|audit| audit.findings());
        let results = self.metrics.background_results(BackgroundKind::Audit);
        let report = serde_json::json!({
            "enabled": findings.is_some(),
            "pending": pending,
            "results": results,
            "findings": findings.unwrap_or_default(),
        });
        json(StatusCode::OK, &report)
    }

    /// The sketch of this replica.
    fn observed(&self) -> Result<AdminResponse, AdminError> {
        let sketch = self.observed.as_ref().ok_or_else(|| {
            let fix = "write `defaults: {mode: observe}`, or `mode: observe` on routes, and send requests";
            AdminError::new(StatusCode::NOT_FOUND, "no route is observed", fix)
        })?;
        let upstream = self.config.upstream.addresses.iter().map(ToString::to_string).collect();
        let traffic = ObservedTraffic { upstream, ..sketch.report(self.clock.now()) };
        Ok(json(StatusCode::OK, &traffic))
    }

    async fn replicas(&self) -> Result<AdminResponse, AdminError> {
        let replicas = self.store.replicas().await;
        let replicas = replicas.map_err(|error| {
            let fix = "retry when Redis is available; GET /purges lists the purges this replica knows";
            AdminError::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string(), fix)
        })?;
        let latest = replicas.iter().map(|replica| replica.position).max();
        let told = |replica: &ReplicaStatus| {
            serde_json::json!({
                "name": replica.name,
                "position": replica.position.0,
                "knowsLatest": Some(replica.position) == latest,
                "silentMs": replica.last_seen_ago.as_millis() as u64,
            })
        };
        let replicas: Vec<_> = replicas.iter().map(told).collect();
        Ok(json(StatusCode::OK, &serde_json::json!({ "replicas": replicas })))
    }

    async fn sizes(&self, query: Option<&str>) -> Result<AdminResponse, AdminError> {
        let SizesQuery { limit, by, covers_all_replicas } = sizes::parse_query(query)?;
        let failed = || AdminError::new(StatusCode::INTERNAL_SERVER_ERROR, "counting failed", "see the log");
        if !covers_all_replicas {
            return Ok(json(StatusCode::OK, &self.measure_sizes(limit, by).await.ok_or_else(failed)?));
        }
        let reports = self.reports_of_replicas().await?;
        let own = self.measure_sizes(sizes::MAX_LIMIT, by).await.ok_or_else(failed)?;
        Ok(json(StatusCode::OK, &shared_stats::add_paths(&own, &reports, limit)))
    }

    /// Counting takes a while, so it runs off this thread, which serves clients too.
    async fn measure_sizes(&self, limit: usize, by: SortBy) -> Option<Sizes> {
        let (store, routes, now) = (self.store.clone(), self.routes.clone(), self.clock.now());
        tokio::task::spawn_blocking(move || Sizes::measure(&*store, &routes, now, limit, by)).await.ok()
    }

    async fn purges(&self, query: Option<&str>) -> Result<AdminResponse, AdminError> {
        let purges = self.store.recent_purges(purges::parse_query(query)?).await;
        Ok(json(StatusCode::OK, &purges::PurgeList::new(purges)))
    }

    async fn purge(&self, purge: Purge, peer: Peer, head: &Parts) -> Result<AdminResponse, AdminError> {
        let from = match peer {
            Peer::Tcp(address) => Some(address.ip().to_canonical().to_string()),
            Peer::Unix => None,
        };
        let why = purging::describe_request(&head.method, head.uri.path(), from, &head.headers);
        let purge = Purge { cause: Some(why), ..purge };
        let options = purge_request::parse_options(head.uri.query(), self.wait_timeout)?;
        let purger = self.purger();
        // `DELETE /cache/tags/a%2Cb` means the comma.
        if !head.uri.path().to_ascii_uppercase().contains("%2C") {
            let checked = purger.check_tags(&purge.targets).await;
            checked.map_err(|(error, fix)| AdminError::bad_request(error, fix))?;
        }
        let report = purger.report(&purge.targets, purge.mode, options.is_dry_run).await;
        if options.is_dry_run {
            return Ok(json(StatusCode::OK, &purge_wait::dry_run_response(report)));
        }
        let purged = purger.purge(purge, PurgeSource::Admin, None).await;
        let position = purged.map_err(|error| AdminError::unavailable(error.to_string()))?;
        let applied = match options.wait {
            Some(within) => Some(purger.wait_applied(position, within).await),
            None => None,
        };
        let (status, answer) = purge_wait::purge_response(position, report, applied);
        Ok(json(status, &answer))
    }
}

async fn read_body<B>(body: B) -> Result<Bytes, AdminError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let whole = Limited::new(body, MAX_BODY_BYTES).collect();
    match tokio::time::timeout(BODY_TIMEOUT, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(AdminError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the request body exceeds {MAX_BODY_BYTES} bytes"),
            "name a common prefix or tag, or send several requests",
        )),
        Ok(Err(error)) => Err(AdminError::bad_request(
            format!("the request body was cut off: {error}"),
            "send the whole body",
        )),
        Err(_) => Err(AdminError::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the request body took longer than {} s", BODY_TIMEOUT.as_secs()),
            "send the body without pauses",
        )),
    }
}
