//! Handles one request from top to bottom: [`Worker::handle`].
//!
//! Hits in the first tier are answered synchronously. Anything that must wait becomes a [`PendingRequest`], which carries
//! the lookup result so far.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, IF_MATCH, IF_UNMODIFIED_SINCE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;

use super::answer::{Answer, LARDER_POSITION, add_cache_status};
use super::body::Body;
use super::cached_request::{answer_cached, pass_miss, try_with_route_timeout, with_route_timeout};
use super::client_request::{Client, ClientHead, ClientRequest, timeouts};
use super::content_read::read_content;
use super::error::ProxyError;
use super::interim::InterimSender;
use super::lookup::{CacheRequest, LookupOutcome, LookupStep};
use super::operate::operate;
use super::overlay::answer_with_overlay;
use super::rate_limit::{charge, charge_locally, find_rated_route, is_caller_pending, judge, rate_request};
use super::request_log::RequestLog;
use super::unanswered::Unanswered;
use super::worker::Worker;
use super::{observe, pass_through, purge_method, write};
use crate::config::Operation;
use crate::events::webhook::WebhookReceiver;
use crate::memory_budget::{ClientMemory, HEAD_WITHOUT_ROOM_BYTES, Reservation};
use crate::metrics::NonCacheReply;
use crate::policy::cache_status::CacheOutcome;
use crate::policy::classify::{CacheLookup, Caller, Classification, PassReason};
use crate::policy::disguised_write::may_write_unread;
use crate::policy::downstream_fields::describe_to_caches;
use crate::policy::no_vary_search::LookupQuery;
use crate::policy::route::RouteMode;
use crate::policy::{CacheKey, Route};
use crate::store::{GetResult, ValidEntry};

/// A request that a worker has accepted.
#[expect(clippy::large_enum_variant, reason = "a hit is not boxed")]
pub(crate) enum Handled {
    Ready(Response<Body>),
    Pending(Box<PendingRequest>),
}

/// A request whose response has to be waited for.
pub(crate) struct PendingRequest {
    worker: Arc<Worker>,
    /// Boxed because it is moved from future to future.
    request: Box<ClientRequest>,
    action: Action,
    log: RequestLog,
    unanswered: Unanswered,
}

/// How a request is answered.
#[expect(clippy::large_enum_variant, reason = "boxed as a part of `PendingRequest`")]
enum Action {
    LookUp {
        route: Arc<Route>,
        key: CacheKey,
        query: LookupQuery,
        caller: Caller,
        step: Option<LookupStep>,
    },
    ContentRead {
        route: Arc<Route>,
    },
    /// The response is merged of parts.
    Overlay {
        route: Arc<Route>,
        caller: Caller,
    },
    Pass {
        reason: PassReason,
        route: Option<Arc<Route>>,
    },
    Write {
        route: Option<Arc<Route>>,
    },
    Purge,
    Event(Arc<WebhookReceiver>),
    Operate(Operation),
    /// The caller is asked for, and the request is planned again.
    Identify {
        route: Arc<Route>,
    },
    /// The beginning of the content is waited for, and the request is planned again.
    BeginContent,
    /// The shared store is asked for the caller's budget, and the request is planned again.
    Charge {
        route: Arc<Route>,
    },
}

impl Action {
    fn route(&self) -> Option<&Route> {
        match self {
            Action::LookUp { route, .. }
            | Action::Identify { route }
            | Action::Charge { route }
            | Action::Overlay { route, .. }
            | Action::ContentRead { route } => Some(route),
            Action::Pass { route, .. } | Action::Write { route } => route.as_deref(),
            Action::Purge | Action::Event(_) | Action::Operate(_) | Action::BeginContent => None,
        }
    }
}

impl Worker {
    /// Never fails: every error has a response.
    pub(crate) fn handle(self: &Arc<Self>, request: Request<Incoming>, client: Client) -> Handled {
        let mut log = RequestLog::start(&self.proxy, &request, &client);
        let mut request = match ClientRequest::accept(request.map(Some), client, &self.proxy.config) {
            Ok(request) => request,
            Err(error) => return Handled::Ready(self.finish(log, Answer::from_error(&error, None))),
        };
        request.head.choose_language(&self.proxy.routes);
        log.set_context(&mut request.head);
        #[cfg(test)]
        super::panic_tests::trap(&request.head, "request");
        match self.plan(&request, &mut log) {
            Ok(answer) => Handled::Ready(self.finish(log, answer)),
            Err(action) => {
                let request = Box::new(request);
                let unanswered = Unanswered::new(self, action.route().map(|route| route.index));
                let worker = self.clone();
                Handled::Pending(Box::new(PendingRequest { worker, request, action, log, unanswered }))
            }
        }
    }

