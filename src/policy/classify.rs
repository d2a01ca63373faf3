//! The first question: is this request to be answered from the store, passed, or is it a write?
//!
//! What can change the response is in the key, or not forwarded, or makes the request pass.

#[cfg(test)]
mod key_properties;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Method, header};

use super::path::{is_normal, normal_form};
use super::route::Mode;
use super::routes::Routes;
use super::{CacheKey, RequestHead, Route, credentials};
use crate::purge::LoosePath;

#[derive(Debug)]
pub enum Class<'r> {
    /// GET or HEAD that may be answered from the store.
    Lookup(Lookup<'r>),
    /// Safe, and nothing is stored or reused.
    Pass { reason: PassReason, route: Option<&'r Arc<Route>> },
    /// Any method but GET, HEAD, OPTIONS and TRACE: what it purges is `invalidation`'s question.
    Write { route: Option<&'r Arc<Route>> },
}

#[derive(Debug)]
pub struct Lookup<'r> {
    pub route: &'r Arc<Route>,
    pub key: CacheKey,
    /// The query to forward: the one in the key.
    pub query: Option<String>,
    pub caller: Caller,
    /// While a source of change events is silent that purges the route's tags: nothing older is fresh.
    pub fallback_ttl: Option<Duration>,
}

impl<'r> Lookup<'r> {
    /// The same under another key: a variant's.
    pub fn under(&self, key: CacheKey) -> Lookup<'r> {
        Lookup { route: self.route, key, query: None, caller: self.caller, fallback_ttl: self.fallback_ttl }
    }
}

/// What may be shared with this caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// No credential, or one that stands in the key, or the route is `shared`.
    InKey,
    /// Carries a credential that is not in the key: only a response that says so may answer it (RFC 9111 §3.5).
    Credentialed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PassReason {
    /// OPTIONS, TRACE.
    Method,
    NoRoute,
    RouteOff,
    /// `ttl: never`, or a route that only purges.
    RouteNeverCaches,
    /// The path is not spelled in its normal form.
    PathSpelling,
    /// A `per:` route, and the request does not say who asks.
    NoCredential,
    /// A GET with content.
    Content,
    /// A field such as `X-HTTP-Method-Override` or `X-Original-URL` may change what the upstream answers.
    OverrideField,
    /// `If-Match` or `If-Unmodified-Since`: the upstream judges those.
    Precondition,
    /// `Range` on something that is not stored.
    Range,
    Upgrade,
    /// The request says what it has written, and nobody can tell here what was purged since.
    Position,
}

impl PassReason {
    /// For the log, the metric and `Cache-Status`.
    pub fn as_str(self) -> &'static str {
        match self {
            PassReason::Method => "method",
            PassReason::NoRoute => "no-route",
            PassReason::RouteOff => "route-off",
            PassReason::RouteNeverCaches => "route-never-caches",
            PassReason::PathSpelling => "path-spelling",
            PassReason::NoCredential => "no-credential",
            PassReason::Content => "request-content",
            PassReason::OverrideField => "override-field",
            PassReason::Precondition => "precondition",
            PassReason::Position => "position",
            PassReason::Range => "range",
            PassReason::Upgrade => "upgrade",
        }
    }
}

/// Fields by which some frameworks and servers let a request ask for another method, path or host than it is for.
/// `X-Forwarded-*` and `Forwarded` are not among them: larder sets those itself.
pub static OVERRIDE_FIELDS: [HeaderName; 8] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
    HeaderName::from_static("x-original-host"),
    HeaderName::from_static("x-host"),
    HeaderName::from_static("x-http-host-override"),
];

/// Fields that never go forward as they came, so that naming them in `Connection` changes nothing.
const HOP_BY_HOP: [&str; 7] =
    ["keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-connection", "http2-settings"];

