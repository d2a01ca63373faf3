//! Classifies a request: cache lookup, pass, or write.
//!
//! A request part that can change the response is in the key, is not forwarded, or makes the request pass.

#[cfg(test)]
mod key_properties;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Method, header};

use super::caller::{CallerVerdict, CallerView, IdentifyCaller, UnknownCaller};
use super::caller_fields::CallerFields;
use super::credential::caller_value;
use super::disguised_write::{ContentRole, find_role, query_overrides_method};
use super::header_name_filter::is_alias;
use super::methods::is_safe;
use super::no_vary_search::LookupQuery;
use super::path::{is_normal, normalize};
use super::route::SharedPart;
use super::route::{Anonymous, RouteMode, Shared};
use super::routes::Routes;
use super::{CacheKey, RequestHead, Route, credentials, is_ambiguous_name, override_fields};
use crate::clock::Timestamp;
use crate::purge::NormalizedPath;
use crate::stored_response::StoredHead;

/// The handling of a request, by its head.
#[derive(Debug)]
pub enum Classification<'r> {
    /// A GET or HEAD that the store may answer.
    Lookup(CacheLookup<'r>),
    /// A QUERY or POST that the store may answer, once its content is known.
    ContentRead {
        /// The route of the path.
        route: &'r Arc<Route>,
    },
    /// A safe request that is neither stored nor answered from the store.
    Pass {
        /// Why it is passed.
        reason: PassReason,
        /// The route of the path.
        route: Option<&'r Arc<Route>>,
    },
    /// An unsafe method, or a read by POST that may write; `invalidation` decides its purges.
    Write {
        /// The route of the path.
        route: Option<&'r Arc<Route>>,
    },
    /// The caller has to be identified first.
    Identify {
        /// The route of the path.
        route: &'r Arc<Route>,
    },
}

impl<'r> Classification<'r> {
    pub(crate) fn route(&self) -> Option<&'r Arc<Route>> {
        match self {
            Classification::Lookup(lookup) => Some(lookup.route),
            Classification::ContentRead { route } | Classification::Identify { route } => Some(route),
            Classification::Pass { route, .. } | Classification::Write { route } => *route,
        }
    }
}

/// A lookup in the store.
#[derive(Debug)]
pub struct CacheLookup<'r> {
    /// The route of the path.
    pub route: &'r Arc<Route>,
    /// The primary key.
    pub key: CacheKey,
    /// The query that is in the key and is forwarded.
    pub query: LookupQuery,
    /// Which responses may be shared with the caller.
    pub caller: Caller,
    /// The maximum lifetime while an event source that purges the route's tags is silent.
    pub fallback_ttl: Option<Duration>,
}

impl<'r> CacheLookup<'r> {
    /// The same lookup under the key of a variant.
    pub(crate) fn with_key(&self, key: CacheKey) -> CacheLookup<'r> {
        CacheLookup {
            route: self.route,
            key,
            query: match self.query.is_simplified() {
                true => self.query.clone(),
                false => LookupQuery::default(),
            },
            caller: self.caller,
            fallback_ttl: self.fallback_ttl,
        }
    }

    /// Whether a stored response answers the query that the client sent, if another one was looked up for it.
    pub(crate) fn covers_query(&self, stored: &StoredHead) -> bool {
        !self.query.is_simplified() || self.query.accepts(&stored.fields.to_map())
    }
}

/// Which responses may be shared with the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The request has no credential, its credentials are in the key, or the route is `shared`.
    InKey,
    /// The same for a caller who is known until a time.
    Known {
        /// The end of the token or session.
        until: Timestamp,
    },
    /// A credential is not in the key: only responses marked as shared may answer (RFC 9111 §3.5), until then.
    Credentialed {
        /// The end of the token, if it has one.
        until: Option<Timestamp>,
    },
}

impl Caller {
    /// Whether the response is for exactly the callers with this key.
    pub fn is_in_key(self) -> bool {
        !matches!(self, Caller::Credentialed { .. })
    }

    /// Whether the caller is past the `exp` of the token.
    pub(crate) fn has_expired(self, now: Timestamp) -> bool {
        match self {
            Caller::InKey => false,
            Caller::Known { until } => now >= until,
            Caller::Credentialed { until } => until.is_some_and(|until| now >= until),
        }
    }
}

