//! The way of one request through a worker. What the first tier answers is answered at once, and never becomes a future:
//! only what has to wait for something does, and that one knows what was found out before.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, IF_MATCH, IF_UNMODIFIED_SINCE};
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::error::ProxyError;
use super::finding::{Finding, Glance};
use super::intake::ClientRequest;
use super::line::Line;
use super::{Answer, Body, CACHE_STATUS, Client, Interims, LARDER_POSITION, Worker};
use crate::events::webhook::Hook;
use crate::policy::cache_status::Outcome;
use crate::policy::classify::{Caller, Class, Lookup, PassReason};
use crate::policy::route::Mode;
use crate::policy::{CacheKey, Route, tags};

/// A request that a worker has taken.
#[expect(clippy::large_enum_variant, reason = "a hit is not to be in a box")]
pub enum Begun {
    Answered(Response<Body>),
    Later(Box<Later>),
}

/// A request whose answer has to be waited for.
pub struct Later {
    pub(super) worker: Arc<Worker>,
    /// In a box: it is handed on from future to future.
    pub(super) request: Box<ClientRequest>,
    pub(super) step: Step,
    pub(super) line: Line,
}

/// What is to be done.
#[expect(clippy::large_enum_variant, reason = "it is in a box as a part of `Later`")]
pub(super) enum Step {
    LookUp { route: Arc<Route>, key: CacheKey, query: Option<String>, caller: Caller, glance: Option<Glance> },
    Pass { reason: PassReason, route: Option<Arc<Route>> },
    Write { route: Option<Arc<Route>> },
    Purge,
    Event(Arc<Hook>),
}

impl Worker {
    /// Never fails: whatever goes wrong has an answer.
    pub fn begin(self: &Arc<Self>, request: Request<Incoming>, client: Client) -> Begun {
        let mut line = self.line(&request, &client);
        let mut request = match ClientRequest::accept(request.map(Some), client, &self.proxy.config) {
            Ok(request) => request,
            Err(error) => return Begun::Answered(line.close(self, Answer::own(&error, None))),
        };
        line.learn(&mut request.head);
        #[cfg(test)]
        super::panic_tests::trap(&request.head, "request");
        match self.first_step(&request) {
            Ok(answer) => Begun::Answered(line.close(self, answer)),
            Err(step) => {
                let request = Box::new(request);
                Begun::Later(Box::new(Later { worker: self.clone(), request, step, line }))
            }
        }
    }

    /// The answer, or what it takes to have one.
    #[expect(clippy::result_large_err, reason = "it is moved once, and a hit does not have it")]
    fn first_step(&self, request: &ClientRequest) -> Result<Answer, Step> {
        if request.head.parts.method.as_str() == "PURGE" {
            return Err(Step::Purge);
        }
        if let Some(hook) = self.proxy.events.webhooks().find(request.head.parts.uri.path(), true) {
            return Err(Step::Event(hook.clone()));
        }
        let has_content = request.has_content();
        match self.classify(&request.head, has_content) {
            Class::Lookup(lookup) => {
                match may_look_at_once(request, &lookup).then(|| self.glance(&lookup, &request.head)) {
                    Some(Glance::Found(Finding::Fresh(usable))) => {
                        Ok(self.reply(&request.head, &lookup, usable))
                    }
                    glance => {
                        let Lookup { route, key, query, caller, fallback_ttl: _ } = lookup;
                        Err(Step::LookUp { route: route.clone(), key, query, caller, glance })
                    }
                }
            }
            Class::Pass { reason, route } => Err(Step::Pass { reason, route: route.cloned() }),
            Class::Write { route } => Err(Step::Write { route: route.cloned() }),
        }
    }

    /// Says what happened: to the client (RFC 9211, after what caches before this one said) and to the metrics.
    pub(super) fn finish(&self, answer: Answer, took: Duration) -> Response<Body> {
        let Answer { mut response, outcome, route } = answer;
        if let Some(outcome) = outcome {
            self.proxy.metrics.request(route, &outcome, response.status(), took);
            if let Some(route) = route.and_then(|index| self.proxy.config.routes.get(index)) {
                tags::hide(route, response.headers_mut());
                response.headers_mut().append(CACHE_STATUS, outcome.to_header_value());
            }
        }
        response
    }
}

impl Later {
    /// `interims`: the way for interim responses; `None` where none can be sent.
    pub async fn answer(self: Box<Self>, interims: Option<Interims>) -> Response<Body> {
        let Later { worker, mut request, step, line } = *self;
        request.head.interims = interims;
        // Each in a box of its own size.
        let answer = match step {
            Step::LookUp { route, key, query, caller, glance } => {
                let lookup = worker.lookup(&route, key, query, caller);
                within(Some(&route), Box::pin(worker.look_up(request, lookup, glance))).await
            }
            Step::Pass { reason, route } => {
                let passing = Box::pin(worker.pass(request, route.as_ref(), Outcome::pass(reason)));
                within(route.as_ref(), passing).await
            }
            Step::Write { route } => {
                within(route.as_ref(), Box::pin(worker.write(*request, route.as_ref()))).await
            }
            Step::Purge => Box::pin(worker.purge(&request)).await,
            Step::Event(hook) => Box::pin(announced(&hook, *request)).await,
        };
        line.close(&worker, answer)
    }
}

/// A change event that is posted here; it never reaches the upstream.
async fn announced(hook: &Hook, request: ClientRequest) -> Answer {
    let ClientRequest { head, body } = request;
    let (method, headers) = (&head.parts.method, &head.parts.headers);
    let (status, answer) = match body {
        Some(body) => hook.receive(method, headers, body).await,
        None => hook.receive(method, headers, Empty::new()).await,
    };
    let mut response = Response::new(Body::from(format!("{answer}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Answer::new(response, None, None)
}

/// Whether nothing comes before the look into the store.
fn may_look_at_once(request: &ClientRequest, lookup: &Lookup<'_>) -> bool {
    const FIRST: [HeaderName; 3] = [IF_MATCH, IF_UNMODIFIED_SINCE, LARDER_POSITION];
    lookup.route.mode != Mode::Observe && !FIRST.iter().any(|name| request.head.has(name))
}

/// The route's `timeout`. A write that is cut off goes on, and is purged, as one whose client has gone.
pub(super) async fn within(route: Option<&Arc<Route>>, answering: impl Future<Output = Answer>) -> Answer {
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
