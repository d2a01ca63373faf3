//! Requests to the upstream: built from the client's, sent, counted and traced.

use http::header::{CONTENT_TYPE, EXPECT, IF_MATCH, IF_NONE_MATCH, RANGE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, uri};
use hyper::body::{Body as _, Incoming};

use super::body::Body;
use super::client_request::ClientHead;
use super::error::ProxyError;
use super::reply::set_reason;
use super::request_fields::judge_trailers;
use super::sender_budgets::sender_network;
use super::worker::Worker;
use super::{forwarding, interim, trace_context};
use crate::callers::CallerRequest;
use crate::clock::Moment;
use crate::metrics::Metrics;
use crate::policy::Route;
use crate::policy::caller::CallerVerdict;
use crate::policy::compression::{mark_as_sent, restore_tags};
use crate::policy::methods::is_safe;
use crate::policy::overlay_fields;
use crate::upstream::{ClientNetwork, CountCutResponses, RequestBody, UploadLimits, UpstreamBody};

/// Builds the upstream request for a client's: same method and path, and the fields that a proxy forwards.
pub(super) fn build(
    head: &ClientHead,
    headers: HeaderMap,
    query: Option<&str>,
    body: RequestBody,
) -> Box<Request<RequestBody>> {
    let mut request = Box::new(Request::new(body));
    let gate = request.body().continue_gate();
    let is_held_back = gate.is_some();
    interim::listen(&mut request, head.interims.clone(), gate);
    *request.method_mut() = head.parts.method.clone();
    *request.uri_mut() = target(query, &head.parts.uri);
    *request.headers_mut() = headers;
    forwarding::prepare_request(request.headers_mut(), head.parts.version, head.origin());
    if is_held_back {
        request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
    }
    trace_context::prepare_request(request.headers_mut(), head.forwarded_id());
    let is_write = !is_safe(&head.parts.method);
    // A range continues bytes that the upstream does not have: it answers 412.
    if is_write || !request.headers().contains_key(RANGE) {
        restore_tags(request.headers_mut(), IF_MATCH);
        overlay_fields::restore_tags(request.headers_mut(), IF_MATCH);
    }
    // [`restore_condition`] does it for safe ones that are passed.
    if is_write {
        restore_tags(request.headers_mut(), IF_NONE_MATCH);
        overlay_fields::restore_tags(request.headers_mut(), IF_NONE_MATCH);
    }
    request
}

/// The client's `If-None-Match`, whose marked tags the upstream does not know.
#[derive(Clone)]
struct SentCondition(HeaderMap);

/// Gives the upstream its own tags in the condition of a safe request that is passed. A 304 then has the client's.
pub(super) fn restore_condition(request: &mut Request<RequestBody>) {
    if !is_safe(request.method()) {
        return;
    }
    let lines = request.headers().get_all(IF_NONE_MATCH).iter().cloned();
    let sent: HeaderMap = lines.map(|line| (IF_NONE_MATCH, line)).collect();
    if restore_tags(request.headers_mut(), IF_NONE_MATCH).is_some() {
        request.extensions_mut().insert(SentCondition(sent));
    }
}

/// A content that is forwarded: what was read of it, or what arrives. It is held back where the upstream is to say whether
/// it wants it.
pub(super) fn body(
    worker: &Worker,
    head: &ClientHead,
    route: Option<&Route>,
    body: Option<Incoming>,
) -> RequestBody {
    if let Some(content) = &head.content {
        return RequestBody::from_content(content.clone());
    }
    let mut body = received_body(worker, head, body);
    let settings = &worker.proxy.config.upstream;
    let forwards = route.and_then(|route| route.forwards_expect).unwrap_or(settings.forwards_expect);
    if forwards && !settings.http2 && head.expects_continue() {
        body.wait_for_continue();
    }
    body
}

/// Bounds how slowly the client may send its content. A gRPC call may be quiet for as long as a tunnel.
pub(super) fn received_body(worker: &Worker, head: &ClientHead, body: Option<Incoming>) -> RequestBody {
    let has_content = |body: &Incoming| head.content_start.is_some() || !body.is_end_stream();
    let Some(body) = body.filter(has_content) else { return RequestBody::empty() };
    let limits = worker.limits();
    let is_grpc = || {
        let content_type = head.parts.headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
        content_type.is_some_and(|value| value.starts_with(b"application/grpc"))
    };
    let (timeout, min_rate) = match is_grpc() {
        true => (limits.tunnel_idle, 0),
        false => (limits.body_timeout, limits.min_rate),
    };
    let judge_trailer = judge_trailers(worker.proxy.config.underscores);
    let upload = UploadLimits { timeout, min_rate, judge_trailer, memory: worker.client_memory(head) };
    RequestBody::from_client(body, head.content_start.clone(), head.parts.version, upload)
}

