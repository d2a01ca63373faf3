//! Passes a request to the upstream and its response back: nothing is stored or shared.

use std::sync::Arc;

use http::StatusCode;

use super::answer::Answer;
use super::client_request::ClientRequest;
use super::error::ProxyError;
use super::tunnel::{ClientUpgrade, TunnelLimits};
use super::worker::Worker;
use super::{max_forwards, tunnel, upstream_request};
use crate::metrics::NonCacheReply;
use crate::policy::Route;
use crate::policy::cache_status::CacheOutcome;

pub(super) async fn pass(
    worker: &Worker,
    mut request: Box<ClientRequest>,
    route: Option<&Arc<Route>>,
    outcome: CacheOutcome,
) -> Answer {
    let ClientRequest { head, body } = &mut *request;
    if let Some(response) = max_forwards::count_down(&head.parts.method, &mut head.parts.headers) {
        return Answer::without_cache(response, NonCacheReply::Error, route);
    }
    let upgrade = ClientUpgrade::take(head);
    let body = upstream_request::body(worker, head, route.map(Arc::as_ref), body.take());
    // Read the request id before the fields are moved; nothing else of them is needed later.
    head.request_id();
    let headers = std::mem::take(&mut head.parts.headers);
    let mut forwarded = upstream_request::build(head, headers, head.parts.uri.query(), body);
    upstream_request::restore_condition(&mut forwarded);
    if let Some(upgrade) = &upgrade {
        upgrade.add_fields(forwarded.headers_mut());
    }
    match upstream_request::send(worker, forwarded, head).await {
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => match upgrade {
            Some(upgrade) => {
                let response = tunnel::open(upgrade, response, TunnelLimits::new(worker));
                Answer::without_cache(response, NonCacheReply::Tunnel, route)
            }
            None => Answer::from_error(&ProxyError::Interrupted, route),
        },
        Ok(response) => Answer::new(upstream_request::client_response(response), outcome, route),
        Err(error) => Answer::from_error(&error, route),
    }
}
