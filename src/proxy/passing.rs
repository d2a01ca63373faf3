//! A request that goes to the upstream as it is, and its answer straight back; nothing is stored or shared.

use std::sync::Arc;

use http::header::UPGRADE;
use http::{HeaderMap, Request, Response, StatusCode};

use super::body::Body;
use super::error::ProxyError;
use super::intake::{ClientHead, ClientRequest};
use super::{Answer, Worker, forwarding, identity, tunnel};
use crate::policy::Route;
use crate::policy::cache_status::Outcome;
use crate::upstream::{RequestBody, UpstreamBody};

impl Worker {
    pub(super) async fn pass(
        &self,
        mut request: Box<ClientRequest>,
        route: Option<&Arc<Route>>,
        outcome: Outcome,
    ) -> Answer {
        let ClientRequest { head, body } = &mut *request;
        let client_upgrade = head.wants_upgrade().then(|| tunnel::client_side(head)).flatten();
        let body = RequestBody::from_client(body.take(), head.parts.version, self.limits().body_timeout);
        let protocol = client_upgrade.as_ref().and_then(|_| head.parts.headers.get(UPGRADE).cloned());
        // Its name is learnt before its fields go: nobody asks for anything else of them after this.
        head.request_id();
        let headers = std::mem::take(&mut head.parts.headers);
        let mut forwarded = upstream_request(head, headers, head.parts.uri.query(), body);
        if let Some(protocol) = &protocol {
            forwarding::keep_upgrade(forwarded.headers_mut(), protocol);
        }
        match self.send(forwarded, head).await {
            Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => match client_upgrade {
                Some(client) => {
                    let idle = self.limits().tunnel_idle;
                    Answer::new(tunnel::open(client, response, idle), None, route)
                }
                None => Answer::own(&ProxyError::Interrupted, route),
            },
            Ok(response) => Answer::new(to_client(response), Some(outcome), route),
            Err(error) => Answer::own(&error, route),
        }
    }

    /// Sends to the upstream, and counts how that went.
    pub(super) async fn send(
        &self,
        mut request: Box<Request<RequestBody>>,
        head: &ClientHead,
    ) -> Result<Response<UpstreamBody>, ProxyError> {
        let span = head.span.as_ref().map(|span| span.of_upstream(&mut request, self.proxy.clock.now()));
        let started = tokio::time::Instant::now();
        let result = self.upstream.send(request).await;
        let took = started.elapsed();
        head.upstream_time.iter().for_each(|time| time.took(took));
        if let Some(span) = span {
            span.end(result.as_ref().map(Response::status));
        }
        match result {
            Ok(response) => {
                self.proxy.metrics.upstream(took);
                Ok(response)
            }
            Err(error) => {
                self.proxy.metrics.upstream_failed(error.as_str());
                let ClientHead { parts, .. } = head;
                let (method, path, request_id) = (&parts.method, parts.uri.path(), head.request_id());
                tracing::warn!(%error, %method, path, ?request_id, "the upstream failed");
                Err(error.into())
            }
        }
    }
}

/// The upstream's answer as it goes on to the client.
pub(super) fn to_client(response: Response<UpstreamBody>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    forwarding::to_client(&mut parts.headers, parts.version);
    let mut response = Response::new(Body::Upstream(body));
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    response
}

/// larder's request for what the client asks: same method and path, of its fields those that cross a proxy.
pub(super) fn upstream_request(
    head: &ClientHead,
    headers: HeaderMap,
    query: Option<&str>,
    body: RequestBody,
) -> Box<Request<RequestBody>> {
    let mut request = Box::new(Request::new(body));
    if let Some(interims) = &head.interims {
        interims.listen(&mut request);
    }
    *request.method_mut() = head.parts.method.clone();
    *request.uri_mut() = target(query, &head.parts.uri);
    *request.headers_mut() = headers;
    forwarding::to_upstream(request.headers_mut(), head.parts.version, head.origin());
    identity::to_upstream(request.headers_mut(), head.forwarded_id());
    request
}

/// Path and query go out byte for byte; the upstream's address is filled in by the client.
fn target(query: Option<&str>, original: &http::Uri) -> http::Uri {
    let mut parts = http::uri::Parts::default();
    let as_it_came = original.path_and_query().cloned();
    parts.path_and_query = if original.authority().is_none() && query == original.query() {
        as_it_came
    } else {
        let path_and_query = match query {
            Some(query) => format!("{}?{query}", original.path()).try_into(),
            None => original.path().try_into(),
        };
        // A selected query is made of parts of a valid one; should that ever fail, what the client sent is sent on.
        path_and_query.ok().or(as_it_came)
    };
    http::Uri::from_parts(parts).unwrap_or_default()
}
