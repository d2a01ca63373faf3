//! Failures in the middle of a request's or a response's body.

use http::Version;
use http_body::Body as _;
use hyper::body::Incoming;

/// A failure in the middle of a body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the upstream stopped sending in the middle of its response")]
    Stalled,
    #[error("the upstream's response was cut short: {0}")]
    Cut(#[source] hyper::Error),
    #[error("the upstream reset its response")]
    Reset,
    #[error("the client stopped sending in the middle of its request: {0}")]
    RequestCut(#[source] hyper::Error),
    #[error("the client reset its request")]
    RequestReset,
    #[error("the client sent its request more slowly than `limits.body_timeout` and `limits.min_rate` allow")]
    RequestStalled,
    #[error("the response could not be compressed: {0}")]
    Coding(#[source] std::io::Error),
    #[error("the client read nothing of the response while other requests waited for a connection")]
    ReaderStalled,
}

/// Detects a reset that hyper reports as the end of a body. Only END_STREAM ends one (RFC 9113 §8.1).
pub(super) fn is_stream_reset(incoming: &Incoming, version: Version) -> bool {
    version == Version::HTTP_2 && !incoming.is_end_stream()
}