/// The reason for a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PassReason {
    /// A safe method by which the route is not read.
    Method,
    /// No route matches.
    NoRoute,
    /// The route has `mode: off`, or does not cache yet.
    RouteOff,
    /// `ttl: never`, or a route that only has `purges`.
    RouteNeverCaches,
    /// The path is not in normal form, or the API may take it for another one's: `/users/me` for all users' `/users/{id}`.
    PathSpelling,
    /// A `per:` route, and the request lacks the credential.
    NoCredential,
    /// A route with `callers`, and the caller is not known.
    Caller(UnknownCaller),
    /// A GET or HEAD with content, or content of unknown or too large length that would be part of the key.
    Content,
    /// A field such as `X-HTTP-Method-Override` or `X-Original-URL`, or one that the upstream may read as another, may
    /// change what the upstream answers.
    OverrideField,
    /// `If-Match` or `If-Unmodified-Since`: the upstream evaluates them.
    Precondition,
    /// A `Range` request for something that is not stored.
    Range,
    /// A request for a part, or with a condition, whose sender has used up `limits.unsent_bytes_per_client`.
    UnsentBytes,
    /// The client asks for another protocol.
    Upgrade,
    /// `Larder-Position` names a purge that this replica cannot confirm.
    Position,
    /// A route with `overlay`, whose shared part is not JSON of the form that it describes.
    SharedPart,
    /// A route with `overlay`, and a part of the caller is not there or can't be read.
    CallerPart,
}

impl PassReason {
    /// The name in the log, the metric and `Cache-Status`.
    pub fn as_str(self) -> &'static str {
        match self {
            PassReason::Method => "method",
            PassReason::NoRoute => "no-route",
            PassReason::RouteOff => "route-off",
            PassReason::RouteNeverCaches => "route-never-caches",
            PassReason::PathSpelling => "path-spelling",
            PassReason::NoCredential => "no-credential",
            PassReason::Caller(why) => why.as_str(),
            PassReason::Content => "request-content",
            PassReason::OverrideField => "override-field",
            PassReason::Precondition => "precondition",
            PassReason::Position => "position",
            PassReason::Range => "range",
            PassReason::UnsentBytes => "unsent-bytes",
            PassReason::Upgrade => "upgrade",
            PassReason::SharedPart => "overlay-shared-part",
            PassReason::CallerPart => "overlay-caller-part",
        }
    }
}

/// Fields that are never forwarded as received, so `Connection` may name them.
const HOP_BY_HOP: [&str; 7] =
    ["keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection", "http2-settings"];

/// `has_content`: the request has a body.
pub fn classify<'r>(
    routes: &'r Routes,
    request: &RequestHead<'_>,
    has_content: bool,
    caller_fields: &CallerFields,
    callers: &dyn IdentifyCaller,
) -> Classification<'r> {
    match *request.method {
        Method::GET | Method::HEAD => match find_readable_route(routes, request, has_content) {
            Ok(route) => classify_read(route, request, caller_fields, callers),
            Err((reason, route)) => Classification::Pass { reason, route },
        },
        _ if let Some(route) = find_content_read(routes, request) => match request.content {
            Some(content) => match find_role(request, content) {
                ContentRole::MayWrite => classify_write(routes, request, callers),
                ContentRole::Reads(json) => {
                    let request = &RequestHead { json: json.as_ref(), ..*request };
                    classify_read(route, request, caller_fields, callers)
                }
            },
            None => Classification::ContentRead { route },
        },
        _ if is_safe(request.method) => {
            Classification::Pass { reason: PassReason::Method, route: routes.find(request.path) }
        }
        _ => classify_write(routes, request, callers),
    }
}

fn classify_write<'r>(
    routes: &'r Routes,
    request: &RequestHead<'_>,
    callers: &dyn IdentifyCaller,
) -> Classification<'r> {
    let route = find_in_any_spelling(routes, request.path).next();
    // The tags of a write may name its caller.
    match route.and_then(|route| Some((route, route.callers.as_ref()?))) {
        Some((route, source)) if callers.identify_writer(source) == CallerVerdict::Pending => {
            Classification::Identify { route }
        }
        _ => Classification::Write { route },
    }
}

