//! CONNECTS. One request from top to bottom: [`Worker::handle`].
//!
//! The only place that asks policy, the store and the upstream. It parses no field and works out no time itself.

mod answering;
mod body;
mod collapsing;
mod error;
mod fetching;
mod filling;
mod finding;
mod forwarding;
mod guarding;
mod heading;
mod intake;
mod interim;
mod leading;
mod passing;
mod purge_method;
mod ranges;
mod replying;
mod shared_body;
mod tunnel;
mod writing;

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderName, Request, Response};
use hyper::body::Incoming;
use tokio_util::task::TaskTracker;
use tracing::Level;

pub use body::Body;
use collapsing::Flights;
use error::ProxyError;
use intake::ClientRequest;
pub use interim::{InterimQueue, Interims};

use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::policy::cache_status::Outcome;
use crate::policy::classify::{Class, classify};
use crate::policy::routes::Routes;
use crate::policy::{Route, tags};
use crate::store::Store;
use crate::upstream::Upstream;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// On the response to a write: where in time its purge has its place; it is not there if the purge is not recorded. A
/// client that sends it back gets nothing from before that, from whichever replica.
const LARDER_POSITION: HeaderName = HeaderName::from_static("larder-position");

/// What all workers share.
pub struct Proxy {
    pub config: Arc<Config>,
    pub routes: Arc<Routes>,
    pub store: Arc<dyn Store>,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    flights: Arc<Flights>,
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
    pub fn new(config: Arc<Config>, store: Arc<dyn Store>, metrics: Arc<Metrics>, clock: Clock) -> Arc<Self> {
        let routes = Arc::new(Routes::new(&config.routes));
        let flights = Flights::new(clock.clone());
        Arc::new(Self { config, routes, store, metrics, clock, flights, tasks: TaskTracker::new() })
    }
}

impl Worker {
    pub fn new(proxy: Arc<Proxy>, upstream: Upstream) -> Self {
        Self { proxy, upstream }
    }

    /// Never fails: whatever goes wrong has an answer.
    pub async fn handle(&self, request: Request<Incoming>, client: Client) -> Response<Body> {
        // Kept for the log only where there will be a line.
        let asked =
            tracing::enabled!(Level::DEBUG).then(|| (request.method().clone(), request.uri().clone()));
        let answer = match ClientRequest::accept(request, client, &self.proxy.config.trusted_proxies) {
            Ok(request) => self.answer(request).await,
            Err(error) => Answer::own(&error, None),
        };
        let response = self.finish(answer);
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
            Class::Lookup(lookup) => self.look_up(request, lookup).await,
            Class::Pass { reason, route } => self.pass(request, route, Outcome::pass(reason)).await,
            Class::Write { route } => self.write(request, route).await,
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

impl Answer {
    fn new(response: Response<Body>, outcome: Option<Outcome>, route: Option<&Arc<Route>>) -> Self {
        Answer { response, outcome, route: route.map(|route| route.index) }
    }

    /// An answer that larder makes itself.
    fn own(error: &ProxyError, route: Option<&Arc<Route>>) -> Self {
        Answer::new(error.response(), None, route)
    }
}
