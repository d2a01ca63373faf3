//! What becomes of a request whose route caches, beside the look into the store.

use http::Method;
use http::header::{IF_MATCH, IF_UNMODIFIED_SINCE, RANGE};

use super::classify::PassReason;
use super::request_directives::obeyed;
use super::{RequestHead, Route};

/// What becomes of it if nothing that is stored answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMiss {
    /// Fetched, and stored if the response allows.
    Fetch,
    /// A HEAD: forwarded as it is, and nothing is stored.
    Head,
    Pass(PassReason),
    /// RFC 9111 §5.2.1.7, on a route that obeys the request: 504.
    OnlyIfCached,
}

/// The upstream judges what only it can know: nothing stored answers such a request.
pub fn passes_unseen(request: &RequestHead<'_>) -> Option<PassReason> {
    [IF_MATCH, IF_UNMODIFIED_SINCE].iter().any(|name| request.has(name)).then_some(PassReason::Precondition)
}

pub fn on_miss(route: &Route, request: &RequestHead<'_>) -> OnMiss {
    if obeyed(route, request.headers).is_some_and(|directives| directives.only_if_cached) {
        return OnMiss::OnlyIfCached;
    }
    match *request.method {
        Method::HEAD => OnMiss::Head,
        _ if request.has(&RANGE) => OnMiss::Pass(PassReason::Range),
        _ => OnMiss::Fetch,
    }
}
