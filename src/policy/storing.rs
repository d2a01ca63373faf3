//! RFC 9111 §3: may this response be stored, and under which terms?

use std::time::Duration;

use http::header::{CONTENT_TYPE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::cache_control::CacheControl;
use super::classify::Caller;
use super::freshness::{explicit_lifetime, heuristic_lifetime, initial_age};
use super::lifetime::{Grants, Lifetime};
use super::request_directives::obeyed;
use super::targeted::Governing;
use super::vary::Vary;
use super::{RequestHead, Route};
use crate::clock::Timestamp;
use crate::stored_response::Terms;

/// Why not. The same value feeds the log, the metric and `Cache-Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotStored {
    Method,
    Status,
    NoStore,
    /// §5.2.1.5, on a route that obeys the request.
    RequestNoStore,
    Private,
    SetCookie,
    VaryStar,
    /// `text/event-stream`: it is never whole, and what was said is not said again.
    EventStream,
    /// §3.5: the request carried credentials, and the response does not say that it may be shared.
    Credentials,
    /// Neither the response nor the route gives it a lifetime.
    NoLifetime,
    /// Stale on arrival, and it can't be validated later.
    AlreadyStale,
    Partial,
    TooLarge,
    TooManyTags,
    /// Its tags stand in its content, and that is no JSON by its type and charset;
    NotJson,
    /// … has a content coding other than gzip;
    Encoded,
    /// … is no JSON, or has a name twice;
    MalformedJson,
    /// … is larger than the route's `max_json`;
    JsonTooLarge,
    /// … has a value there that no tag can be made of.
    UnusableJson,
    /// The route's `ttl_from` is not there, or not a time.
    NoExpiry,
    /// Cut short by the upstream.
    Incomplete,
    /// Purged while it was being fetched.
    Purged,
    Observed,
}

impl NotStored {
    pub fn as_str(self) -> &'static str {
        match self {
            NotStored::Method => "method",
            NotStored::Status => "status",
            NotStored::NoStore => "no-store",
            NotStored::RequestNoStore => "request-no-store",
            NotStored::Private => "private",
            NotStored::SetCookie => "set-cookie",
            NotStored::VaryStar => "vary-star",
            NotStored::EventStream => "event-stream",
            NotStored::Credentials => "credentials",
            NotStored::NoLifetime => "no-lifetime",
            NotStored::AlreadyStale => "already-stale",
            NotStored::Partial => "partial",
            NotStored::TooLarge => "too-large",
            NotStored::TooManyTags => "too-many-tags",
            NotStored::NotJson => "not-json",
            NotStored::Encoded => "encoded-json",
            NotStored::MalformedJson => "malformed-json",
            NotStored::JsonTooLarge => "json-too-large",
            NotStored::UnusableJson => "unusable-json",
            NotStored::NoExpiry => "no-expiry",
            NotStored::Incomplete => "incomplete",
            NotStored::Purged => "purged",
            NotStored::Observed => "observed",
        }
    }

    /// Whether the next response for the key will most likely not be storable either, so that requests for it go
    /// side by side and don't queue behind each other (hit-for-miss).
    pub fn is_by_nature(self) -> bool {
        matches!(
            self,
            NotStored::NoStore
                | NotStored::Private
                | NotStored::SetCookie
                | NotStored::VaryStar
                | NotStored::EventStream
                | NotStored::NoLifetime
                | NotStored::AlreadyStale
                | NotStored::TooLarge
                | NotStored::TooManyTags
                | NotStored::NotJson
                | NotStored::Encoded
                | NotStored::MalformedJson
                | NotStored::JsonTooLarge
                | NotStored::UnusableJson
                | NotStored::NoExpiry
        )
    }
}

/// When the exchange happened.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    pub requested_at: Timestamp,
    pub received_at: Timestamp,
}

/// §3, in its order; where the product says more than the RFC, it is said. `headers` are those of the response as it
/// came, `Age` included.
pub fn may_store(
    route: &Route,
    caller: Caller,
    request: &RequestHead<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    exchange: Exchange,
) -> Result<Terms, NotStored> {
    // "the request method is understood by the cache": only GET is stored.
    if *request.method != Method::GET {
        return Err(NotStored::Method);
    }
    may_keep(
        route,
        caller,
        Some(request.headers),
        status,
        headers,
        (exchange, initial_age(headers, exchange)),
    )
}

