//! The kind of an error of hyper, whatever the request has to do with it.

use std::error::Error;
use std::io;

use super::UpstreamError;

/// Classifies an error of hyper, or one that it caused.
pub(super) fn classify_error(error: &(dyn Error + 'static)) -> UpstreamError {
    let causes = || std::iter::successors(Some(error), |&error| error.source());
    match causes().find_map(|error| error.downcast_ref::<hyper::Error>()) {
        Some(error) if error.is_parse_too_large() => UpstreamError::HeaderTooLarge,
        Some(parse) if parse.is_parse() => UpstreamError::Invalid(root_cause(error)),
        _ => causes().find_map(classify_cause).unwrap_or(UpstreamError::Closed),
    }
}

/// An error of HTTP/2 or TLS that is more than the end of the connection.
fn classify_cause(error: &(dyn Error + 'static)) -> Option<UpstreamError> {
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        let reason = error.reason()?;
        return match error.is_remote() {
            true => error.is_reset().then_some(UpstreamError::Reset(reason)),
            // Larder's side does not accept what came.
            false => Some(UpstreamError::Invalid(describe_protocol_error(reason))),
        };
    }
    let alert = error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>()?;
    match alert {
        rustls::Error::AlertReceived(alert) => Some(UpstreamError::TlsRefused(format!("{alert:?}"))),
        _ => None,
    }
}

/// The text for a connection or a stream that larder ends. h2 takes the beginning of an HTTP/1.1 response for a frame of
/// 4 MiB.
fn describe_protocol_error(reason: h2::Reason) -> String {
    let advice = match reason {
        h2::Reason::FRAME_SIZE_ERROR => {
            "; if the upstream does not speak HTTP/2 without TLS, remove `http2` under `upstream`"
        }
        _ => "",
    };
    format!("HTTP/2 {reason:?}: {reason}{advice}")
}

pub(super) fn root_cause(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