    /// Answers a hit in the first tier, and decides what is to be done for every other request.
    #[expect(clippy::result_large_err, reason = "it is moved once, and a hit does not have it")]
    fn plan(&self, request: &ClientRequest, log: &mut RequestLog) -> Result<Answer, Action> {
        let head = &request.head;
        if purge_method::is_purge(&self.proxy, head) {
            return Err(Action::Purge);
        }
        if let Some(receiver) = self.proxy.events.webhooks().find(head.parts.uri.path(), true) {
            return Err(Action::Event(receiver.clone()));
        }
        if let Some(paths) = &self.proxy.config.admin_at
            && let Some(operation) = paths.find(&head.parts.method, head.parts.uri.path())
        {
            return Err(Action::Operate(operation));
        }
        if request.may_be_empty() {
            return Err(Action::BeginContent);
        }
        let class = self.classify(head, request.has_content());
        if let Err(result) = self.charge_first(head, &class, log) {
            return result;
        }
        match class {
            Classification::Lookup(lookup) if lookup.route.merged_part().is_some() => {
                Err(Action::Overlay { route: lookup.route.clone(), caller: lookup.caller })
            }
            Classification::Lookup(lookup) => {
                let cached = CacheRequest { worker: self, head, lookup: &lookup };
                let step = match can_look_up_first(request, &lookup).then(|| cached.look_up_sync()) {
                    Some(LookupStep::Done(LookupOutcome::Fresh(hit))) => return Ok(hit.into_answer(&cached)),
                    step => step,
                };
                let CacheLookup { route, key, query, caller, fallback_ttl: _ } = lookup;
                Err(Action::LookUp { route: route.clone(), key, query, caller, step })
            }
            Classification::ContentRead { route } => Err(Action::ContentRead { route: route.clone() }),
            Classification::Pass { reason, route } => Err(Action::Pass { reason, route: route.cloned() }),
            Classification::Write { route } => Err(Action::Write { route: route.cloned() }),
            Classification::Identify { route } => Err(Action::Identify { route: route.clone() }),
        }
    }

    /// Charges the request, if a limit counts it before the lookup. `Err`: it is refused, or something is asked first.
    #[expect(clippy::result_large_err, reason = "it is moved once, and a hit does not have it")]
    fn charge_first(
        &self,
        head: &ClientHead,
        class: &Classification<'_>,
        log: &mut RequestLog,
    ) -> Result<(), Result<Answer, Action>> {
        if log.is_charged() {
            return Ok(());
        }
        let Some(route) = find_rated_route(&self.proxy.routes, head, class) else { return Ok(()) };
        if is_caller_pending(self, head, class, route) {
            return Err(Err(Action::Identify { route: route.clone() }));
        }
        let Some(rated) = rate_request(head, route) else { return Ok(()) };
        let Some(charge) = charge_locally(self, &rated) else {
            return Err(Err(Action::Charge { route: route.clone() }));
        };
        log.set_charged(judge(self, &rated, charge).map_err(Ok)?);
        Ok(())
    }

    /// Charges the request in the shared store. Goes on like [`Worker::plan`].
    async fn charge_and_plan(
        &self,
        route: &Arc<Route>,
        request: &ClientRequest,
        log: &mut RequestLog,
    ) -> Result<Answer, Action> {
        if let Some(rated) = rate_request(&request.head, route) {
            match judge(self, &rated, charge(self, &rated).await) {
                Ok(fields) => log.set_charged(fields),
                Err(answer) => return Ok(answer),
            }
        }
        self.plan(request, log)
    }

    /// Counts the answer, adds larder's own fields to it (`Cache-Status` after those of inner caches, RFC 9211), and logs it.
    fn finish(&self, log: RequestLog, answer: Answer) -> Response<Body> {
        let Answer { mut response, outcome, route } = answer;
        let config = route.and_then(|index| self.proxy.config.routes.get(index));
        self.proxy.metrics.record_request(route, &outcome, response.status(), log.elapsed());
        if let (Ok(outcome), Some(route)) = (&outcome, config) {
            describe_to_caches(route, outcome, response.status(), response.headers_mut());
            add_cache_status(response.headers_mut(), outcome.to_header_value());
        }
        log.publish(&self.proxy, (config.map(AsRef::as_ref), response.status()), outcome.ok());
        log.add_request_id(response.headers_mut());
        log.add_rate(response.headers_mut());
        match log.record(&response, config, outcome.ok()) {
            Some(entry) => response.map(|body| body.logged(entry)),
            None => response,
        }
    }
}

