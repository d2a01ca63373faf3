//! The fate of a request on a caching route that the store does not answer.

use http::Method;
use http::header::{IF_MATCH, IF_UNMODIFIED_SINCE};

use super::classify::PassReason;
use super::request_directives::honored_directives;
use super::{RequestHead, Route};

/// The action if no stored response answers the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMiss {
    /// Fetch the whole response, also for a range of it, and store it if allowed.
    Fetch,
    /// A HEAD: forward it, and store nothing.
    Head,
    /// RFC 9111 §5.2.1.7, on routes that honour request directives: answer 504.
    OnlyIfCached,
}

/// Whether only the upstream can evaluate the request's preconditions.
pub(crate) fn requires_upstream(request: &RequestHead<'_>) -> Option<PassReason> {
    [IF_MATCH, IF_UNMODIFIED_SINCE].iter().any(|name| request.has(name)).then_some(PassReason::Precondition)
}

pub(crate) fn decide_on_miss(route: &Route, request: &RequestHead<'_>) -> OnMiss {
    if honored_directives(route, request.headers).is_some_and(|directives| directives.only_if_cached) {
        return OnMiss::OnlyIfCached;
    }
    match *request.method {
        Method::HEAD => OnMiss::Head,
        _ => OnMiss::Fetch,
    }
}
