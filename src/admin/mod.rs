//! The operators' own listener: purge, statistics, health, metrics. It never sees a client's request, and what it
//! does is out of reach for whoever can only reach the proxy.

mod access;
mod answer;
mod dashboard;
mod explaining;
mod health;
mod purge_feed;
mod purge_request;
mod purges;
mod readiness;
mod server;
mod sizes;
mod stats;
#[cfg(test)]
mod tests;
mod warm;

pub use access::Peer;
pub use purge_feed::places;
pub use readiness::{Phase, Readiness};
pub use server::serve;
use sizes::Sizes;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::config::{Config, Secret};
use crate::events::Events;
use crate::metrics::{CONTENT_TYPE, Metrics, PurgeSource};
use crate::policy::routes::Routes;
use crate::purge::Purge;
use crate::purging::{self, waiting};
use crate::store::Store;
use crate::store::remote::Replica;
use crate::warming::Warming;
use answer::{Answer, Refusal, json, text, with_type};
use stats::Stats;

/// What the endpoints need.
pub struct AdminState {
    pub store: Arc<dyn Store>,
    pub metrics: Arc<Metrics>,
    pub routes: Arc<Routes>,
    /// What the routes and all else come from.
    pub config: Arc<Config>,
    pub clock: Clock,
    pub events: Arc<Events>,
    /// `None`: this machine only.
    pub token: Option<Secret>,
    /// For replicas to know a purge.
    pub wait_timeout: Duration,
    pub readiness: Readiness,
    /// `None`: nobody asks for anything here.
    pub warming: Option<Arc<Warming>>,
    /// Places for those who follow the purges.
    pub readers: Arc<Semaphore>,
}

const MAX_BODY: usize = 1024 * 1024;

/// For the whole body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

const INDEX: &str = "\
larder's admin listener