/// Whether nothing comes before the lookup.
fn can_look_up_first(request: &ClientRequest, lookup: &CacheLookup<'_>) -> bool {
    const CHECKED_FIRST: [HeaderName; 3] = [IF_MATCH, IF_UNMODIFIED_SINCE, LARDER_POSITION];
    lookup.route.mode != RouteMode::Observe && !CHECKED_FIRST.iter().any(|name| request.head.has(name))
}

impl PendingRequest {
    /// Returns whether the request ends when its client leaves. A fetch that may be stored and a purging write go on.
    pub(crate) fn is_cancellable(&self) -> bool {
        match &self.action {
            Action::Pass { .. } => true,
            Action::Write { route } => {
                write::is_cancellable(&self.worker, &self.request.head, route.as_ref())
            }
            _ => false,
        }
    }

    /// Answers a hit of the shared store, and never fetches: its future is small, since many requests wait for the store
    /// at a time. `Err`: the request goes on with what is known now.
    pub(crate) async fn respond_from_store(mut self: Box<Self>) -> Result<Response<Body>, Box<Self>> {
        let Some(result) = self.take_store_result() else { return Err(self) };
        let entry = result.resolve().await;
        self.respond_with_entry(entry)
    }

    /// The pending store lookup, if the request waits for nothing else. The route's timeout is not measured here.
    fn take_store_result(&mut self) -> Option<GetResult> {
        match &mut self.action {
            Action::LookUp { route, step: Some(LookupStep::Pending(result, _)), .. }
                if route.timeout.is_none() =>
            {
                Some(std::mem::replace(result, GetResult::Ready(None)))
            }
            _ => None,
        }
    }

    fn respond_with_entry(
        mut self: Box<Self>,
        entry: Option<ValidEntry>,
    ) -> Result<Response<Body>, Box<Self>> {
        let PendingRequest { worker, request, action, .. } = &mut *self;
        let Action::LookUp { route, key, query, caller, step } = action else { return Err(self) };
        let Some(LookupStep::Pending(_, cursor)) = step.take() else { return Err(self) };
        let lookup = worker.cache_lookup(route, *key, std::mem::take(query), *caller);
        let cached = CacheRequest { worker, head: &request.head, lookup: &lookup };
        match cached.advance(GetResult::Ready(entry), cursor) {
            LookupStep::Done(LookupOutcome::Fresh(hit)) => {
                let answer = hit.into_answer(&cached);
                let PendingRequest { worker, log, unanswered, .. } = *self;
                unanswered.end();
                Ok(worker.finish(log, answer))
            }
            other => {
                *step = Some(other);
                *query = lookup.query;
                Err(self)
            }
        }
    }

