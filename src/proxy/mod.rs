//! CONNECTS. One request from top to bottom: [`Worker::handle`].
//!
//! The only place that asks policy, the store and the upstream. It parses no field and works out no time itself.

mod answering;
mod body;
mod collapsing;
mod desk;
mod error;
mod fetching;
mod filling;
mod finding;
mod forwarding;
mod guarding;
mod heading;
mod identity;
mod intake;
mod interim;
mod leading;
mod line;
mod passing;
mod purge_method;
mod ranges;
mod replying;
mod shared_body;
mod tunnel;
mod writing;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderName, Request, Response};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::Level;

pub use body::Body;
use collapsing::Flights;
pub use desk::{Desk, Live};
use error::ProxyError;
use intake::ClientRequest;
pub use interim::{InterimQueue, Interims};

use crate::access_log::AccessLog;
use crate::clock::Clock;
use crate::config::{Config, Limits};
use crate::metrics::Metrics;
use crate::policy::cache_status::Outcome;
use crate::policy::classify::{Class, classify};
use crate::policy::routes::Routes;
use crate::policy::{Route, tags};
use crate::store::Store;
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
    flights: Arc<Flights>,
    destination: Arc<Destination>,
    /// `None`: no line for each request.
    pub access_log: Option<Arc<AccessLog>>,
    /// Writes and fetches that go on when their client has gone; a shutdown waits for them.
    pub tasks: TaskTracker,
}

/// Who sent a request.
pub struct Client {
    /// The peer of the connection; `None` on a unix socket.
    pub peer: Option<IpAddr>,
    /// For interim responses; `None` where none can be sent.
    pub interims: Option<Interims>,
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
        Ok(Self {
            routes: Arc::new(Routes::new(&config.routes)),
            store,
            metrics: Arc::new(Metrics::new(&config.routes)),
            flights: Flights::new(clock.clone()),
            destination: Destination::new(&config.upstream)?,
            clock,
            access_log: config.log.access.as_ref().map(AccessLog::open).transpose()?,
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
            destination,
            clock: self.clock.clone(),
            access_log: self.access_log.clone(),
            tasks: self.tasks.clone(),
            config: Arc::new(config),
        })
    }
}

impl Worker {
    pub fn limits(&self) -> &Limits {
        &self.proxy.config.limits
    }

    /// Never fails: whatever goes wrong has an answer.
    pub async fn handle(&self, request: Request<Incoming>, client: Client) -> Response<Body> {
        // Kept for the log only where there will be a line.
        let asked =
            tracing::enabled!(Level::DEBUG).then(|| (request.method().clone(), request.uri().clone()));
        let mut line = self.line(&request, &client);
        let answer = match ClientRequest::accept(request, client, &self.proxy.config) {
            Ok(mut request) => {
                line.learn(&mut request.head);
                self.answer(request).await
            }
            Err(error) => Answer::own(&error, None),
        };
        let response = line.close(self, answer);
        if let Some((method, uri)) = asked {
            let cache = response.headers().get(CACHE_STATUS).and_then(|status| status.to_str().ok());
            tracing::debug!(%method, %uri, status = response.status().as_u16(), cache, "answered");
        }
        response
    }

    async fn answer(&self, request: ClientRequest) -> Answer {
        if request.head.parts.method.as_str() == "PURGE" {
            return self.purge(&request).await;
        }
        let proxy = &self.proxy;
        let has_content = request.has_content();
        match classify(&proxy.routes, &request.head.as_policy(), has_content, &proxy.config.credentials) {
            Class::Lookup(lookup) => within(Some(lookup.route), self.look_up(request, lookup)).await,
            Class::Pass { reason, route } => {
                within(route, self.pass(request, route, Outcome::pass(reason))).await
            }
            Class::Write { route } => within(route, self.write(request, route)).await,
        }
    }

    /// Says what happened: to the client (RFC 9211, after what caches before this one said) and to the metrics.
    fn finish(&self, answer: Answer) -> Response<Body> {
        let Answer { mut response, outcome, route } = answer;
        if let Some(outcome) = outcome {
            self.proxy.metrics.request(route, &outcome, response.status());
            if let Some(route) = route.and_then(|index| self.proxy.config.routes.get(index)) {
                tags::hide(route, response.headers_mut());
                response.headers_mut().append(CACHE_STATUS, outcome.to_header_value());
            }
        }
        response
    }
}

/// The route's `timeout`. A write that is cut off goes on, and is purged, as one whose client has gone.
async fn within(route: Option<&Arc<Route>>, answering: impl Future<Output = Answer>) -> Answer {
    let Some(limit) = route.and_then(|route| route.timeout) else { return answering.await };
    let end = Instant::now() + limit;
    match timeout_at(end, answering).await {
        Ok(mut answer) => {
            answer.response = answer.response.map(|body| body.until(end));
            answer
        }
        Err(_) => Answer::own(&ProxyError::TooLong, route),
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
