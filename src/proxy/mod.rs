//! CONNECTS. One request from top to bottom: [`Worker::begin`].
//!
//! The only place that asks policy, the store and the upstream. It parses no field and works out no time itself.

mod answering;
mod awaiting;
mod body;
mod collapsing;
mod desk;
mod errand;
mod error;
mod fetching;
mod filling;
mod finding;
mod forwarding;
mod gathering;
mod guarding;
mod handling;
mod heading;
mod identity;
mod intake;
mod interim;
mod leading;
mod line;
#[cfg(test)]
mod panic_tests;
mod passing;
mod purge_method;
mod ranges;
mod reading;
mod renewing;
mod replying;
mod shared_body;
mod spans;
mod tagging;
mod tunnel;
mod turns;
mod unfinished;
mod writing;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderName, Response};
use tokio_util::task::TaskTracker;

pub use body::Body;
use collapsing::Flights;
pub use desk::{Desk, Live};
pub use errand::{Carried, Errand};
use error::ProxyError;
pub use handling::{Begun, Later};
pub use intake::ClientHead;
pub use interim::{InterimQueue, Interims};
use reading::Reading;
use unfinished::Unfinished;

use crate::access_log::AccessLog;
use crate::clock::Clock;
use crate::config::{Config, Limits};
use crate::events::{Events, Fallbacks};
use crate::metrics::Metrics;
use crate::policy::cache_status::Outcome;
use crate::policy::classify::{Caller, Class, Lookup, classify};
use crate::policy::routes::Routes;
use crate::policy::{CacheKey, Route};
use crate::store::Store;
use crate::telemetry::Telemetry;
use crate::upstream::{Destination, Upstream};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// On the response to a write: where in time its purge has its place; it is not there if the purge is not recorded. A
/// client that sends it back gets nothing from before that, from whichever replica.
const LARDER_POSITION: HeaderName = HeaderName::from_static("larder-position");

/// What all workers share, under one configuration: a request keeps the one that it began with.
pub struct Proxy {
    pub config: Arc<Config>,
    pub routes: Arc<Routes>,
    pub store: Arc<dyn Store>,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    pub events: Arc<Events>,
    /// What the silence of sources means for the routes.
    fallbacks: Fallbacks,
    flights: Arc<Flights>,
    reading: Arc<Reading>,
    destination: Arc<Destination>,
    /// `None`: no line for each request.
    pub access_log: Option<Arc<AccessLog>>,
    /// `None`: no spans.
    pub telemetry: Option<Arc<Telemetry>>,
    unfinished: Arc<Unfinished>,
    /// Writes and fetches that go on when their client has gone; a shutdown waits for them.
    pub tasks: TaskTracker,
}

/// Who sent a request.
pub struct Client {
    /// The peer of the connection; `None` on a unix socket.
    pub peer: Option<IpAddr>,
    /// It came over TLS.
    pub is_tls: bool,
    /// It is larder itself.
    pub errand: Option<Errand>,
}

/// One thread's way to the upstream, and all that is shared.
#[derive(Clone)]
pub struct Worker {
    proxy: Arc<Proxy>,
    upstream: Upstream,
}

/// An answer, and what was done to get it.
struct Answer {
    response: Response<Body>,
    /// `None` if larder made the answer itself (RFC 9211 §2: no member then).
    outcome: Option<Outcome>,
    /// The index of the route.
    route: Option<usize>,
}

impl Proxy {
    /// Fails where there is no way to the upstream.
    pub fn new(config: Config, store: Arc<dyn Store>, clock: Clock) -> io::Result<Self> {
        let routes = Arc::new(Routes::new(&config.routes));
        let metrics = Arc::new(Metrics::new(&config.routes));
        let events =
            Events::new(&config.events, store.clone(), metrics.clone(), routes.clone(), clock.clone())?;
        Ok(Self {
            fallbacks: events.fallbacks(&config.routes),
            events,
            routes,
            store,
            metrics,
            flights: Flights::new(clock.clone()),
            reading: Arc::new(Reading::new()),
            destination: Destination::new(&config.upstream)?,
            clock,
            access_log: config.log.access.as_ref().map(AccessLog::open).transpose()?,
            telemetry: config.tracing.as_ref().map(Telemetry::start).transpose()?,
            unfinished: Arc::default(),
            tasks: TaskTracker::new(),
            config: Arc::new(config),
        })
    }

    /// The same proxy under another configuration: what is stored, counted and under way goes on.
    pub fn reconfigured(&self, config: Config) -> io::Result<Self> {
        let destination = match self.destination.is_for(&config.upstream) {
            true => self.destination.clone(),
            false => Destination::new(&config.upstream)?,
        };
        Ok(Self {
            routes: Arc::new(Routes::new(&config.routes)),
            store: self.store.clone(),
            metrics: Arc::new(self.metrics.reconfigured(&config.routes)),
            flights: self.flights.clone(),
            reading: self.reading.clone(),
            destination,
            clock: self.clock.clone(),
            fallbacks: self.events.fallbacks(&config.routes),
            events: self.events.clone(),
            access_log: self.access_log.clone(),
            telemetry: self.telemetry.clone(),
            unfinished: self.unfinished.clone(),
            tasks: self.tasks.clone(),
            config: Arc::new(config),
        })
    }
}

impl Worker {
    /// Whether it is believed what this peer says of its clients; whoever may open a unix socket is.
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        let trusted = &self.proxy.config.trusted_proxies;
        peer.is_none_or(|peer| trusted.iter().any(|net| net.contains(&peer)))
    }

    pub fn limits(&self) -> &Limits {
        &self.proxy.config.limits
    }

    /// How the rules take a request, under what the sources of change events let hold now.
    fn classify(&self, head: &ClientHead, has_content: bool) -> Class<'_> {
        let proxy = &self.proxy;
        let mut class = classify(&proxy.routes, &head.as_policy(), has_content, &proxy.config.credentials);
        if let Class::Lookup(lookup) = &mut class {
            lookup.fallback_ttl = proxy.fallbacks.of_route(lookup.route.index);
        }
        class
    }

    /// What [`Worker::classify`] found, once more: the lifetime that holds may be another one by now.
    fn lookup<'r>(
        &self,
        route: &'r Arc<Route>,
        key: CacheKey,
        query: Option<String>,
        caller: Caller,
    ) -> Lookup<'r> {
        Lookup { route, key, query, caller, fallback_ttl: self.proxy.fallbacks.of_route(route.index) }
    }
}

impl Answer {
    fn new(response: Response<Body>, outcome: Option<Outcome>, route: Option<&Arc<Route>>) -> Self {
        Answer { response, outcome, route: route.map(|route| route.index) }
    }

    /// An answer that larder makes itself.
    fn own(error: &ProxyError, route: Option<&Arc<Route>>) -> Self {
        Answer::new(error.response(), None, route)
    }
}