    /// `interims`: where interim responses go; `None` where none can be sent.
    pub(crate) async fn respond(self: Box<Self>, interims: Option<InterimSender>) -> Response<Body> {
        let PendingRequest { worker, mut request, mut action, mut log, unanswered } = *self;
        let Some(_counted) = reserve_head(&worker.client_memory(&request.head), &request.head.parts) else {
            let answer = Answer::from_error(&ProxyError::NoMemory, None);
            unanswered.end();
            return worker.finish(log, answer);
        };
        // The content begins, the caller is identified, and the request is charged: each once.
        for _ in 0..3 {
            let planned = match &action {
                Action::BeginContent => {
                    request.begin_content(worker.limits().body_timeout).await;
                    worker.plan(&request, &mut log)
                }
                Action::Identify { route } => {
                    worker.ask_caller(route, &request.head).await;
                    worker.plan(&request, &mut log)
                }
                Action::Charge { route } => worker.charge_and_plan(route, &request, &mut log).await,
                _ => break,
            };
            action = match planned {
                Ok(answer) => {
                    unanswered.end();
                    return worker.finish(log, answer);
                }
                Err(action) => action,
            };
        }
        request.head.interims = interims;
        if let Some(route) = action.route() {
            log.set_route(route);
            request.head.route_timeouts = Some(timeouts(&worker.proxy.config, Some(route)));
        }
        let observed = observe::begin(&worker.proxy, &request.head, action.route());
        // Each future is boxed, so that it takes only its own size.
        let answer = match action {
            Action::LookUp { route, key, query, caller, step } => {
                let lookup = worker.cache_lookup(&route, key, query, caller);
                let answer = Box::pin(answer_cached(&worker, request, lookup, step));
                with_route_timeout(Some(&route), answer).await
            }
            Action::ContentRead { route } => {
                let answer = Box::pin(answer_content_read(&worker, request, &route));
                match try_with_route_timeout(Some(&route), answer).await {
                    Ok(answer) => answer,
                    // A write's own time-out says what becomes of it.
                    Err(request) => Box::pin(write::write(&worker, *request, Some(&route))).await,
                }
            }
            Action::Overlay { route, caller } => {
                let answer = Box::pin(answer_with_overlay(&worker, request, &route, caller));
                with_route_timeout(Some(&route), answer).await
            }
            Action::Pass { reason, route } => {
                let outcome = CacheOutcome::pass(reason);
                let answer = Box::pin(pass_through::pass(&worker, request, route.as_ref(), outcome));
                with_route_timeout(route.as_ref(), answer).await
            }
            Action::Write { route } => Box::pin(write::write(&worker, *request, route.as_ref())).await,
            Action::Purge => Box::pin(purge_method::purge(&worker.proxy, &request)).await,
            Action::Event(receiver) => Box::pin(receive_event(&receiver, *request)).await,
            Action::Operate(operation) => Box::pin(operate(&worker, *request, operation)).await,
            // The caller is identified and charged by now, and the content has begun.
            Action::Identify { .. } | Action::Charge { .. } | Action::BeginContent => {
                Answer::from_error(&ProxyError::Interrupted, None)
            }
        };
        let answer = observe::sketch(&worker.proxy, observed, answer);
        unanswered.end();
        worker.finish(log, answer)
    }
}

/// Counts a head in the memory budget while its response is waited for. `None`: it is large, and there is no room for it.
fn reserve_head(memory: &ClientMemory, head: &Parts) -> Option<Reservation> {
    let fields = head.headers.iter();
    let field_bytes =
        fields.map(|(name, value)| size_of::<HeaderValue>() + name.as_str().len() + value.len());
    let target_bytes = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let bytes = (field_bytes.sum::<usize>() + target_bytes) as u64;
    if bytes > HEAD_WITHOUT_ROOM_BYTES && !memory.has_room_for(bytes) {
        return None;
    }
    let mut reservation = memory.reserve();
    reservation.grow(bytes);
    Some(reservation)
}

/// Answers a read by QUERY or POST: from the store, or by a fetch that sends the same content. `Err`: it may write.
async fn answer_content_read(
    worker: &Worker,
    mut request: Box<ClientRequest>,
    route: &Arc<Route>,
) -> Result<Answer, Box<ClientRequest>> {
    let reason = match read_content(worker, &mut request).await {
        Ok(Some(PassReason::Content))
            if {
                let parts = &request.head.parts;
                may_write_unread(&parts.method, &parts.headers, parts.uri.query())
            } =>
        {
            worker.ask_caller(route, &request.head).await;
            return Err(request);
        }
        Ok(reason) => match (worker.classify_after_asking(&request.head).await, reason) {
            (Classification::Write { .. }, _) => return Err(request),
            (_, Some(reason)) => reason,
            (Classification::Lookup(lookup), None) => {
                return Ok(answer_cached(worker, request, lookup, None).await);
            }
            (Classification::Pass { reason, .. }, None) => reason,
            (_, None) => PassReason::Content,
        },
        Err(error) => return Ok(Answer::from_error(&error, Some(route))),
    };
    Ok(pass_miss(worker, request, route, reason).await)
}

/// A change event posted by a webhook. It is never forwarded.
async fn receive_event(receiver: &WebhookReceiver, request: ClientRequest) -> Answer {
    let ClientRequest { head, body } = request;
    let (method, headers) = (&head.parts.method, &head.parts.headers);
    let (status, report) = match body {
        Some(body) => receiver.receive(method, headers, body).await,
        None => receiver.receive(method, headers, Empty::new()).await,
    };
    let mut response = Response::new(Body::from(format!("{report}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Answer::without_cache(response, NonCacheReply::Webhook, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<F>(_: impl Fn(Box<PendingRequest>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn waiting_for_the_store_takes_little_memory() {
        // A response, and next to nothing besides.
        let size = size_of_future(PendingRequest::respond_from_store);
        assert!(size <= 384, "{size}");
    }
}
