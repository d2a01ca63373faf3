//! Decides whether a response may be stored, and under which terms (RFC 9111 §3).

use std::time::Duration;

use http::header::{CONTENT_TYPE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::cache_control::CacheControl;
use super::classify::Caller;
use super::credentials::credential_expiry;
use super::freshness::{explicit_lifetime, heuristic_lifetime, initial_age};
use super::lifetime::{Grants, Lifetime, is_closed_by_s_maxage};
use super::not_stored::NotStored;
use super::received_response::ReceivedResponse;
use super::request_directives::honored_directives;
use super::targeted::GoverningDirectives;
use super::vary::Vary;
use super::{RequestHead, Route};
use crate::stored_response::Terms;

/// Follows the order of §3; deviations are noted.
pub(crate) fn may_store(
    route: &Route,
    caller: Caller,
    request: &RequestHead<'_>,
    response: ReceivedResponse<'_>,
) -> Result<Terms, NotStored> {
    // "the request method is understood by the cache": only GET is stored.
    if *request.method != Method::GET {
        return Err(NotStored::Method);
    }
    let age = initial_age(response.headers, response.exchange);
    may_store_with_age(route, caller, Some(request.headers), response, age)
}

/// The source of the lifetime of a storable response.
pub(crate) fn select_lifetime(
    route: &Route,
    caller: Caller,
    request: &RequestHead<'_>,
    response: ReceivedResponse<'_>,
) -> Result<Lifetime, NotStored> {
    let age = initial_age(response.headers, response.exchange);
    evaluate(route, caller, Some(request.headers), response, age).map(|(lifetime, _)| lifetime)
}

/// Like [`may_store`], for a GET's response with a known age on arrival. `request_headers`: `None` if the request
/// is no longer known.
pub(super) fn may_store_with_age(
    route: &Route,
    caller: Caller,
    request_headers: Option<&HeaderMap>,
    response: ReceivedResponse<'_>,
    initial_age: Duration,
) -> Result<Terms, NotStored> {
    evaluate(route, caller, request_headers, response, initial_age).map(|(_, terms)| terms)
}

fn evaluate(
    route: &Route,
    caller: Caller,
    request_headers: Option<&HeaderMap>,
    response: ReceivedResponse<'_>,
    initial_age: Duration,
) -> Result<(Lifetime, Terms), NotStored> {
    let ReceivedResponse { status, headers, exchange } = response;
    // RFC 9213 §2.2: a targeted field takes the place of Cache-Control and Expires.
    let GoverningDirectives { directives, targeted } = GoverningDirectives::select(&route.targeted, headers);

    // "the response status code is final"; "if the response status code is 206 or 304, or the must-understand cache
    // directive is present: the cache understands the response status code".
    check_status(route, status, &directives)?;
    check_withheld(route, request_headers, headers, &directives)?;

    // Beyond the RFC: by the time that it was answered, the request may have come from somebody who is nobody any more.
    if caller.has_expired(exchange.received_at) {
        return Err(NotStored::ExpiredCaller);
    }

    // "if the cache is shared: the Authorization header field is not present in the request or a response directive
    // is present that explicitly allows shared caching (§3.5)". must-revalidate does not count, because frameworks
    // set it everywhere.
    let open_to_credentials = explicitly_allows_shared(&directives);
    if !caller.is_in_key() && !open_to_credentials {
        return Err(NotStored::Credentials);
    }

    // §4.1: "a stored response with a Vary header field value containing a member "*" always fails to match".
    if Vary::parse_ignoring(headers, &route.ignore_vary) == Vary::Everything {
        return Err(NotStored::VaryStar);
    }

    // "the response contains at least one of the following": a lifetime from the response or the route; on
    // heuristic routes also "a status code that is defined as heuristically cacheable", or public.
    let explicit = explicit_lifetime(&directives, targeted, headers, exchange);
    let may_guess = route.heuristic && (is_heuristically_cacheable(status) || directives.public);
    let heuristic = if may_guess { heuristic_lifetime(headers, exchange) } else { None };
    let always_validate = directives.no_cache && !route.overrides.no_cache;
    let lifetime = Lifetime::select(route, status, explicit, heuristic, always_validate)?;

    let grants = Grants { initial_age, always_validate, open_to_credentials };
    let terms = lifetime.to_terms(route, &directives, response, grants);
    let terms = bound_by_credential(terms, route, request_headers)?;
    if terms.expires_at <= terms.received_at { Err(NotStored::AlreadyStale) } else { Ok((lifetime, terms)) }
}

/// Beyond the RFC: a response in one caller's name ends with the caller's token.
fn bound_by_credential(
    terms: Terms,
    route: &Route,
    request_headers: Option<&HeaderMap>,
) -> Result<Terms, NotStored> {
    match request_headers.and_then(|fields| credential_expiry(route, fields)) {
        Some(end) if end <= terms.received_at => Err(NotStored::ExpiredCaller),
        Some(end) => Ok(terms.bounded_by(end)),
        None => Ok(terms),
    }
}

/// Refuses what the request or the response withholds from all caches, or from shared ones.
fn check_withheld(
    route: &Route,
    request_headers: Option<&HeaderMap>,
    headers: &HeaderMap,
    directives: &CacheControl,
) -> Result<(), NotStored> {
    // "the no-store cache directive is not present in the response". must-understand does not lift it, although
    // §5.2.2.3 would allow that.
    if directives.no_store {
        return Err(NotStored::NoStore);
    }

    // §5.2.1.5: the request's directive is advice.
    if request_headers
        .and_then(|fields| honored_directives(route, fields))
        .is_some_and(|asked| asked.no_store)
    {
        return Err(NotStored::RequestNoStore);
    }

    // "if the cache is shared: the private response directive is either not present or allows a shared cache to
    // store a modified response": modified responses are not supported.
    if directives.private && !route.overrides.private {
        return Err(NotStored::Private);
    }

    // Beyond the RFC (§7.3 warns of it): a cookie set for one caller is never replayed to another.
    if !route.drop_response.drops_cookies() && headers.contains_key(SET_COOKIE)
        || headers.contains_key("set-cookie2")
    {
        return Err(NotStored::SetCookie);
    }

    if is_event_stream(headers) { Err(NotStored::EventStream) } else { Ok(()) }
}

/// Whether the response has a stale window, its own or the route's, that only its `s-maxage` closes.
pub(crate) fn is_stale_window_closed_by_s_maxage(route: &Route, headers: &HeaderMap) -> bool {
    let directives = GoverningDirectives::select(&route.targeted, headers).directives;
    let is_open =
        |of_response: Option<Duration>, of_route: Duration| !of_response.unwrap_or(of_route).is_zero();
    let is_swr_closed =
        is_open(directives.stale_while_revalidate, Duration::ZERO) && route.stale_while_revalidate.is_zero();
    let is_sie_closed = is_open(directives.stale_if_error, route.stale_if_error);
    let by_others = directives.must_revalidate
        || directives.proxy_revalidate
        || (directives.no_cache && !route.overrides.no_cache);
    is_closed_by_s_maxage(route, &directives) && !by_others && (is_swr_closed || is_sie_closed)
}

/// Whether an upstream error, which is not stored, may answer all requests that wait for the same fetch: it has
/// nothing addressed to one caller.
pub(crate) fn may_share_error(route: &Route, status: StatusCode, headers: &HeaderMap) -> bool {
    let governing = GoverningDirectives::select(&route.targeted, headers).directives;
    let is_open = |directives: &CacheControl| !directives.no_store && !directives.private;
    status.is_server_error()
        && is_open(&governing)
        && is_open(&CacheControl::parse(headers))
        && !headers.contains_key(SET_COOKIE)
        && Vary::parse(headers) == Vary::Nothing
}

/// Runs before the response's directives, so that an error with `no-store` is still reported as an error.
fn check_status(route: &Route, status: StatusCode, directives: &CacheControl) -> Result<(), NotStored> {
    let code = status.as_u16();
    match code {
        // Partial responses are not combined (§3.3, §3.4).
        206 => Err(NotStored::Partial),
        // 304 updates a stored response and is not stored itself. RFC 6585 forbids storing 428, 429, 431 and 511.
        ..200 | 304 | 428 | 429 | 431 | 511 => Err(NotStored::Status),
        // §5.2.2.3: registered codes are understood.
        _ if directives.must_understand && status.canonical_reason().is_none() => Err(NotStored::Status),
        _ if route.status.contains_key(&code) || is_storable_status(status) => Ok(()),
        _ if route.any_status || (route.heuristic && is_heuristically_cacheable(status)) => Ok(()),
        _ => Err(NotStored::Status),
    }
}

/// Final statuses that the response's own fields may make storable. Excluded: statuses about the caller (401, 403,
/// 407), one request's fields, content and size (400, 406, 414, 415, 422, 431), or the moment (408, 425), which another
/// request for the same key need not get; 5xx, since frameworks set Cache-Control on error pages too; and unknown codes.
fn is_storable_status(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300..=303 | 307 | 308 | 404 | 405 | 410 | 451)
}

/// RFC 9110 §15.1, less 206.
fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    media_type.get(..17).is_some_and(|start| start.eq_ignore_ascii_case(b"text/event-stream"))
}

/// §3.5, §5.2.2.9, §5.2.2.10. An `s-maxage` of zero or a malformed one does not count.
fn explicitly_allows_shared(directives: &CacheControl) -> bool {
    let by_s_maxage = directives.s_maxage.is_some_and(|lifetime| !lifetime.is_zero());
    (directives.public || by_s_maxage) && !directives.private
}

#[cfg(test)]
#[path = "storing_tests.rs"]
mod tests;
