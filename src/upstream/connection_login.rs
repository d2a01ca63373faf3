//! Connections that belong to one client: an upstream remembers a login, or bytes that it has not read, for the
//! connection and not for the request.

use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, Request};

use super::request_body::RequestBody;

/// Returns whether the connection of this request may carry no other one.
///
/// NTLM and Negotiate (RFC 4559) authenticate the connection. An upstream that answers a GET from its head alone takes
/// the content for the next request.
pub(super) fn is_exclusive(request: &Request<RequestBody>) -> bool {
    has_connection_scheme(request.headers(), &[AUTHORIZATION, PROXY_AUTHORIZATION])
        || request.method().is_safe() && !request.body().is_empty()
}

/// Returns whether the response begins or ends such a login.
pub(super) fn asks_for_login(headers: &HeaderMap) -> bool {
    has_connection_scheme(headers, &[WWW_AUTHENTICATE])
}

fn has_connection_scheme(headers: &HeaderMap, names: &[HeaderName]) -> bool {
    let values = names.iter().flat_map(|name| headers.get_all(name));
    let mut challenges = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    challenges.any(|challenge| {
        let scheme = challenge.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
    })
}
