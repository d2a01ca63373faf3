//! `Cache-Control` of requests (RFC 9111 §5.2.1), on routes that honour it.
//!
//! By default it is ignored: it is advice, and callers who can bypass the store can stampede the upstream.

use std::time::Duration;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, PRAGMA};

use super::Route;
use super::cache_control::CacheControl;
use crate::clock::Timestamp;
use crate::stored_response::Terms;

/// The directives that `route` honours; `None` if it honours none.
pub(crate) fn honored_directives(route: &Route, request_headers: &HeaderMap) -> Option<CacheControl> {
    if !route.request_directives {
        return None;
    }
    let mut directives = CacheControl::parse(request_headers);
    // §5.4: "When the Cache-Control header field is also present … Pragma is ignored".
    if !request_headers.contains_key(CACHE_CONTROL) && pragma_says_no_cache(request_headers) {
        directives.no_cache = true;
    }
    Some(directives)
}

/// §5.2.1.1.
pub(super) fn exceeds_max_age(directives: &CacheControl, age: Duration) -> bool {
    directives.max_age.is_some_and(|most| age > most)
}

/// §5.2.1.3 and §5.2.1.4; `max-stale` does not override them.
pub(super) fn requires_validation(directives: &CacheControl, terms: &Terms, age: Duration) -> bool {
    let is_too_close =
        directives.min_fresh.is_some_and(|least| terms.freshness_lifetime < age.saturating_add(least));
    directives.no_cache || is_too_close
}

/// Whether `max-stale` accepts the current staleness.
pub(super) fn accepts_stale(directives: &CacheControl, terms: &Terms, now: Timestamp) -> bool {
    match directives.max_stale {
        None => false,
        Some(None) => true,
        Some(Some(most)) => terms.age(now) <= terms.freshness_lifetime.saturating_add(most),
    }
}

fn pragma_says_no_cache(request_headers: &HeaderMap) -> bool {
    let lines =
        request_headers.get_all(PRAGMA).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    lines.map(<[u8]>::trim_ascii).any(|member| member.eq_ignore_ascii_case(b"no-cache"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Method;

    use super::*;
    use crate::policy::classify::Caller;
    use crate::policy::reuse::{Reuse, assess};
    use crate::policy::testing::{NOW, headers, lookup, request, route, secs, stored, terms};

    /// Assesses a response that is fresh for 60 s, `after` seconds later.
    fn assessed(obeys: bool, response: Terms, fields: &str, soft_purged: bool, after: u64) -> &'static str {
        let route = Arc::new(Route { request_directives: obeys, ..route() });
        let fields = headers(fields);
        let request = request(&Method::GET, &fields);
        match assess(
            &stored("", response),
            &lookup(&route, Caller::InKey),
            &request,
            soft_purged.then_some(NOW),
            NOW.plus(secs(after)),
        ) {
            Reuse::Fresh { .. } => "fresh",
            Reuse::StaleWhileRevalidate { .. } => "stale-while-revalidate",
            Reuse::StaleOnRequest { .. } => "stale as asked",
            Reuse::Validate { if_error: true, .. } => "validate, or stale if that fails",
            Reuse::Validate { if_error: false, .. } => "validate",
            Reuse::ValidateOnRequest { .. } => "validate as asked",
            Reuse::No(_) => "no",
        }
    }

    #[test]
    fn a_route_that_obeys_them_weighs_each_directive() {
        for (fields, after, expected) in [
            ("", 10, "fresh"),
            ("Cache-Control: no-cache", 10, "validate as asked"),
            ("Pragma: no-cache", 10, "validate as asked"),
            ("Pragma: x, No-Cache", 10, "validate as asked"),
            ("Pragma: no-cache\nCache-Control: x", 10, "fresh"),
            ("Cache-Control: max-age=10", 10, "fresh"),
            ("Cache-Control: max-age=9", 10, "validate as asked"),
            ("Cache-Control: max-age=oops", 10, "validate as asked"),
            ("Cache-Control: max-age=9, max-stale=100", 10, "fresh"),
            ("Cache-Control: min-fresh=50", 10, "fresh"),
            ("Cache-Control: min-fresh=51", 10, "validate as asked"),
            ("Cache-Control: max-stale", 70, "stale as asked"),
            ("Cache-Control: max-stale=10", 70, "stale as asked"),
            ("Cache-Control: max-stale=9", 70, "validate"),
            ("Cache-Control: max-stale=oops", 70, "validate"),
            ("Cache-Control: max-stale, no-cache", 70, "validate"),
            ("Cache-Control: max-stale, max-age=69", 70, "validate"),
            ("Cache-Control: max-stale, min-fresh=1", 70, "validate"),
            ("Cache-Control: max-stale", 120, "no"),
        ] {
            assert_eq!(assessed(true, terms(), fields, false, after), expected, "{fields}");
            let by_default = if after < 60 {
                "fresh"
            } else if after < 120 {
                "validate"
            } else {
                "no"
            };
            assert_eq!(assessed(false, terms(), fields, false, after), by_default, "{fields}");
        }
    }

    #[test]
    fn a_refused_stale_response_is_not_used_on_failure() {
        let if_error = || Terms { stale_if_error: secs(50), ..terms() };
        for (fields, expected) in [
            ("", "validate, or stale if that fails"),
            ("Cache-Control: max-age=70", "validate, or stale if that fails"),
            ("Cache-Control: max-age=69", "validate"),
            ("Cache-Control: min-fresh=0", "validate"),
            ("Cache-Control: no-cache", "validate"),
        ] {
            assert_eq!(assessed(true, if_error(), fields, false, 70), expected, "{fields}");
        }
        // The same as within the other window.
        let while_revalidate = Terms { stale_while_revalidate: secs(50), ..if_error() };
        assert_eq!(
            assessed(true, while_revalidate, "Cache-Control: max-age=69", false, 70),
            "validate as asked"
        );
    }

    #[test]
    fn what_must_be_validated_is_not_served_stale_whatever_is_asked() {
        for response in
            [Terms { must_revalidate: true, ..terms() }, Terms { always_validate: true, ..terms() }]
        {
            assert_eq!(assessed(true, response, "Cache-Control: max-stale", false, 70), "validate");
        }
        // A soft purge makes a response stale by an unknown amount.
        assert_eq!(assessed(true, terms(), "Cache-Control: max-stale=1000", true, 10), "validate");
    }
}