GET    /healthz             is the process alive?
GET    /readyz              does it take requests?
GET    /metrics             for Prometheus
GET    /dashboard           a page for a browser
GET    /stats               hits, misses and invalidations, in all and by route
GET    /sizes               what fills the memory here, by route, tag and path: ?by=bytes|responses|uses&limit=20
GET    /replicas            who shares the store, and whether each knows all purges
GET    /events              each purge as it happens, as server-sent events
GET    /purges              what was purged, when and why: ?limit=100&since=POSITION&tag=TAG
GET    /explain            what becomes of a request, and what is stored for it: ?url=http://host/path; or POST
POST   /purge               ?wait=applied&timeout=5s; {\"tags\": [], \"urls\": [], \"prefixes\": [], \"everything\": false, \"soft\": false}
GET    /warm                what is warmed, and how far it is
POST   /warm                {\"route\": \"/api/courses/{id}\", \"values\": {\"id\": [1, 2]}}, or {\"urls\": []}: asks for it now
POST   /refresh             {\"expiring_within\": \"5m\", \"route\": …, \"tag\": …}: fetches anew what is used
DELETE /cache               purges everything
DELETE /cache/tags/{tag}    purges what carries a tag

All but the first four need `Authorization: Bearer TOKEN` where `admin.token` is set, and otherwise a request from
this machine.
";

#[derive(Debug, PartialEq, Eq)]
enum Endpoint<'p> {
    Index,
    Healthz,
    Readyz,
    Metrics,
    Dashboard(dashboard::File),
    DashboardData,
    Stats,
    Purges,
    Events,
    Replicas,
    Sizes,
    Explain,
    Purge,
    /// GET shows, POST asks.
    Warm,
    Refresh,
    Cache,
    /// The tag, as the path spells it.
    Tag(&'p str),
}

/// Answers one request.
pub async fn answer<B>(state: &AdminState, peer: Peer, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    carry_out(state, peer, request).await.unwrap_or_else(Refusal::into_answer)
}

async fn carry_out<B>(state: &AdminState, peer: Peer, request: Request<B>) -> Result<Answer, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    // Whoever signs it may post it.
    if let Some(hook) = state.events.webhooks().find(head.uri.path(), false) {
        let (status, answer) = hook.receive(&head.method, &head.headers, body).await;
        return Ok(json(status, &answer));
    }
    let endpoint = Endpoint::find(head.uri.path())?;
    endpoint.check_method(&head.method)?;
    if !endpoint.is_open() {
        access::check(state.token.as_ref(), peer, &head.uri, &head.headers)?;
    }
    match endpoint {
        Endpoint::Index => Ok(text(StatusCode::OK, INDEX)),
        Endpoint::Healthz => Ok(state.healthy()),
        Endpoint::Readyz => Ok(state.ready()),
        Endpoint::Metrics => Ok(state.metrics()),
        Endpoint::Dashboard(file) => Ok(file.answer()),
        Endpoint::DashboardData => Ok(json(StatusCode::OK, &dashboard::feed(state))),
        Endpoint::Stats => Ok(state.stats()),
        Endpoint::Replicas => state.replicas().await,
        Endpoint::Sizes => state.sizes(head.uri.query()).await,
        Endpoint::Purges => state.purges(head.uri.query()).await,
        Endpoint::Explain => {
            let body = if head.method == Method::POST { Some(read(body).await?) } else { None };
            explaining::explain(state, head.uri.query(), body).await
        }
        Endpoint::Events => purge_feed::follow(state, &head.headers),
        Endpoint::Purge => {
            let body = read(body).await?;
            state.purge(purge_request::of_body(&state.routes, &body)?, peer, &head).await
        }
        Endpoint::Warm if head.method == Method::POST => state.warm(&read(body).await?).await,
        Endpoint::Warm => Ok(state.warming()),
        Endpoint::Refresh => state.refresh(&read(body).await?).await,
        Endpoint::Cache => state.purge(purge_request::of_everything(), peer, &head).await,
        Endpoint::Tag(tag) => {
            state.purge(purge_request::of_tag_path(tag, head.uri.query())?, peer, &head).await
        }
    }
}

impl<'p> Endpoint<'p> {
    fn find(path: &'p str) -> Result<Self, Refusal> {
        if let Some(file) = dashboard::File::find(path) {
            return Ok(Endpoint::Dashboard(file));
        }
        match path {
            "/" => Ok(Endpoint::Index),
            "/healthz" => Ok(Endpoint::Healthz),
            "/readyz" => Ok(Endpoint::Readyz),
            "/metrics" => Ok(Endpoint::Metrics),
            "/dashboard/data" => Ok(Endpoint::DashboardData),
            "/stats" => Ok(Endpoint::Stats),
            "/purges" => Ok(Endpoint::Purges),
            "/events" => Ok(Endpoint::Events),
            "/replicas" => Ok(Endpoint::Replicas),
            "/sizes" => Ok(Endpoint::Sizes),
            "/explain" => Ok(Endpoint::Explain),
            "/purge" => Ok(Endpoint::Purge),
            "/warm" => Ok(Endpoint::Warm),
            "/refresh" => Ok(Endpoint::Refresh),
            "/cache" => Ok(Endpoint::Cache),
            _ => match path.strip_prefix("/cache/tags/") {
                Some(tag) if !tag.is_empty() => Ok(Endpoint::Tag(tag)),
                _ => Err(Refusal::new(
                    StatusCode::NOT_FOUND,
                    "there is no such endpoint",
                    "GET / lists those there are; the proxy itself listens elsewhere",
                )),
            },
        }
    }

    fn check_method(&self, method: &Method) -> Result<(), Refusal> {
        let allowed = match self {
            Endpoint::Explain | Endpoint::Warm => "GET, HEAD, POST",
            Endpoint::Purge | Endpoint::Refresh => "POST",
            Endpoint::Cache | Endpoint::Tag(_) => "DELETE",
            _ => "GET, HEAD",
        };
        let is_allowed = allowed.split(", ").any(|allowed| method == allowed);
        if is_allowed { Ok(()) } else { Err(Refusal::method_not_allowed(allowed)) }
    }

    /// What a prober or a scraper asks; it tells nothing of what is stored.
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
    fn healthy(&self) -> Answer {
        json(StatusCode::OK, &self.health(Phase::Ready))
    }

    fn health(&self, phase: Phase) -> Value {
        let mut health = health::of(phase, self.store.remote().as_ref());
        health::add_sources(&mut health, &self.metrics.event_sources());
        health
    }

    fn ready(&self) -> Answer {
        let phase = self.readiness.phase();
        let code = if phase == Phase::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut body = self.health(phase);
        self.readiness.add_config(&mut body);
        json(code, &body)
    }

    fn metrics(&self) -> Answer {
        let written = self.metrics.render(&self.store.figures(), self.store.remote().as_ref());
        with_type(StatusCode::OK, HeaderValue::from_static(CONTENT_TYPE), written)
    }

    fn stats(&self) -> Answer {
        let status = health::status(self.readiness.phase(), self.store.remote().as_ref());
        let (snapshot, figures) = (self.metrics.snapshot(), self.store.figures());
        json(StatusCode::OK, &Stats::new(status, snapshot, figures, self.clock.now()))
    }

    async fn replicas(&self) -> Result<Answer, Refusal> {
        let replicas = self.store.replicas().await;
        let replicas = replicas.map_err(|error| {
            let fix = "ask again when Redis is back; the purges that this replica knows are in /purges";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string(), fix)
        })?;
        let latest = replicas.iter().map(|replica| replica.position).max();
        let told = |replica: &Replica| {
            serde_json::json!({
                "name": replica.name,
                "position": replica.position.0,
                "knowsLatest": Some(replica.position) == latest,
                "silentMs": replica.silent_for.as_millis() as u64,
            })
        };
        let replicas: Vec<_> = replicas.iter().map(told).collect();
        Ok(json(StatusCode::OK, &serde_json::json!({ "replicas": replicas })))
    }

    async fn sizes(&self, query: Option<&str>) -> Result<Answer, Refusal> {
        let (limit, by) = sizes::asked(query)?;
        let (store, routes, now) = (self.store.clone(), self.routes.clone(), self.clock.now());
        // Beside the requests that this thread answers.
        let counted = tokio::task::spawn_blocking(move || Sizes::of(&*store, &routes, now, limit, by)).await;
        match counted {
            Ok(sizes) => Ok(json(StatusCode::OK, &sizes)),
            Err(_) => {
                Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "not counted", "look into the log"))
            }
        }
    }

    async fn purges(&self, query: Option<&str>) -> Result<Answer, Refusal> {
        let purges = self.store.purges(purges::asked(query)?).await;
        Ok(json(StatusCode::OK, &purges::Told::new(purges)))
    }

    async fn purge(&self, purge: Purge, peer: Peer, head: &Parts) -> Result<Answer, Refusal> {
        let from = match peer {
            Peer::Tcp(address) => Some(address.ip().to_canonical().to_string()),
            Peer::Unix => None,
        };
        let why = purging::asked_by(&head.method, head.uri.path(), from, &head.headers);
        let purge = Purge { why: Some(why), ..purge };
        let targets = purge.targets.len();
        let wait = purge_request::wait(head.uri.query(), self.wait_timeout)?;
        let purged = purging::purge(&self.store, &self.metrics, purge, PurgeSource::Admin, None).await;
        let position = purged.map_err(|error| Refusal::unavailable(error.to_string()))?;
        let applied = match wait {
            Some(within) => Some(waiting::applied(&self.store, &self.metrics, position, within).await),
            None => None,
        };
        let (status, mut answer) = waiting::answer(position, applied);
        answer["targets"] = targets.into();
        Ok(json(status, &answer))
    }
}

async fn read<B>(body: B) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let whole = Limited::new(body, MAX_BODY).collect();
    match tokio::time::timeout(BODY_TIMEOUT, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the request's content is longer than {MAX_BODY} bytes"),
            "name a prefix or a tag that the targets have in common, or send several requests",
        )),
        Ok(Err(error)) => {
            Err(Refusal::bad_request(format!("the request's content broke off: {error}"), "send it whole"))
        }
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the request's content took longer than {} s", BODY_TIMEOUT.as_secs()),
            "send it at once",
        )),
    }
}
