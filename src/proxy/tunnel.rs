//! `Upgrade` (RFC 9110 §7.8): once both sides agreed, bytes go both ways until one side ends.

use http::header::UPGRADE;
use http::{HeaderMap, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use super::body::Body;
use super::forwarding;
use super::intake::ClientHead;
use crate::upstream::UpstreamBody;

/// The client's side of a connection that may become a tunnel.
pub(super) fn client_side(head: &mut ClientHead) -> Option<OnUpgrade> {
    head.parts.extensions.remove::<OnUpgrade>()
}

/// Answers 101, and joins the two sides as soon as both have switched.
pub(super) fn open(client: OnUpgrade, mut response: Response<UpstreamBody>) -> Response<Body> {
    let slot = response.body_mut().take_slot();
    let upstream = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        if let (Ok(client), Ok(upstream)) = (client.await, upstream.await) {
            let joined = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(upstream)).await;
            tracing::debug!(?joined, "a tunnel ended");
        }
        drop(slot);
    });
    let (parts, _) = response.into_parts();
    let mut switched = Response::new(Body::empty());
    *switched.status_mut() = parts.status;
    *switched.headers_mut() = end_to_end(parts.headers);
    switched
}

fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let protocol = headers.get(UPGRADE).cloned();
    forwarding::remove_hop_by_hop(&mut headers);
    if let Some(protocol) = protocol {
        forwarding::keep_upgrade(&mut headers, &protocol);
    }
    headers
}
