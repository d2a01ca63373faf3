//! The request of a fetch to the upstream, conditional where a stored response can be validated.

use std::sync::Arc;

use http::header::{
    ACCEPT_ENCODING, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};
use http::{HeaderMap, Method, Response, StatusCode};
use hyper::ext::ReasonPhrase;

use super::super::body::Body;
use super::super::client_request::ClientHead;
use super::super::compressed_body::CompressedBody;
use super::super::error::ProxyError;
use super::super::lookup::{StaleResponse, caller_kind};
use super::super::refresh_failures::RefreshFailure;
use super::super::requester::CallerKind;
use super::super::state::Proxy;
use super::super::unsent_bytes::UnsentBytes;
use super::super::worker::Worker;
use super::super::{forwarding, reply, upstream_request};
use crate::memory_budget::ClientMemory;
use crate::policy::accept_encoding::remove_refused_codings;
use crate::policy::caller::CallerVerdict;
use crate::policy::classify::{CacheLookup, Caller};
use crate::policy::compression::{compress_response, mark_tag, restore_tags};
use crate::policy::content;
use crate::policy::freshness::ExchangeTimes;
use crate::policy::freshness::clock_lag;
use crate::policy::no_vary_search::LookupQuery;
use crate::policy::query::QueryRule;
use crate::policy::response_admission::RequestContext;
use crate::policy::route::RouteMode;
use crate::policy::validation::{ValidationResult, build_conditional_fields, evaluate_validation};
use crate::policy::{CacheKey, RequestHead, Route, VaryFields};
use crate::store::FetchToken;
use crate::stored_response::StoredEntry;
use crate::upstream::{RequestBody, StorableFetch, StrayContent, UpstreamError};

pub(in crate::proxy) struct FetchTarget {
    pub worker: Worker,
    pub head: Arc<ClientHead>,
    pub route: Arc<Route>,
    pub caller: Caller,
    pub query: LookupQuery,
    /// The key of the request, whatever the variant.
    pub primary: CacheKey,
    pub cost_bearer: CostBearer,
}

/// Whose budgets a fetch counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum CostBearer {
    /// The client that waits for it.
    Client,
    /// larder: nobody waits for it.
    Larder,
}

impl CostBearer {
    /// The bearer of a fetch that answers the request itself.
    pub(in crate::proxy) fn for_request(head: &ClientHead) -> Self {
        if head.refresh.is_none() { Self::Client } else { Self::Larder }
    }
}

/// The upstream's response, with its end-to-end fields.
pub(in crate::proxy) struct UpstreamResponse {
    pub status: StatusCode,
    /// A reason phrase other than the standard one. It is not stored.
    pub reason: Option<ReasonPhrase>,
    pub headers: HeaderMap,
    pub body: Body,
    pub times: ExchangeTimes,
    /// A 204 with content.
    pub has_stray_content: bool,
}

/// The upstream's answer to a fetch.
pub(super) enum Fetched {
    Response(UpstreamResponse),
    /// 304: the stored response is still good. `strong`: by a strong validator.
    NotModified {
        update: UpstreamResponse,
        stale: StaleResponse,
        strong: bool,
    },
}

impl FetchTarget {
    pub(in crate::proxy) fn new(
        worker: &Worker,
        head: &Arc<ClientHead>,
        lookup: &CacheLookup<'_>,
        cost_bearer: CostBearer,
    ) -> Self {
        Self {
            worker: worker.clone(),
            head: head.clone(),
            route: lookup.route.clone(),
            caller: lookup.caller,
            query: lookup.query.clone(),
            primary: lookup.key,
            cost_bearer,
        }
    }

    /// A fetch that begins now.
    pub(super) fn begin_fetch(&self, key: &CacheKey) -> FetchToken {
        let token = self.proxy().store.begin_fetch(key);
        token.settled(self.route.settle).with_encryption(self.route.encrypt)
    }

    /// The kind of caller on whose behalf it fetches.
    pub(super) fn caller_kind(&self) -> CallerKind {
        caller_kind(&self.route, &self.head, &self.proxy().config.credentials)
    }

