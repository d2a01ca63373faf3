//! The first question: is this request to be answered from the store, passed, or is it a write?

use std::sync::Arc;

use http::HeaderName;

use super::routes::Routes;
use super::{CacheKey, RequestHead, Route};

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
}

impl<'r> Lookup<'r> {
    /// The same under another key: a variant's.
    pub fn under(&self, key: CacheKey) -> Lookup<'r> {
        Lookup { route: self.route, key, query: None, caller: self.caller }
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
            PassReason::Range => "range",
            PassReason::Upgrade => "upgrade",
        }
    }
}

/// `has_content`: the request has a body. `credentials`: the fields that identify callers.
pub fn classify<'r>(
    _routes: &'r Routes,
    _request: &RequestHead<'_>,
    _has_content: bool,
    _credentials: &[HeaderName],
) -> Class<'r> {
    todo!()
}
