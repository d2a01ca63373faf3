//! The framing of requests and responses: each has one that all recipients read alike (RFC 9112 §6).

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};

use super::{RequestBody, UpstreamError};

/// Says the length of a content where hyper would say none: of an empty POST, and of a GET without a length.
pub(super) fn frame_content(request: &mut Request<RequestBody>) {
    let expects_content = [Method::POST, Method::PUT, Method::PATCH].contains(request.method());
    if request.body().is_empty() {
        if expects_content && !request.headers().contains_key(CONTENT_LENGTH) {
            // RFC 9110 §8.6.
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    } else if !expects_content && request.body().size_hint().exact().is_none() {
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Leaves a response with one framing, whatever the upstream said of its length (RFC 9112 §6.3).
pub(super) fn normalize_framing(response: &mut Response<Incoming>) -> Result<(), UpstreamError> {
    let status = response.status();
    if status == StatusCode::NO_CONTENT && announces_content(response.headers()) {
        response.extensions_mut().insert(StrayContent);
    }
    let headers = response.headers_mut();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_coded = match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => true,
        // hyper leaves other codings in the content, and a later recipient would not know of them.
        _ => return Err(UpstreamError::Invalid("a transfer coding other than chunked".into())),
    };
    if headers.contains_key(CONTENT_LENGTH) {
        match (is_coded || status == StatusCode::NO_CONTENT, parse_content_length(headers)) {
            (false, Some(length)) => drop(headers.insert(CONTENT_LENGTH, length.into())),
            _ => drop(headers.remove(CONTENT_LENGTH)),
        }
    }
    Ok(())
}

/// Marks a 204 that came with content (RFC 9110 §15.3.5): the response is malformed, and its content is dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StrayContent;

/// Whether a 204 says that content follows, which it can't have.
fn announces_content(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || (headers.contains_key(CONTENT_LENGTH) && parse_content_length(headers) != Some(0))
}

/// Parses `Content-Length`; `None` if it is not a number, or several that differ.
fn parse_content_length(headers: &HeaderMap) -> Option<u64> {
    let lines = headers.get_all(CONTENT_LENGTH).iter();
    let mut lengths = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let read = |length: &[u8]| std::str::from_utf8(length.trim_ascii()).ok()?.parse::<u64>().ok();
    let first = read(lengths.next()?)?;
    lengths.all(|length| read(length) == Some(first)).then_some(first)
}
