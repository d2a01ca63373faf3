//! Answers made of responses that are stored, or in flight: conditions (RFC 9110 §13), ranges (§14), HEAD and `Age`.

use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE, TRAILER,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::body::Body;
use super::intake::ClientHead;
use super::ranges;
use super::shared_body::Reader;
use crate::clock::Timestamp;
use crate::policy::range;
use crate::policy::validation::{Precondition, precondition};
use crate::stored_response::{StoredHead, StoredResponse};

/// A stored response, as this request asks for it.
pub(super) fn stored(stored: StoredResponse, head: &ClientHead, now: Timestamp) -> Response<Body> {
    let mut headers = with_age(&stored.head, now, true);
    // Trailers went by with the content, and are not kept (RFC 9111 §3.1).
    headers.remove(TRAILER);
    if not_modified(stored.head.status, &headers, head, now) {
        return without_content(StatusCode::NOT_MODIFIED, headers);
    }
    if head.parts.method == Method::HEAD {
        return head_only(&stored, headers);
    }
    let length = stored.body.len() as u64;
    if stored.head.status == StatusCode::OK && head.has(&RANGE) {
        match range::select(&head.parts.headers, &headers, length) {
            range::Selected::Whole => {}
            range::Selected::Parts(parts) => {
                return ranges::partial(&stored.body, &parts, headers, stored.head.key);
            }
            range::Selected::NotSatisfiable => return ranges::not_satisfiable(length, headers),
        }
    }
    whole(stored.head.status, headers, Body::from(stored.body))
}

/// A response that is still arriving.
pub(super) fn in_flight(
    head_of: &StoredHead,
    reader: Reader,
    head: &ClientHead,
    now: Timestamp,
) -> Response<Body> {
    let headers = with_age(head_of, now, false);
    if not_modified(head_of.status, &headers, head, now) {
        return without_content(StatusCode::NOT_MODIFIED, headers);
    }
    whole(head_of.status, headers, Body::Shared(reader))
}

pub(super) fn whole(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn not_modified(status: StatusCode, headers: &HeaderMap, head: &ClientHead, now: Timestamp) -> bool {
    const CONDITIONS: [HeaderName; 4] = [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_MATCH, IF_UNMODIFIED_SINCE];
    if !CONDITIONS.iter().any(|name| head.has(name)) {
        return false;
    }
    precondition(&head.parts.method, &head.parts.headers, status, headers, now) == Precondition::NotModified
}

/// `Age` of what comes from the store (RFC 9111 §5.1); of what has just come, only if it was old on arrival.
fn with_age(stored: &StoredHead, now: Timestamp, always: bool) -> HeaderMap {
    match stored.terms().age(now).as_secs() {
        0 if !always => stored.fields.to_map(),
        age => stored.fields.with_age(decimal(age)),
    }
}

/// As `HeaderValue::from`, with one allocation less.
fn decimal(mut number: u64) -> HeaderValue {
    let (mut digits, mut first) = ([b'0'; 20], 19);
    while number > 0 {
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        first -= usize::from(number > 0);
    }
    HeaderValue::from_bytes(&digits[first..]).unwrap_or(HeaderValue::from_static("0"))
}

/// RFC 9110 §15.4.5: a 304 says nothing of content that it does not carry.
pub(super) fn without_content(status: StatusCode, mut headers: HeaderMap) -> Response<Body> {
    for name in
        [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_RANGE, ACCEPT_RANGES]
    {
        headers.remove(name);
    }
    whole(status, headers, Body::empty())
}

/// The same fields as for GET, and no content.
fn head_only(stored: &StoredResponse, mut headers: HeaderMap) -> Response<Body> {
    // RFC 9110 §8.6: a 204 has none.
    if stored.head.status != StatusCode::NO_CONTENT {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(stored.body.len()));
    }
    whole(stored.head.status, headers, Body::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_everybody_writes_them() {
        for number in [0, 1, 9, 10, 4096, u64::MAX] {
            assert_eq!(decimal(number), HeaderValue::from(number));
        }
    }
}
