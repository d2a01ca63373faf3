//! Classifies a failed exchange, and whether the request may be sent again.

use std::error::Error;
use std::io;

use http::Request;

use super::UpstreamError;
use super::error_kind::{classify_error, root_cause};
use super::request_body::RequestBody;
use super::request_progress::RequestProgress;

pub(super) struct SendFailure {
    pub error: UpstreamError,
    /// The request was the first on its connection.
    pub is_new_connection: bool,
    /// The upstream closed a reused connection without a byte of a response to this request.
    pub is_stale_connection: bool,
    /// The upstream said that it did not process the request (RFC 9113 §8.7).
    pub is_unprocessed: bool,
    /// The request, if no byte of it was sent.
    pub unsent: Option<Box<Request<RequestBody>>>,
}

impl SendFailure {
    pub(super) fn new(error: UpstreamError) -> Self {
        let (is_new_connection, is_stale_connection, is_unprocessed) = (false, false, false);
        Self { error, is_new_connection, is_stale_connection, is_unprocessed, unsent: None }
    }

    /// No connection could be made for this request.
    pub(super) fn unreachable(error: &(dyn Error + 'static), unsent: Box<Request<RequestBody>>) -> Self {
        let is_ours = std::iter::successors(Some(error), |&error| error.source()).any(is_local_exhaustion);
        match is_ours {
            true => Self::new(UpstreamError::Busy),
            false => {
                let error = UpstreamError::Unreachable(root_cause(error));
                Self { unsent: Some(unsent), ..Self::new(error) }
            }
        }
    }

    /// Returns whether the connection or the stream ended before the response came.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.error, UpstreamError::Closed | UpstreamError::Reset(_))
    }

    /// Classifies an error of hyper, or one that it caused. `may_be_stale`: the connection had been idle, so that the
    /// upstream may have closed it before it saw the request.
    pub(super) fn classify(
        error: &(dyn Error + 'static),
        may_be_stale: bool,
        progress: &RequestProgress,
    ) -> Self {
        if !progress.is_complete() && progress.is_cut() {
            return Self::new(progress.cut_error());
        }
        let causes = || std::iter::successors(Some(error), |&error| error.source());
        let is_unprocessed = causes().filter_map(|error| error.downcast_ref()).any(says_unprocessed);
        let error = classify_error(error);
        let is_stale_connection = may_be_stale && error == UpstreamError::Closed;
        Self { is_stale_connection, is_unprocessed, ..Self::new(error) }
    }
}

/// The text for a stream that the upstream has reset, with the reason's name.
pub(super) fn describe_reset(reason: h2::Reason) -> String {
    let advice = match reason {
        h2::Reason::HTTP_1_1_REQUIRED => "; it wants HTTP/1.1: remove `http2` under `upstream`",
        _ => "",
    };
    format!("the upstream reset the HTTP/2 stream of the request: {reason:?}{advice}")
}

/// The advice on a TLS alert.
pub(super) fn advice_on_alert(alert: &str) -> &'static str {
    match alert {
        "CertificateRequired" => "; set `cert` and `key` under `upstream.tls`",
        "BadCertificate"
        | "UnknownCA"
        | "CertificateUnknown"
        | "CertificateExpired"
        | "UnsupportedCertificate" => "; it does not accept the certificate of `upstream.tls`",
        _ => "",
    }
}

/// Returns whether the stream was refused, or lies above the last one that GOAWAY names.
fn says_unprocessed(error: &h2::Error) -> bool {
    error.is_remote()
        && (error.is_go_away() || (error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM)))
}

/// ENFILE and EMFILE. `io::ErrorKind` has no name for them.
const OUT_OF_FDS: [i32; 2] = [23, 24];

/// This machine is out of ports or file descriptors. The upstream has not failed.
fn is_local_exhaustion(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| {
        matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory)
            || error.raw_os_error().is_some_and(|error| OUT_OF_FDS.contains(&error))
    })
}
