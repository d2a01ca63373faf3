//! Parts of a stored response: 206 and 416 (RFC 9110 §14.4, §14.6, §15.3.7).

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::body::Body;
use super::replying::{whole, without_content};
use crate::hex;
use crate::policy::CacheKey;

/// `parts` are first and last byte of what lies within `content`; there is at least one.
pub(super) fn partial(
    content: &Bytes,
    parts: &[(u64, u64)],
    mut headers: HeaderMap,
    key: CacheKey,
) -> Response<Body> {
    let length = content.len() as u64;
    headers.remove(CONTENT_LENGTH);
    if let [part] = parts {
        insert(&mut headers, CONTENT_RANGE, &content_range(*part, length));
        return whole(StatusCode::PARTIAL_CONTENT, headers, Body::from(slice(content, *part)));
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
    whole(StatusCode::PARTIAL_CONTENT, headers, Body::from(body.freeze()))
}

pub(super) fn not_satisfiable(length: u64, headers: HeaderMap) -> Response<Body> {
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

/// 128 bits that nobody who writes the content can know.
fn boundary(key: CacheKey) -> String {
    hex::encode(&key.0[..16])
}

fn insert(headers: &mut HeaderMap, name: http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
