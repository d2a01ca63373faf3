//! `Max-Forwards` of OPTIONS and TRACE (RFC 9110 §7.6.2).

use http::header::{ALLOW, MAX_FORWARDS};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::body::Body;

/// The methods that larder forwards for sure.
const FORWARDED_METHODS: HeaderValue =
    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE");

/// Counts the field down. Returns larder's own answer at 0: the request goes no further. A value that is no number is
/// left to the upstream.
pub(super) fn count_down(method: &Method, headers: &mut HeaderMap) -> Option<Response<Body>> {
    if ![Method::OPTIONS, Method::TRACE].contains(method) {
        return None;
    }
    let left: u64 = headers.get(MAX_FORWARDS)?.to_str().ok()?.trim().parse().ok()?;
    let Some(left) = left.checked_sub(1) else { return Some(answer(method)) };
    headers.insert(MAX_FORWARDS, HeaderValue::from(left));
    None
}

/// TRACE is refused, because its answer would repeat the client's credentials.
fn answer(method: &Method) -> Response<Body> {
    let mut response = Response::new(Body::from(String::new()));
    if *method == Method::TRACE {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    }
    response.headers_mut().insert(ALLOW, FORWARDED_METHODS);
    response
}