/// As [`may_store`], of a GET's response whose age on arrival is known. `request_headers`: none where the request is
/// not known any more.
pub(super) fn may_keep(
    route: &Route,
    caller: Caller,
    request_headers: Option<&HeaderMap>,
    status: StatusCode,
    headers: &HeaderMap,
    (exchange, initial_age): (Exchange, Duration),
) -> Result<Terms, NotStored> {
    // RFC 9213 §2.2: a targeted field takes the place of Cache-Control and Expires.
    let Governing { directives, targeted } = Governing::of(&route.semantics.targeted, headers);
    let overrides = route.overrides;

    // "the response status code is final"; "if the response status code is 206 or 304, or the must-understand cache
    // directive is present: the cache understands the response status code".
    check_status(route, status, &directives)?;

    // "the no-store cache directive is not present in the response". must-understand does not lift it (§5.2.2.3 lets
    // a cache ignore no-store then): whoever writes no-store means it.
    if directives.no_store {
        return Err(NotStored::NoStore);
    }

    // §5.2.1.5: the request's is advice.
    if request_headers.and_then(|fields| obeyed(route, fields)).is_some_and(|asked| asked.no_store) {
        return Err(NotStored::RequestNoStore);
    }

    // "if the cache is shared: the private response directive is either not present or allows a shared cache to store
    // a modified response": the unmodified one is all there is here.
    if directives.private && !overrides.private {
        return Err(NotStored::Private);
    }

    // Beyond the RFC (its §7.3 warns of it): a cookie that is set for one caller is never replayed to another.
    if headers.contains_key(SET_COOKIE) || headers.contains_key("set-cookie2") {
        return Err(NotStored::SetCookie);
    }

    if is_event_stream(headers) {
        return Err(NotStored::EventStream);
    }

    // "if the cache is shared: the Authorization header field is not present in the request or a response directive is
    // present that explicitly allows shared caching (§3.5)". must-revalidate is not taken for one: frameworks set it
    // on everything.
    let open_to_credentials = says_shared(&directives);
    if caller == Caller::Credentialed && !open_to_credentials {
        return Err(NotStored::Credentials);
    }

    // §4.1: "a stored response with a Vary header field value containing a member "*" always fails to match".
    if Vary::of(headers) == Vary::Everything {
        return Err(NotStored::VaryStar);
    }

    // "the response contains at least one of the following": a lifetime from the response or from the route, or, where
    // the route wants it, "a status code that is defined as heuristically cacheable", or public.
    let explicit = explicit_lifetime(&directives, targeted, headers, exchange);
    let may_guess = route.semantics.heuristic && (is_heuristic(status) || directives.public);
    let heuristic = if may_guess { heuristic_lifetime(headers, exchange) } else { None };
    let always_validate = directives.no_cache && !overrides.no_cache;
    let lifetime = Lifetime::of(route, status, explicit, heuristic, always_validate)?;

    let grants = Grants { always_validate, open_to_credentials };
    let terms = lifetime.terms(route, &directives, headers, (exchange, initial_age), grants);
    if terms.expires_at <= terms.received_at { Err(NotStored::AlreadyStale) } else { Ok(terms) }
}

/// Whether an error of the upstream's, which is not stored, may answer all who asked for the same at the same time: it
/// says nothing that is meant for one of them.
pub fn may_answer_all(route: &Route, status: StatusCode, headers: &HeaderMap) -> bool {
    let governing = Governing::of(&route.semantics.targeted, headers).directives;
    let is_open = |directives: &CacheControl| !directives.no_store && !directives.private;
    status.is_server_error()
        && is_open(&governing)
        && is_open(&CacheControl::parse(headers))
        && !headers.contains_key(SET_COOKIE)
        && Vary::of(headers) == Vary::Nothing
}

/// Comes before all that a response says of itself, so that an error with `no-store` is still known as an error.
fn check_status(route: &Route, status: StatusCode, directives: &CacheControl) -> Result<(), NotStored> {
    let code = status.as_u16();
    match code {
        // Parts are not combined (§3.3, §3.4).
        206 => Err(NotStored::Partial),
        // 304 updates what is stored, and is not stored itself. Of 428, 429, 431 and 511 RFC 6585 says that they must
        // not be stored, whatever their fields or the route say.
        ..200 | 304 | 428 | 429 | 431 | 511 => Err(NotStored::Status),
        // §5.2.2.3: understood are the codes that are registered.
        _ if directives.must_understand && status.canonical_reason().is_none() => Err(NotStored::Status),
        _ if route.status.contains_key(&code) || is_storable_by_its_fields(status) => Ok(()),
        _ if route.semantics.any_status || (route.semantics.heuristic && is_heuristic(status)) => Ok(()),
        _ => Err(NotStored::Status),
    }
}

/// Final statuses that the response's own fields may let store. Not among them: those that answer the one who asks (401,
/// 407) or the moment (408, 425), 5xx, since frameworks put their Cache-Control on error pages too, and unknown codes.
fn is_storable_by_its_fields(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300..=303 | 307 | 308 | 400 | 403..=406 | 410 | 414 | 415 | 422 | 451)
}

/// RFC 9110 §15.1, less 206.
fn is_heuristic(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    media_type.get(..17).is_some_and(|start| start.eq_ignore_ascii_case(b"text/event-stream"))
}

/// §3.5, §5.2.2.9, §5.2.2.10. An `s-maxage` that grants nothing, or can't be read, opens nothing.
fn says_shared(directives: &CacheControl) -> bool {
    let by_s_maxage = directives.s_maxage.is_some_and(|lifetime| !lifetime.is_zero());
    (directives.public || by_s_maxage) && !directives.private
}

#[cfg(test)]
#[path = "storing_tests.rs"]
mod tests;