/// The route that is read by this method. A request that may be meant as another one is none of its reads.
fn find_content_read<'r>(routes: &'r Routes, request: &RequestHead<'_>) -> Option<&'r Arc<Route>> {
    let route = find_caching_route(routes, request.path).ok()?;
    let is_read = route.methods.contains(request.method)
        && !may_be_overridden(route, request)
        && !query_overrides_method(request)
        && !request.has(&header::UPGRADE);
    is_read.then_some(route)
}

type PassDecision<'r> = (PassReason, Option<&'r Arc<Route>>);

/// The route of a GET or HEAD that may be looked up, whoever sends it.
fn find_readable_route<'r>(
    routes: &'r Routes,
    request: &RequestHead<'_>,
    has_content: bool,
) -> Result<&'r Arc<Route>, PassDecision<'r>> {
    if request.has(&header::UPGRADE) {
        return Err((PassReason::Upgrade, routes.find(request.path)));
    }
    let route = find_caching_route(routes, request.path)?;
    if has_content {
        return Err((PassReason::Content, Some(route)));
    }
    if may_be_overridden(route, request) {
        return Err((PassReason::OverrideField, Some(route)));
    }
    Ok(route)
}

fn classify_read<'r>(
    route: &'r Arc<Route>,
    request: &RequestHead<'_>,
    caller_fields: &CallerFields,
    callers: &dyn IdentifyCaller,
) -> Classification<'r> {
    let pass = |reason| Classification::Pass { reason, route: Some(route) };
    let Some(source) = &route.callers else {
        return look_up(route, request, caller_fields).map_or_else(pass, Classification::Lookup);
    };
    let verdict = callers.identify(source);
    match &verdict {
        CallerVerdict::Pending => return Classification::Identify { route },
        CallerVerdict::Unknown(UnknownCaller::Anonymous) if route.anonymous == Anonymous::Share => {}
        CallerVerdict::Unknown(why) => return pass(PassReason::Caller(*why)),
        CallerVerdict::Known(_) => {}
    }
    let request = &RequestHead { caller: verdict.view(), ..*request };
    look_up(route, request, caller_fields).map_or_else(pass, Classification::Lookup)
}

/// The lookup of the shared part of a route with `overlay`. `request` has the part's own fields.
pub(crate) fn look_up_shared_part<'r>(
    part: &'r SharedPart,
    request: &RequestHead<'_>,
    caller_fields: &CallerFields,
) -> CacheLookup<'r> {
    let route = &part.route;
    let query = LookupQuery::as_asked(route.query.select(request.query));
    let key = CacheKey::new(route, request, query.sent(), None);
    let key = match part.find_selecting_fields(request.headers, caller_fields) {
        beside if beside.is_empty() => key,
        beside => key.key_of_fields(request.headers, |name| beside.contains(&name)),
    };
    CacheLookup { route, key, query, caller: Caller::InKey, fallback_ttl: None }
}

/// The route with `overlay` that a GET or HEAD reads, whoever sends it.
pub(crate) fn find_overlay<'r>(routes: &'r Routes, request: &RequestHead<'_>) -> Option<&'r Arc<SharedPart>> {
    let is_read = matches!(*request.method, Method::GET | Method::HEAD);
    let route = is_read.then(|| find_readable_route(routes, request, false).ok()).flatten()?;
    route.shared_part.as_ref()
}

fn look_up<'r>(
    route: &'r Arc<Route>,
    request: &RequestHead<'_>,
    caller_fields: &CallerFields,
) -> Result<CacheLookup<'r>, PassReason> {
    let is_anonymous = matches!(request.caller, CallerView::Nobody);
    let credential = match &route.per {
        Some(per) => match caller_value(per, request) {
            // Anonymous requests have a response of their own.
            None if !is_anonymous => return Err(PassReason::NoCredential),
            value => value,
        },
        None => None,
    };
    let selected = route.query.select(request.query);
    let query = match request.search_hint.filter(|_| simplifies_queries(route, request)) {
        Some(variance) => LookupQuery::simplified(selected, variance),
        None => LookupQuery::as_asked(selected),
    };
    let mut key = CacheKey::new(route, request, query.sent(), credential.as_deref());
    // `shared` speaks of those who are known; an anonymous request may have another credential.
    let is_shared = route.shared != Shared::No && !is_anonymous;
    let has_none = route.callers.is_none() && !caller_fields.may_be_in(request.name_filter);
    if is_shared && !has_none && is_for_caller_alone(route, request, caller_fields) {
        return Err(PassReason::PathSpelling);
    }
    let (are_in_key, beside) = match has_none || is_shared && route.per.is_none() {
        true => (true, Vec::new()),
        false => credentials::judge_credentials(route, request.headers, caller_fields),
    };
    if !beside.is_empty() {
        key = key.key_of_fields(request.headers, |name| beside.contains(&name));
    }
    let in_key = are_in_key || is_shared;
    let until = request.caller.known().and_then(|identity| identity.expires_at);
    let caller = match (in_key, until) {
        (true, None) => Caller::InKey,
        (true, Some(until)) => Caller::Known { until },
        (false, until) => Caller::Credentialed { until },
    };
    Ok(CacheLookup { route, key, query, caller, fallback_ttl: None })
}