/// `has_content`: the request has a body. `credentials`: the fields that identify callers.
pub fn classify<'r>(
    routes: &'r Routes,
    request: &RequestHead<'_>,
    has_content: bool,
    credentials: &[HeaderName],
) -> Class<'r> {
    match *request.method {
        Method::GET | Method::HEAD => match reading(routes, request, has_content, credentials) {
            Ok(lookup) => Class::Lookup(lookup),
            Err((reason, route)) => Class::Pass { reason, route },
        },
        Method::OPTIONS | Method::TRACE => {
            Class::Pass { reason: PassReason::Method, route: routes.find(request.path) }
        }
        _ => Class::Write { route: in_any_spelling(routes, request.path).next() },
    }
}

type Passed<'r> = (PassReason, Option<&'r Arc<Route>>);

fn reading<'r>(
    routes: &'r Routes,
    request: &RequestHead<'_>,
    has_content: bool,
    credentials: &[HeaderName],
) -> Result<Lookup<'r>, Passed<'r>> {
    if request.has(&header::UPGRADE) {
        return Err((PassReason::Upgrade, routes.find(request.path)));
    }
    let route = caching_route(routes, request.path)?;
    let pass = |reason| (reason, Some(route));
    if has_content {
        return Err(pass(PassReason::Content));
    }
    if may_be_overridden(route, request) {
        return Err(pass(PassReason::OverrideField));
    }
    let credential = match &route.per {
        Some(per) => Some(credentials::value_of(per, request.headers).ok_or(pass(PassReason::NoCredential))?),
        None => None,
    };
    let query = route.query.select(request.query);
    let key = CacheKey::new(route, request, query.as_deref(), credential);
    let may_say_who = credentials.iter().any(|name| request.names.may_hold(name));
    let in_key = route.shared || !may_say_who || credentials::all_in_key(route, request.headers, credentials);
    let caller = if in_key { Caller::InKey } else { Caller::Credentialed };
    Ok(Lookup { route, key, query: query.map(Into::into), caller, fallback_ttl: None })
}

fn caching_route<'r>(routes: &'r Routes, path: &str) -> Result<&'r Arc<Route>, Passed<'r>> {
    let found = if is_normal(path) {
        routes.find(path)
    } else {
        let mut found = in_any_spelling(routes, path);
        let first = found.next();
        if let Some(caching) = first.into_iter().chain(found).find(|route| route.caches()) {
            return Err((PassReason::PathSpelling, Some(caching)));
        }
        first
    };
    let route = found.ok_or((PassReason::NoRoute, None))?;
    if route.mode == Mode::Off {
        Err((PassReason::RouteOff, found))
    } else if !route.caches() {
        Err((PassReason::RouteNeverCaches, found))
    } else if routes.is_ambiguous(path, route) {
        Err((PassReason::PathSpelling, found))
    } else {
        Ok(route)
    }
}

/// The routes that a path falls under as it is written, by its normal form, and loosely, in this order.
fn in_any_spelling<'r>(routes: &'r Routes, path: &str) -> impl Iterator<Item = &'r Arc<Route>> {
    let written = routes.find(path);
    let normal = routes.find(&normal_form(path));
    let loose = routes.find_loosely(&LoosePath::new(path));
    written.into_iter().chain(normal).chain(loose)
}

/// Whether what the upstream is asked for may be another thing than the key says. A field that the route has in its
/// key may be there.
fn may_be_overridden(route: &Route, request: &RequestHead<'_>) -> bool {
    let overridden = OVERRIDE_FIELDS.iter().any(|name| request.has(name) && !route.headers.contains(name));
    overridden || (request.names.may_hold(&header::CONNECTION) && drops_fields(request.headers))
}

/// RFC 9110 §7.6.1: fields named in `Connection` are not forwarded. With `Connection: x-tenant` the upstream would
/// answer for no tenant, and the key would say one.
fn drops_fields(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONNECTION).iter().any(|line| match line.to_str() {
        Ok(line) => line.split(',').map(str::trim).any(|option| {
            headers.contains_key(option) && !HOP_BY_HOP.iter().any(|field| field.eq_ignore_ascii_case(option))
        }),
        Err(_) => true,
    })
}
