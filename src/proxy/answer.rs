//! The answer to a request, before it is counted and logged.

use std::sync::Arc;

use http::{HeaderName, Response};

use super::body::Body;
use super::error::ProxyError;
use crate::metrics::NonCacheReply;
use crate::policy::Route;
use crate::policy::cache_status::CacheOutcome;

pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

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
