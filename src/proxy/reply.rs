//! Builds the response to a client out of a stored response or one in flight: conditions (RFC 9110 §13), ranges (§14),
//! HEAD and `Age`.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE, TRAILER,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use hyper::ext::ReasonPhrase;

use super::body::Body;
use super::client_request::ClientHead;
use super::shared_body::BodyReader;
use crate::clock::Timestamp;
use crate::hex;
use crate::policy::CacheKey;
use crate::policy::decimal::{Decimal, small_decimal};
use crate::policy::range::{self, SelectedRange};
use crate::policy::validation::{Precondition, evaluate_precondition};
use crate::stored_response::{StoredHead, StoredResponse};

/// The response to this request out of a stored one.
pub(super) fn from_stored(stored: StoredResponse, head: &ClientHead, now: Timestamp) -> Response<Body> {
    let mut headers = with_age(&stored.head, now, true);
    // Trailers are not stored (RFC 9111 §3.1).
    if stored.head.fields.has_trailer() {
        headers.remove(TRAILER);
    }
    if not_modified(stored.head.status, &headers, head, now) {
        return without_content(StatusCode::NOT_MODIFIED, headers);
    }
    if head.parts.method == Method::HEAD {
        return head_only(&stored, headers);
    }
    let length = stored.body.len() as u64;
    if stored.head.status == StatusCode::OK && head.has(&RANGE) {
        match range::select_range(&head.parts.headers, &headers, length) {
            range::SelectedRange::Whole => {}
            range::SelectedRange::Parts(parts) => {
                return partial(&stored.body, &parts, headers, stored.head.key);
            }
            range::SelectedRange::NotSatisfiable => return not_satisfiable(length, headers),
        }
    }
    with_body(stored.head.status, headers, Body::from(stored.body))
}

/// The response to this request out of one that is still arriving.
pub(super) fn from_in_flight(
    head_of: &StoredHead,
    reader: BodyReader,
    head: &ClientHead,
    now: Timestamp,
) -> Response<Body> {
    let mut headers = with_age(head_of, now, false);
    if not_modified(head_of.status, &headers, head, now) {
        return without_content(StatusCode::NOT_MODIFIED, headers);
    }
    if head_of.status == StatusCode::OK
        && head.has(&RANGE)
        && let Some(length) = reader.length()
    {
        match range::select_range(&head.parts.headers, &headers, length) {
            SelectedRange::Parts(parts) if parts.len() == 1 => {
                let (first, last) = parts[0];
                headers.insert(CONTENT_LENGTH, HeaderValue::from(last - first + 1));
                insert(&mut headers, CONTENT_RANGE, &content_range((first, last), length));
                let part = Body::Shared(reader.with_range(first, last));
                return with_body(StatusCode::PARTIAL_CONTENT, headers, part);
            }
            SelectedRange::NotSatisfiable => return not_satisfiable(length, headers),
            // Several ranges are cut out of the complete response only.
            SelectedRange::Parts(_) | SelectedRange::Whole => {}
        }
    }
    with_body(head_of.status, headers, Body::Shared(reader))
}

