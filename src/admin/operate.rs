//! Operations at paths of the API (`admin_at`): the endpoints of this listener for callers whom the API has let in.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::header::ACCEPT;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use super::response::{AdminError, AdminResponse, json as json_response};
use super::{AdminState, Endpoint, Peer, respond, shared_stats};
use crate::config::Operation;

/// Answers an operation of a caller at this address.
pub(crate) async fn operate(
    state: &AdminState,
    operation: Operation,
    from: Option<IpAddr>,
    request: Request<Bytes>,
) -> Response<Bytes> {
    let answer = match &operation {
        Operation::Stats => operator_stats(state).await,
        _ => forward(state, &operation, from, request).await.unwrap_or_else(AdminError::into_response),
    };
    let (head, content) = answer.into_parts();
    let content =
        content.collect().await.map(|content| content.to_bytes()).unwrap_or_else(|never| match never {});
    Response::from_parts(head, content)
}

/// Hands the request to the endpoint that does the same.
async fn forward(
    state: &AdminState,
    operation: &Operation,
    from: Option<IpAddr>,
    request: Request<Bytes>,
) -> Result<AdminResponse, AdminError> {
    let (mut head, content) = request.into_parts();
    // The answer is sent as a whole.
    head.headers.remove(ACCEPT);
    let endpoint = match operation {
        Operation::Stats => Endpoint::Stats,
        Operation::Clear if content.is_empty() => Endpoint::PurgeEverything,
        Operation::Clear => Endpoint::Purge,
        Operation::Invalidate(tag) => Endpoint::PurgeTag(tag),
        Operation::Warm => Endpoint::Warm,
        Operation::Refresh => Endpoint::Refresh,
    };
    let peer = from.map_or(Peer::Unix, |address| Peer::Tcp(SocketAddr::new(address, 0)));
    respond(state, endpoint, peer, &head, Full::new(content)).await
}

/// The counters of all replicas, of this one alone while Redis can't be reached. Memory and keys are those of Redis where
/// it is used.
async fn operator_stats(state: &AdminState) -> AdminResponse {
    let own = state.stats_value();
    let mut stats = match state.store.stats_reports().await {
        Ok(reports) => shared_stats::add_reports(own, &reports),
        Err(_) => own,
    };
    for figure in ["memoryUsed", "keyCount"] {
        if let Some(shared) = stats["store"][figure].as_u64() {
            stats["stats"][figure] = shared.into();
        }
    }
    if stats["status"] == "ok" {
        stats["status"] = "healthy".into();
    }
    let purges = state.metrics.snapshot().purges;
    let by_source = purges.iter().map(|(source, counts)| (source.as_str().to_owned(), json!(counts.purges)));
    stats["invalidations"] = Value::Object(by_source.collect());
    json_response(StatusCode::OK, &stats)
}