/// Whether a request with a credential is for what the API has for its caller, on a route that is for all: `/users/me` to
/// `/users/{id}`.
fn is_for_caller_alone(route: &Route, request: &RequestHead<'_>, caller_fields: &CallerFields) -> bool {
    route.path.names_caller_in(request.path)
        && (request.caller.known().is_some()
            || credentials::field_outside_key(route, request.headers, caller_fields).is_some())
}

/// A request that is forwarded whole, or read by its content, is looked up as it is.
fn simplifies_queries(route: &Route, request: &RequestHead<'_>) -> bool {
    route.no_vary_search && route.mode == RouteMode::On && request.content.is_none()
}

fn find_caching_route<'r>(routes: &'r Routes, path: &str) -> Result<&'r Arc<Route>, PassDecision<'r>> {
    let found = if is_normal(path) {
        routes.find(path)
    } else {
        let mut found = find_in_any_spelling(routes, path);
        let first = found.next();
        if let Some(caching) = first.into_iter().chain(found).find(|route| route.caches()) {
            return Err((PassReason::PathSpelling, Some(caching)));
        }
        first
    };
    let Some(route) = found else {
        let reading = routes.find_by_reading(path);
        return Err((reading.map_or(PassReason::NoRoute, |_| PassReason::PathSpelling), reading));
    };
    if route.mode == RouteMode::Off {
        Err((PassReason::RouteOff, found))
    } else if !route.caches() {
        Err((PassReason::RouteNeverCaches, found))
    } else if routes.is_ambiguous(path, route) {
        Err((PassReason::PathSpelling, found))
    } else {
        Ok(route)
    }
}

/// The routes of a path as written, in normal form, and loosely matched, in this order.
fn find_in_any_spelling<'r>(routes: &'r Routes, path: &str) -> impl Iterator<Item = &'r Arc<Route>> {
    let written = routes.find(path);
    let normal = routes.find(&normalize(path));
    let loose = routes.find_loosely(&NormalizedPath::new(path));
    written.into_iter().chain(normal).chain(loose)
}

/// Whether the upstream may be asked for something else than the key says. Override fields in the route's key are
/// allowed.
fn may_be_overridden(route: &Route, request: &RequestHead<'_>) -> bool {
    let overridden = override_fields::candidates(request.name_filter)
        .any(|name| request.headers.contains_key(name) && !route.headers.contains(name));
    let is_ambiguous = |name: &HeaderName| is_ambiguous_name(name) && !route.headers.contains(name);
    overridden
        || (request.name_filter.has_ambiguous() && request.headers.keys().any(is_ambiguous))
        || (route.headers.iter().any(is_ambiguous_name) && has_alias_of_key(route, request.headers))
        || (request.name_filter.may_hold(&header::CONNECTION) && connection_drops_fields(request.headers))
}

/// Whether an upstream may read a field as one of the key that has another name: `x-zone` as `x_zone`.
fn has_alias_of_key(route: &Route, headers: &HeaderMap) -> bool {
    let mut others = headers.keys().filter(|name| !route.headers.contains(name));
    others.any(|name| route.headers.iter().any(|key| is_alias(key, name)))
}

/// RFC 9110 §7.6.1: fields named in `Connection` are not forwarded. With `Connection: x-tenant` the upstream would
/// answer for no tenant, while the key names one.
fn connection_drops_fields(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONNECTION).iter().any(|line| match line.to_str() {
        Ok(line) => line.split(',').map(str::trim).any(|option| {
            headers.contains_key(option) && !HOP_BY_HOP.iter().any(|field| field.eq_ignore_ascii_case(option))
        }),
        Err(_) => true,
    })
}
