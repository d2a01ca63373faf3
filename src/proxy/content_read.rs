//! Reads by QUERY and POST (RFC 10008): their content is a part of the key, so it is read before the lookup.

use http::Method;
use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use hyper::body::Body as _;

use super::client_request::ClientRequest;
use super::error::ProxyError;
use super::upstream_request;
use super::worker::Worker;
use crate::policy::classify::PassReason;
use crate::policy::content_key::MAX_KEY_CONTENT_BYTES;
use crate::upstream::UpstreamError;

/// Reads the content into the head. `Some`: the request is to be forwarded for this reason, with what was read.
///
/// # Errors
/// If the client does not send all of it.
pub(super) async fn read_content(
    worker: &Worker,
    request: &mut ClientRequest,
) -> Result<Option<PassReason>, ProxyError> {
    let length = request.body.as_ref().map_or(Some(0), |body| body.size_hint().exact());
    let is_readable = |length: u64| {
        length <= MAX_KEY_CONTENT_BYTES && worker.client_memory(&request.head).has_room_for(length)
    };
    if !length.is_some_and(is_readable) {
        return Ok(Some(PassReason::Content));
    }
    let mut body = upstream_request::received_body(worker, &request.head, request.body.take());
    body.read_whole(|_| Ok(()), worker.limits().body_timeout).await.map_err(|error| {
        tracing::debug!(%error, "request body for a lookup by content not received");
        ProxyError::from(UpstreamError::from(error))
    })?;
    let head = &mut request.head;
    head.content = Some(body.into_content());
    // RFC 9110 §13.2.1: such a condition makes a POST fail, which is for the upstream to say.
    if head.parts.method == Method::POST
        && [IF_NONE_MATCH, IF_MODIFIED_SINCE].iter().any(|name| head.has(name))
    {
        return Ok(Some(PassReason::Precondition));
    }
    // RFC 9110 §14.2: ranges are of GET.
    for name in [RANGE, IF_RANGE] {
        head.parts.headers.remove(name);
    }
    Ok(None)
}