/// Reads a small content whole, before anything is done for its request.
pub(super) async fn buffer_content(
    worker: &Worker,
    head: &ClientHead,
    content: &mut RequestBody,
) -> Result<(), ProxyError> {
    let buffered = worker.upstream.buffer_content(content, head.timeouts(&worker.proxy.config)).await;
    buffered.map_err(|error| {
        worker.proxy.metrics.record_upstream_failure(error.as_str());
        error.into()
    })
}

/// The client whose share of the connections the request uses. larder's own requests have none.
pub(super) fn network(head: &ClientHead) -> Option<ClientNetwork> {
    sender_network(head).map(ClientNetwork)
}

/// Sends the request, and records latency and failure.
pub(super) async fn send(
    worker: &Worker,
    mut request: Box<Request<RequestBody>>,
    head: &ClientHead,
) -> Result<Response<UpstreamBody>, ProxyError> {
    let proxy = &worker.proxy;
    let span = head.span.as_ref().map(|span| span.start_upstream(&mut request, proxy.clock.now()));
    let condition = request.extensions_mut().remove::<SentCondition>();
    if let Some(client) = network(head) {
        request.extensions_mut().insert(client);
    }
    // A request that is passed on takes its fields with it.
    let is_taken = head.parts.headers.is_empty() && !proxy.callers.is_empty();
    let taken = is_taken.then(|| request.headers().clone());
    // A client that sends slowly is not the upstream's fault.
    let wait = (!request.body().is_streamed()).then(|| proxy.metrics.start_upstream_wait(Moment::now()));
    let progress = request.body().progress();
    let started = tokio::time::Instant::now();
    let result = worker.upstream.send(request, head.timeouts(&proxy.config)).await;
    let duration = started.elapsed();
    drop(wait);
    head.upstream_time.iter().for_each(|time| time.add(duration));
    if let Some(span) = span {
        span.end(result.as_ref().map(Response::status));
    }
    match result {
        Ok(mut response) => {
            proxy.metrics.record_upstream_response(response.status(), duration, Moment::now());
            response.body_mut().count_cut_by(proxy.metrics.clone(), progress);
            if response.status() == StatusCode::UNAUTHORIZED {
                let known = head.caller_of_entry().filter(|(_, it)| matches!(it, CallerVerdict::Known(_)));
                let asked = head.as_asked();
                let asked = CallerRequest { headers: taken.as_ref().unwrap_or(asked.headers), ..asked };
                proxy.callers.leave_to_upstream(known.map(|(entry, _)| entry), asked);
            }
            if let Some(SentCondition(sent)) =
                condition.filter(|_| response.status() == StatusCode::NOT_MODIFIED)
            {
                mark_as_sent(response.headers_mut(), &sent);
            }
            Ok(response)
        }
        Err(error) => {
            proxy.metrics.record_upstream_failure(error.as_str());
            let (method, path, request_id) = (&head.parts.method, head.parts.uri.path(), head.request_id());
            tracing::warn!(%error, %method, path, ?request_id, "upstream request failed");
            Err(error.into())
        }
    }
}

impl CountCutResponses for Metrics {
    fn count_cut_response(&self, reason: &'static str) {
        self.record_upstream_failure(reason);
    }
}

/// The upstream's response as it goes on to the client.
pub(super) fn client_response(response: Response<UpstreamBody>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    forwarding::prepare_response(&mut parts.headers, parts.version);
    let mut response = Response::new(Body::Upstream(body));
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    set_reason(&mut response, parts.extensions.remove());
    response
}

/// Path and query go out byte for byte. The upstream client fills in the authority.
fn target(query: Option<&str>, original: &Uri) -> Uri {
    let mut parts = uri::Parts::default();
    let as_received = original.path_and_query().cloned();
    parts.path_and_query = if original.authority().is_none() && query == original.query() {
        as_received
    } else {
        let path_and_query = match query {
            Some(query) => format!("{}?{query}", original.path()).try_into(),
            None => original.path().try_into(),
        };
        // A selected query consists of parts of a valid one, so this does not fail.
        path_and_query.ok().or(as_received)
    };
    Uri::from_parts(parts).unwrap_or_default()
}