    /// The most recent `Vary` of the responses that are stored for this key, unless it has a field of `ignore_vary`: then
    /// it is from before the route had that.
    pub(super) fn known_vary(&self) -> Option<VaryFields> {
        let is_current =
            |fields: &&VaryFields| fields.names().iter().all(|name| !self.route.ignore_vary.contains(name));
        match self.proxy().store.get_local(&self.primary)?.stored {
            StoredEntry::Variants(variants) => variants.fields.first().filter(is_current).cloned(),
            StoredEntry::Response(_) => None,
        }
    }

    pub(super) fn proxy(&self) -> &Proxy {
        &self.worker.proxy
    }

    /// The budget of the client that the fetch is for.
    pub(super) fn unsent_bytes(&self) -> Option<UnsentBytes> {
        match self.cost_bearer {
            CostBearer::Client => UnsentBytes::new(&self.worker, &self.head),
            CostBearer::Larder => None,
        }
    }

    /// The memory that the fetch may use. One in the background counts for larder itself.
    pub(super) fn memory(&self) -> ClientMemory {
        match self.cost_bearer {
            CostBearer::Client => self.worker.client_memory(&self.head),
            CostBearer::Larder => self.worker.memory().open_account(None),
        }
    }

    /// The request as policy sees it. A HEAD that sets off a fetch is a GET here.
    pub(super) fn request(&self) -> RequestHead<'_> {
        fetched_request(&self.head, &self.query)
    }

    pub(super) fn context<'a>(&'a self, request: &'a RequestHead<'a>) -> RequestContext<'a> {
        RequestContext { route: &self.route, caller: self.caller, primary: &self.primary, request }
    }

    fn notice_left_out(&self) {
        let rule = &self.route.query;
        if let QueryRule::Only(_) = rule {
            for name in rule.left_out(self.head.parts.uri.query()) {
                if let Some(listed) = rule.listed_name(&name) {
                    self.proxy().first_notices.record_left_out(&self.route, &name, listed);
                }
            }
        }
    }

    /// Asks the upstream, with the condition of the stored response if that can be validated (RFC 9111 §4.3).
    pub(super) async fn fetch(&self, stale: Option<&StaleResponse>) -> Result<Fetched, ProxyError> {
        self.notice_left_out();
        // A POST has no conditions that a 304 could answer (RFC 9110 §13.2.1).
        let Some(stale) = stale.filter(|_| self.head.parts.method != Method::POST) else {
            return self.send_unconditional().await;
        };
        let condition = build_conditional_fields(&stale.response.head);
        // A soft-purged response is freshened only if its content is known to be the present one.
        if condition.is_empty() || (stale.soft_purged.is_some() && !condition.contains_key(IF_NONE_MATCH)) {
            return self.send_unconditional().await;
        }
        let response = self.send(condition).await?;
        match evaluate_validation(&stale.response.head, response.status, &response.headers) {
            // It may have expired while the upstream was asked.
            ValidationResult::Freshened { strong }
                if stale.is_usable(response.times.received_at) && (strong || stale.soft_purged.is_none()) =>
            {
                Ok(Fetched::NotModified { update: response, stale: stale.clone(), strong })
            }
            ValidationResult::Freshened { .. } | ValidationResult::Mismatch => {
                self.send_unconditional().await
            }
            ValidationResult::Replaced | ValidationResult::Failed => Ok(Fetched::Response(response)),
        }
    }

    /// Whether the caller is still the one that the request was looked up for. A service's verdict is remembered for a
    /// while; meanwhile the session may have ended or become somebody else's, and the upstream answers for whoever it is by
    /// then. So the service is asked again *after* the response: if it names the same caller before and after, the response
    /// is that caller's.
    pub(super) async fn has_same_caller(&self) -> bool {
        let (head, callers) = (&self.head, &self.proxy().callers);
        let Some(source) = self.route.callers.as_ref().filter(|source| !source.has_claims) else {
            return true;
        };
        let Some(before @ CallerVerdict::Known(_)) = head.find_caller(source) else { return true };
        callers.forget(source, head.as_asked());
        callers.ask(source, head.as_asked()).await == *before
    }

    /// The response to the present caller. Two callers' responses at one URL may have the same validator, so that a 304
    /// says nothing.
    pub(super) async fn without_validation(&self, fetched: Fetched) -> Result<UpstreamResponse, ProxyError> {
        match fetched {
            Fetched::Response(response) => Ok(response),
            Fetched::NotModified { .. } => self.send(HeaderMap::new()).await,
        }
    }

    /// Asks without a condition: a 304 would say nothing then.
    async fn send_unconditional(&self) -> Result<Fetched, ProxyError> {
        let response = self.send(HeaderMap::new()).await?;
        match response.status {
            StatusCode::NOT_MODIFIED => Err(UpstreamError::Invalid("304 unasked".into()).into()),
            _ => Ok(Fetched::Response(response)),
        }
    }

    /// Asks without a condition, for an answer that is not stored.
    pub(in crate::proxy) async fn ask(&self) -> Result<UpstreamResponse, ProxyError> {
        self.send(HeaderMap::new()).await
    }

    async fn send(&self, mut condition: HeaderMap) -> Result<UpstreamResponse, ProxyError> {
        let headers = self.head.parts.headers.clone();
        let query = self.query.sent();
        let content = self.head.content.clone();
        let body = content.clone().map_or_else(RequestBody::empty, RequestBody::from_content);
        let mut request = upstream_request::build(&self.head, headers, query, body);
        request.extensions_mut().insert(StorableFetch);
        if content.is_none() {
            *request.method_mut() = Method::GET;
        }
        for name in [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE] {
            request.headers_mut().remove(name);
        }
        let marked = restore_tags(&mut condition, IF_NONE_MATCH);
        request.headers_mut().extend(condition);
        if let Some(accepted) = remove_refused_codings(request.headers()) {
            request.headers_mut().insert(ACCEPT_ENCODING, accepted);
        }
        if self.route.reads_content()
            && self.route.mode == RouteMode::On
            && let Some(coding) = content::restrict_accept_encoding(request.headers())
        {
            request.headers_mut().insert(ACCEPT_ENCODING, coding);
        }
        let requested_at = self.proxy().clock.now();
        let (mut parts, body) = upstream_request::send(&self.worker, request, &self.head).await?.into_parts();
        let times = ExchangeTimes { requested_at, received_at: self.proxy().clock.now() };
        if let Some(lag) = clock_lag(&parts.headers, times.received_at) {
            self.proxy().metrics.record_upstream_clock_lag(lag);
        }
        forwarding::prepare_response(&mut parts.headers, parts.version);
        if let Some(coding) = marked.filter(|_| parts.status == StatusCode::NOT_MODIFIED) {
            mark_tag(&mut parts.headers, coding);
        }
        let accepted = &self.head.parts.headers;
        let memory = self.worker.memory();
        let fields = &mut parts.headers;
        let body = match compress_response(&self.route, accepted, parts.status, fields, memory.has_room()) {
            Some(coding) => Body::Compressed(Box::new(CompressedBody::new(body, coding, memory))),
            None => Body::Upstream(body),
        };
        let has_stray_content = parts.extensions.get::<StrayContent>().is_some();
        let reason = parts.extensions.remove();
        let (status, headers) = (parts.status, parts.headers);
        Ok(UpstreamResponse { status, reason, headers, body, times, has_stray_content })
    }
}

/// How the upstream failed, if it did, when a fetch was to replace a stale response.
pub(super) fn refresh_failure(fetched: &Result<Fetched, ProxyError>) -> Option<RefreshFailure> {
    match fetched {
        Ok(Fetched::Response(response)) if response.status.is_server_error() => Some(RefreshFailure::Error),
        Ok(_) => None,
        Err(ProxyError::Upstream(UpstreamError::Timeout)) => Some(RefreshFailure::Timeout),
        Err(_) => Some(RefreshFailure::Error),
    }
}

/// The request that goes to the upstream, as policy sees it.
pub(super) fn fetched_request<'a>(head: &'a ClientHead, query: &'a LookupQuery) -> RequestHead<'a> {
    let request = RequestHead { method: &Method::GET, ..head.as_policy() };
    match query.is_simplified() {
        true => RequestHead { query: query.sent(), ..request },
        false => request,
    }
}

impl UpstreamResponse {
    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = reply::with_body(self.status, self.headers, self.body);
        reply::set_reason(&mut response, self.reason);
        response
    }
}
