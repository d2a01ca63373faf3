//! The records of a request: its access log entry, its span and its id, where they are configured.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::CACHE_STATUS;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use tracing::Level;

use super::body::Body;
use super::client_request::{Client, ClientHead};
use super::rate_budgets::RateFields;
use super::spans::RequestSpan;
use super::state::Proxy;
use super::trace_context::{self, TraceContext, X_REQUEST_ID};
use crate::access_log::{AccessLogEntry, ResponseInfo};
use crate::config::RequestIds;
use crate::decision_feed::{CallerMark, LiveDecision};
use crate::policy::Route;
use crate::policy::cache_status::CacheOutcome;
use crate::policy::secret_parameters::mask_parameters;

/// The records of one request, from its arrival on. If it is dropped before [`RequestLog::record`], the client went away.
pub(super) struct RequestLog {
    started_at: Instant,
    shown: Option<Box<ShownRequest>>,
    entry: Option<AccessLogEntry>,
    span: Option<Arc<RequestSpan>>,
    request_id: Option<HeaderValue>,
    responds_id: bool,
    rate: Rate,
}

/// The request for those who watch: in larder's own log at the debug level, or by the feed of decisions.
struct ShownRequest {
    method: Method,
    uri: Uri,
    client: Option<IpAddr>,
    /// For the feed alone.
    caller: Option<CallerMark>,
}

/// Whether the request was charged to the `rate` of its route.
enum Rate {
    Uncharged,
    /// With the fields for the client, where the rate is enforced.
    Charged(Option<Box<RateFields>>),
}

impl RequestLog {
    pub(super) fn start(proxy: &Proxy, request: &Request<Incoming>, client: &Client) -> Self {
        let is_watched = proxy.decisions.is_watched();
        let shown = (is_watched || tracing::enabled!(Level::DEBUG)).then(|| {
            let mark = || proxy.decisions.mark_caller(&proxy.config.credentials, request.headers());
            let caller = is_watched.then(mark);
            let (method, uri) = (request.method().clone(), request.uri().clone());
            Box::new(ShownRequest { method, uri, client: client.peer, caller })
        });
        let span = proxy.telemetry.as_ref().and_then(|telemetry| {
            let remote = TraceContext::from_headers(request.headers()).map(TraceContext::as_remote);
            let span = telemetry.start_span(remote, proxy.clock.now())?;
            Some(Arc::new(RequestSpan::new(span, request)))
        });
        let log = proxy.access_log.as_ref();
        let mut entry = log.map(|log| log.start_entry(request, client.peer, proxy.clock.now()));
        let responds_id = proxy.config.request_id == RequestIds::Respond;
        let request_id =
            (entry.is_some() || responds_id).then(|| trace_context::request_id(request.headers()));
        if let Some(entry) = &mut entry {
            let trace_id = TraceContext::from_headers(request.headers()).and_then(TraceContext::id_as_value);
            entry.set_ids(request_id.clone(), trace_id);
        }
        Self {
            started_at: Instant::now(),
            shown,
            entry,
            span,
            request_id,
            responds_id,
            rate: Rate::Uncharged,
        }
    }

    /// Connects the accepted request with its records.
    pub(super) fn set_context(&mut self, head: &mut ClientHead) {
        self.request_id.iter().for_each(|id| head.set_request_id(id.clone()));
        head.span.clone_from(&self.span);
        if let Some(shown) = &mut self.shown {
            shown.client = head.client_ip.or(shown.client);
        }
        if let Some(entry) = &mut self.entry {
            entry.set_client(head.client_ip);
            head.upstream_time = entry.upstream_time();
        }
    }

    /// Names the route of a request that has to wait, in case its client leaves.
    pub(super) fn set_route(&mut self, route: &Route) {
        if let Some(entry) = &mut self.entry {
            entry.set_route(route.name.clone());
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started_at.elapsed()
    }

    /// Tells those who watch how the request is answered.
    pub(super) fn publish(
        &self,
        proxy: &Proxy,
        (route, status): (Option<&Route>, StatusCode),
        outcome: Option<CacheOutcome>,
    ) {
        let Some(shown) = self.shown.as_ref().filter(|_| proxy.decisions.is_watched()) else { return };
        let Some(caller) = &shown.caller else { return };
        proxy.decisions.publish(&LiveDecision {
            at: proxy.clock.now(),
            method: &shown.method,
            uri: &shown.uri,
            route: route.map(|route| &*route.name),
            status,
            outcome,
            client: shown.client,
            caller,
            took: self.elapsed(),
        });
    }

    /// Adds `X-Request-Id` to the response, where that is configured.
    pub(super) fn add_request_id(&self, headers: &mut HeaderMap) {
        if let Some(id) = self.request_id.as_ref().filter(|_| self.responds_id) {
            headers.insert(X_REQUEST_ID, id.clone());
        }
    }

    /// Records that the request was charged to the `rate` of its route.
    pub(super) fn set_charged(&mut self, fields: Option<RateFields>) {
        self.rate = Rate::Charged(fields.map(Box::new));
    }

    pub(super) fn is_charged(&self) -> bool {
        matches!(self.rate, Rate::Charged(_))
    }

    /// Adds the fields that tell the client its budget.
    pub(super) fn add_rate(&self, headers: &mut HeaderMap) {
        if let Rate::Charged(Some(fields)) = &self.rate {
            fields.add_to(headers);
        }
    }

    /// Records the response. The entry that is returned is complete when the body has been sent.
    pub(super) fn record(
        self,
        response: &Response<Body>,
        route: Option<&Arc<Route>>,
        outcome: Option<CacheOutcome>,
    ) -> Option<AccessLogEntry> {
        if let Some(ShownRequest { method, uri, .. }) = self.shown.as_deref() {
            // The last one is larder's own.
            let mut members = response.headers().get_all(CACHE_STATUS).iter();
            let cache = members.next_back().and_then(|status| status.to_str().ok());
            tracing::debug!(
                %method,
                uri = %mask_parameters(&uri.to_string()),
                status = response.status().as_u16(),
                cache,
                "request handled"
            );
        }
        if let Some(span) = &self.span {
            span.finish(response.status(), route.map(|route| &*route.name), outcome);
        }
        let mut entry = self.entry?;
        let route = route.map(|route| route.name.clone());
        entry.set_response(ResponseInfo { status: response.status(), route, outcome });
        Some(entry)
    }
}
