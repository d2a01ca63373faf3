//! Failures in the middle of a request's or a response's body.

use std::error::Error;
use std::io;

use http::Version;
use http_body::Body as _;
use hyper::body::Incoming;

use super::UpstreamError;
use super::error_kind::classify_error;

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
    /// The request breaks the rules of HTTP, or those of the configuration, after its head.
    #[error("bad request: {0}")]
    RequestMalformed(&'static str),
    #[error("the client's content is larger than larder reads")]
    RequestTooLarge,
    #[error("there is no memory for the client's content")]
    NoMemory,
    #[error("the client reset its request")]
    RequestReset,
    #[error("the client sent its request more slowly than `limits.body_timeout` and `limits.min_rate` allow")]
    RequestStalled,
    /// The content goes on in another attempt.
    #[error("the request is sent again")]
    Superseded,
    #[error("the end of the request was not sent, because its purge intent was not recorded")]
    EndWithheld,
    #[error("the response could not be compressed: {0}")]
    Coding(#[source] std::io::Error),
    #[error("the client read nothing of the response while other requests waited for a connection")]
    ReaderStalled,
}

impl BodyError {
    /// The upstream's failure in the middle of its response, as the one that it would be before the head; `None` if it is
    /// not the upstream's.
    pub(super) fn upstream_fault(&self) -> Option<UpstreamError> {
        match self {
            BodyError::Stalled => Some(UpstreamError::Timeout),
            BodyError::Reset => Some(UpstreamError::Reset(h2::Reason::NO_ERROR)),
            BodyError::Cut(error) if is_malformed(error) => Some(UpstreamError::Invalid(error.to_string())),
            BodyError::Cut(error) => Some(classify_error(error)),
            _ => None,
        }
    }

    /// Classifies the parser's error in a client's content. It says so if the framing or a trailer can't be read (RFC 9112
    /// §7.1); every other error is the end of the connection.
    pub(super) fn from_client(error: hyper::Error) -> Self {
        match is_malformed(&error) {
            true => BodyError::RequestMalformed("malformed chunked content"),
            false => BodyError::RequestCut(error),
        }
    }
}

/// Whether the framing or a trailer can't be read.
fn is_malformed(error: &hyper::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput};
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| matches!(cause.kind(), InvalidData | InvalidInput))
}

/// The error of a request whose content was to be read before any of it is forwarded.
impl From<BodyError> for UpstreamError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::RequestMalformed(fault) => UpstreamError::RequestMalformed { fault, is_sent: false },
            _ => UpstreamError::RequestIncomplete,
        }
    }
}

/// Detects a reset that hyper reports as the end of a body. Only END_STREAM ends one (RFC 9113 §8.1).
pub(super) fn is_stream_reset(incoming: &Incoming, version: Version) -> bool {
    version == Version::HTTP_2 && !incoming.is_end_stream()
}
