//! The answer to a request, before it is counted and logged.

use std::sync::Arc;

use http::header::CACHE_STATUS;
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use super::body::Body;
use super::error::ProxyError;
use crate::metrics::NonCacheReply;
use crate::policy::Route;
use crate::policy::cache_status::CacheOutcome;

/// The response field that holds the position of a write's purge; absent if the purge was not recorded. A client that
/// sends it back gets nothing from before that purge, from any replica.
pub(super) const LARDER_POSITION: HeaderName = HeaderName::from_static("larder-position");

/// A response to the client, and how it came about.
pub(super) struct Answer {
    pub response: Response<Body>,
    /// `Err` for answers without a `Cache-Status` member (RFC 9211, section 2).
    pub outcome: Result<CacheOutcome, NonCacheReply>,
    /// The index of the route.
    pub route: Option<usize>,
}

impl Answer {
    pub(super) fn new(response: Response<Body>, outcome: CacheOutcome, route: Option<&Arc<Route>>) -> Self {
        Answer { response, outcome: Ok(outcome), route: route.map(|route| route.index) }
    }

    pub(super) fn without_cache(
        response: Response<Body>,
        reply: NonCacheReply,
        route: Option<&Arc<Route>>,
    ) -> Self {
        Answer { response, outcome: Err(reply), route: route.map(|route| route.index) }
    }

    pub(super) fn from_error(error: &ProxyError, route: Option<&Arc<Route>>) -> Self {
        Answer::without_cache(error.response(), NonCacheReply::Error, route)
    }
}

/// Adds larder's member of `Cache-Status` (RFC 9211 §2) behind those of other caches, or in the place that the fields of
/// a stored response have for it.
pub(super) fn add_cache_status(headers: &mut HeaderMap, member: HeaderValue) {
    match headers.get_mut(CACHE_STATUS) {
        Some(place) if place.is_empty() => *place = member,
        _ => drop(headers.append(CACHE_STATUS, member)),
    }
}

/// Removes the place of larder's member.
pub(super) fn remove_cache_status_place(headers: &mut HeaderMap) {
    if headers.get(CACHE_STATUS).is_some_and(HeaderValue::is_empty) {
        headers.remove(CACHE_STATUS);
    }
}
