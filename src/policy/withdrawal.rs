//! Whether a response that may not be stored ends the stale windows of the stored one (RFC 5861).

use http::StatusCode;

use super::Route;
use super::classify::Caller;
use super::route::Shared;

/// Whether the resource is gone, or its present response is not for the cache: then the stored one is not served stale any
/// more.
///
/// `is_caller_in_key`: every credential of the request is in the key, or it has none. A response to another caller says
/// nothing of the resource; a 401 or 403 does so only where each caller has a key of its own.
pub fn ends_stale_windows(route: &Route, caller: Caller, is_caller_in_key: bool, status: StatusCode) -> bool {
    match status.as_u16() {
        _ if !caller.is_in_key() => false,
        404 | 410 => true,
        401 | 403 => is_caller_in_key && route.shared == Shared::No,
        200..=399 => is_caller_in_key,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixtures::route;

    #[test]
    fn only_who_is_in_the_key_speaks_for_the_resource() {
        let plain = route("/a");
        let shared = Route { shared: Shared::All, ..route("/a") };
        let ends = |route, caller, in_key, status| {
            ends_stale_windows(route, caller, in_key, StatusCode::from_u16(status).unwrap())
        };
        for status in [200, 302, 401, 403, 404, 410] {
            assert!(ends(&plain, Caller::InKey, true, status), "{status}");
            assert!(!ends(&plain, Caller::Credentialed { until: None }, false, status), "{status}");
        }
        for status in [400, 408, 429, 500, 503] {
            assert!(!ends(&plain, Caller::InKey, true, status), "{status}");
        }
        // All callers share the response; but another caller may be let in.
        for (status, by_anonymous, by_a_caller) in [
            (404, true, true),
            (410, true, true),
            (200, true, false),
            (401, false, false),
            (403, false, false),
        ] {
            assert_eq!(ends(&shared, Caller::InKey, true, status), by_anonymous, "{status}");
            assert_eq!(ends(&shared, Caller::InKey, false, status), by_a_caller, "{status}");
        }
    }
}
