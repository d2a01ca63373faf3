//! Whether a response that may not be stored ends the stale windows of the stored one (RFC 5861).

use http::StatusCode;

use super::Route;
use super::classify::Caller;
use super::route::Shared;

/// The effect of a response on the stored ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withdrawal {
    Nothing,
    /// The stored response that it would have replaced is not served stale any more.
    Response,
    /// The resource is gone: no variant of it is served stale any more.
    AllVariants,
}

/// Decides whether the resource is gone, or its present response is not for the cache: then the stored one is not served
/// stale any more.
///
/// `is_caller_in_key`: every credential of the request is in the key, or it has none. A response to another caller says
/// nothing of the resource; a 401 or 403 does so only where each caller has a key of its own. Other errors are about the
/// request or the moment.
pub(crate) fn withdrawal(
    route: &Route,
    caller: Caller,
    is_caller_in_key: bool,
    status: StatusCode,
) -> Withdrawal {
    let is_withdrawn = match status.as_u16() {
        _ if !caller.is_in_key() => false,
        404 | 410 | 451 => return Withdrawal::AllVariants,
        401 | 403 => is_caller_in_key && route.shared == Shared::No,
        200..=399 => is_caller_in_key,
        _ => false,
    };
    if is_withdrawn { Withdrawal::Response } else { Withdrawal::Nothing }
}

/// Like [`withdrawal`], for a response to a HEAD. It was not to be stored, so that a 2xx or 304 says nothing.
pub(crate) fn withdrawal_by_head(
    route: &Route,
    caller: Caller,
    is_caller_in_key: bool,
    status: StatusCode,
) -> Withdrawal {
    match status.is_success() || status == StatusCode::NOT_MODIFIED {
        true => Withdrawal::Nothing,
        false => withdrawal(route, caller, is_caller_in_key, status),
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
            withdrawal(route, caller, in_key, StatusCode::from_u16(status).unwrap()) != Withdrawal::Nothing
        };
        for status in [200, 302, 401, 403, 404, 410, 451] {
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
            (451, true, true),
            (200, true, false),
            (401, false, false),
            (403, false, false),
        ] {
            assert_eq!(ends(&shared, Caller::InKey, true, status), by_anonymous, "{status}");
            assert_eq!(ends(&shared, Caller::InKey, false, status), by_a_caller, "{status}");
        }
    }

    #[test]
    fn only_a_resource_that_is_gone_takes_its_variants_along() {
        let route = route("/a");
        for status in [200, 204, 206, 301, 302, 304, 401, 403, 404, 410, 451, 500] {
            let status = StatusCode::from_u16(status).unwrap();
            let by_get = withdrawal(&route, Caller::InKey, true, status);
            assert_eq!(
                by_get == Withdrawal::AllVariants,
                [404, 410, 451].contains(&status.as_u16()),
                "{status}"
            );
            let by_head = withdrawal_by_head(&route, Caller::InKey, true, status);
            let is_told = ![200, 204, 206, 304].contains(&status.as_u16());
            assert_eq!(by_head, if is_told { by_get } else { Withdrawal::Nothing }, "{status}");
        }
    }
}