/// The response to this request out of a whole content with a tag and no date. Its bytes may differ from the last, so no
/// range is cut. `content`: its length, and its bytes. `None`: these are needed, and not there.
pub(super) fn from_merged(
    (length, content): (usize, Option<Bytes>),
    mut headers: HeaderMap,
    head: &ClientHead,
    now: Timestamp,
) -> Option<Response<Body>> {
    let mut condition = HeaderMap::new();
    for tags in head.parts.headers.get_all(IF_NONE_MATCH) {
        condition.append(IF_NONE_MATCH, tags.clone());
    }
    let precondition = evaluate_precondition(&head.parts.method, &condition, StatusCode::OK, &headers, now);
    if precondition == Precondition::NotModified {
        return Some(without_content(StatusCode::NOT_MODIFIED, headers));
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    let body = if head.parts.method == Method::HEAD { Body::empty() } else { Body::from(content?) };
    Some(with_body(StatusCode::OK, headers, body))
}

/// The upstream's response, or a 304 in its place if the client has it already: its condition was not forwarded. Then
/// also the content that is not sent.
pub(super) fn from_upstream(
    response: Response<Body>,
    head: &ClientHead,
    now: Timestamp,
) -> (Response<Body>, Option<Body>) {
    match not_modified(response.status(), response.headers(), head, now) {
        true => {
            let (parts, body) = response.into_parts();
            (without_content(StatusCode::NOT_MODIFIED, parts.headers), Some(body))
        }
        false => (response, None),
    }
}

pub(super) fn with_body(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Keeps a reason phrase that is not the standard one.
pub(super) fn set_reason(response: &mut Response<Body>, reason: Option<ReasonPhrase>) {
    if let Some(reason) = reason {
        response.extensions_mut().insert(reason);
    }
}

fn not_modified(status: StatusCode, headers: &HeaderMap, head: &ClientHead, now: Timestamp) -> bool {
    const CONDITIONS: [HeaderName; 4] = [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_MATCH, IF_UNMODIFIED_SINCE];
    if !CONDITIONS.iter().any(|name| head.has(name)) {
        return false;
    }
    evaluate_precondition(&head.parts.method, &head.parts.headers, status, headers, now)
        == Precondition::NotModified
}

/// The stored fields with `Age` (RFC 9111 §5.1). `always`: also if that is 0.
fn with_age(stored: &StoredHead, now: Timestamp, always: bool) -> HeaderMap {
    match stored.terms().age(now).as_secs() {
        0 if !always => stored.fields.to_map(),
        age => stored.fields.with_age(decimal(age)),
    }
}

/// The number as a field value; one allocation less than `HeaderValue::from`, and none for the age of most hits.
fn decimal(number: u64) -> HeaderValue {
    match small_decimal(number) {
        Some(digits) => HeaderValue::from_static(digits),
        None => {
            HeaderValue::from_bytes(Decimal::new(number).as_bytes()).unwrap_or(HeaderValue::from_static("0"))
        }
    }
}

/// A response without content and without the fields that describe it (RFC 9110 §15.4.5).
pub(super) fn without_content(status: StatusCode, mut headers: HeaderMap) -> Response<Body> {
    for name in
        [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_RANGE, ACCEPT_RANGES]
    {
        headers.remove(name);
    }
    with_body(status, headers, Body::empty())
}

/// The fields of GET, without the content.
fn head_only(stored: &StoredResponse, mut headers: HeaderMap) -> Response<Body> {
    // RFC 9110 §8.6: a 204 has none.
    if stored.head.status != StatusCode::NO_CONTENT {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(stored.body.len()));
    }
    with_body(stored.head.status, headers, Body::empty())
}

/// 206 (RFC 9110 §15.3.7). `parts`: the first and last byte of each range, within `content`; at least one.
fn partial(content: &Bytes, parts: &[(u64, u64)], mut headers: HeaderMap, key: CacheKey) -> Response<Body> {
    let length = content.len() as u64;
    headers.remove(CONTENT_LENGTH);
    if let [part] = parts {
        insert(&mut headers, CONTENT_RANGE, &content_range(*part, length));
        return with_body(StatusCode::PARTIAL_CONTENT, headers, Body::from(slice(content, *part)));
    }
    let boundary = boundary(key);
    let content_type = headers.remove(CONTENT_TYPE);
    let mut body = BytesMut::new();
    for part in parts {
        body.put_slice(format!("--{boundary}\r\n").as_bytes());
        if let Some(content_type) = &content_type {
            body.put_slice(b"Content-Type: ");
            body.put_slice(content_type.as_bytes());
            body.put_slice(b"\r\n");
        }
        body.put_slice(format!("Content-Range: {}\r\n\r\n", content_range(*part, length)).as_bytes());
        body.put_slice(&slice(content, *part));
        body.put_slice(b"\r\n");
    }
    body.put_slice(format!("--{boundary}--\r\n").as_bytes());
    insert(&mut headers, CONTENT_TYPE, &format!("multipart/byteranges; boundary={boundary}"));
    with_body(StatusCode::PARTIAL_CONTENT, headers, Body::from(body.freeze()))
}

fn not_satisfiable(length: u64, headers: HeaderMap) -> Response<Body> {
    let mut response = without_content(StatusCode::RANGE_NOT_SATISFIABLE, headers);
    insert(response.headers_mut(), CONTENT_RANGE, &format!("bytes */{length}"));
    response
}

fn content_range((first, last): (u64, u64), length: u64) -> String {
    format!("bytes {first}-{last}/{length}")
}

fn slice(content: &Bytes, (first, last): (u64, u64)) -> Bytes {
    let end = usize::try_from(last).map_or(content.len(), |last| last.saturating_add(1).min(content.len()));
    let start = usize::try_from(first).map_or(end, |first| first.min(end));
    content.slice(start..end)
}

/// 128 bits that the author of the content can't know.
fn boundary(key: CacheKey) -> String {
    hex::encode(&key.0[..16])
}

fn insert(headers: &mut HeaderMap, name: http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
