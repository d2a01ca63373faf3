use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::policy::lifetime::MAX_STORED_LIFETIME;
use crate::policy::route::{MAX_UNTIL_PURGED_LIFETIME, Overrides, Ttl};
use crate::policy::testing::{NOW, at_once, headers, request, route, secs, store, store_for, with_ttl};

const FRESH: &str = "Cache-Control: max-age=60";
const TAG: &str = "ETag: \"1\"";

fn check(route: &Route, status: u16, response: &str, expected: Result<u64, NotStored>) {
    let lifetime = store(route, status, response).map(|terms| terms.freshness_lifetime);
    assert_eq!(lifetime, expected.map(secs), "{status} {response}");
}

fn stored(route: &Route, response: &str) -> Terms {
    store(route, 200, response).unwrap_or_else(|reason| panic!("{response}: {reason:?}"))
}

fn overriding(lifetime: bool, private: bool, no_cache: bool) -> Route {
    Route { overrides: Overrides { lifetime, private, no_cache, ..Overrides::default() }, ..with_ttl(30) }
}

#[test]
fn only_answers_to_get_are_stored() {
    let (fields, headers) = (HeaderMap::new(), headers(FRESH));
    let response = ReceivedResponse { status: StatusCode::OK, headers: &headers, exchange: at_once() };
    for method in [Method::HEAD, Method::POST, Method::PUT, Method::OPTIONS] {
        let request = request(&method, &fields);
        let answer = may_store(&with_ttl(30), Caller::InKey, &request, response);
        assert_eq!(answer, Err(NotStored::Method), "{method}");
    }
}

#[test]
fn the_route_ttl_covers_fewer_statuses_than_the_response() {
    for (status, by_route, by_response) in [
        (200, Ok(30), Ok(60)),
        (203, Ok(30), Ok(60)),
        (204, Ok(30), Ok(60)),
        (301, Ok(30), Ok(60)),
        (308, Ok(30), Ok(60)),
        (302, Err(NotStored::Status), Ok(60)),
        (404, Err(NotStored::Status), Ok(60)),
        (410, Err(NotStored::Status), Ok(60)),
        (206, Err(NotStored::Partial), Err(NotStored::Partial)),
        (304, Err(NotStored::Status), Err(NotStored::Status)),
        (101, Err(NotStored::Status), Err(NotStored::Status)),
        (299, Err(NotStored::Status), Err(NotStored::Status)),
        (401, Err(NotStored::Status), Err(NotStored::Status)),
        (429, Err(NotStored::Status), Err(NotStored::Status)),
        (499, Err(NotStored::Status), Err(NotStored::Status)),
        (500, Err(NotStored::Status), Err(NotStored::Status)),
        (503, Err(NotStored::Status), Err(NotStored::Status)),
        (999, Err(NotStored::Status), Err(NotStored::Status)),
    ] {
        check(&with_ttl(30), status, "", by_route);
        check(&with_ttl(30), status, FRESH, by_response);
    }
}

/// Another request for the same key need not get them: a proxy on one client's way sent a malformed field, say.
#[test]
fn errors_about_one_request_are_stored_only_by_the_route() {
    for code in (400..=403).chain(406..=409).chain(411..=426) {
        let named = Route { status: [(code, secs(10))].into(), ..route() };
        check(&with_ttl(30), code, FRESH, Err(NotStored::Status));
        // RFC 9110 §15.1 names 414, and `heuristic` asks for what it names.
        let heuristic = if code == 414 { Ok(60) } else { Err(NotStored::Status) };
        check(&Route { heuristic: true, ..route() }, code, FRESH, heuristic);
        check(&named, code, "", Ok(10));
    }
    for code in [404, 405, 410, 451] {
        check(&route(), code, FRESH, Ok(60));
    }
}

#[test]
fn a_route_can_name_more_statuses_each_with_its_lifetime() {
    let route = |code| Route { status: [(code, secs(10))].into(), ..route() };
    for code in [404, 500, 599, 999, 200] {
        check(&route(code), code, "", Ok(10));
        check(&route(code), code, "Cache-Control: max-age=5", Ok(5));
        check(&route(code), code, "Cache-Control: no-store", Err(NotStored::NoStore));
    }
    for code in [206, 304, 428, 429, 431, 511] {
        assert!(
            store(&route(code), code, FRESH).is_err(),
            "{code} must not be stored whatever the route says"
        );
    }
    check(&route(599), 599, "Cache-Control: must-understand", Err(NotStored::Status));
    check(&route(503), 503, "Cache-Control: must-understand", Ok(10));
}

#[test]
fn what_the_response_forbids_is_not_stored() {
    for (response, expected) in [
        ("Cache-Control: no-store", NotStored::NoStore),
        ("Cache-Control: max-age=60, No-Store", NotStored::NoStore),
        ("Cache-Control: max-age=60, no-store, must-understand", NotStored::NoStore),
        ("Cache-Control: max-age=60\nCache-Control: private", NotStored::Private),
        ("Cache-Control: max-age=60, private=\"x\"", NotStored::Private),
        ("Cache-Control: max-age=60, public, private", NotStored::Private),
        ("Cache-Control: max-age=60\nSet-Cookie: a=b", NotStored::SetCookie),
        ("Cache-Control: max-age=60\nSet-Cookie2: a=b", NotStored::SetCookie),
        ("Cache-Control: max-age=60\nVary: accept, *", NotStored::VaryStar),
        ("Cache-Control: max-age=0", NotStored::AlreadyStale),
        ("Cache-Control: max-age=60\nAge: 60", NotStored::AlreadyStale),
        ("Expires: 0", NotStored::AlreadyStale),
        ("Cache-Control: no-cache, max-age=60", NotStored::AlreadyStale),
        ("Cache-Control: no-cache=\"x\", max-age=60", NotStored::AlreadyStale),
        ("Cache-Control: no-cache, max-age=60\nETag: malformed", NotStored::AlreadyStale),
    ] {
        check(&with_ttl(30), 200, response, Err(expected));
    }
}

#[test]
fn without_a_lifetime_nothing_is_stored() {
    check(&route(), 200, "", Err(NotStored::NoLifetime));
    check(
        &route(),
        200,
        "ETag: \"1\"\nLast-Modified: Sun, 06 Nov 1993 08:49:37 GMT",
        Err(NotStored::NoLifetime),
    );
    check(&route(), 200, "Cache-Control: public", Err(NotStored::NoLifetime));
}

#[test]
fn overrides_lift_what_they_name_and_nothing_else() {
    check(&overriding(true, false, false), 200, FRESH, Ok(30));
    check(&overriding(true, false, false), 200, "Cache-Control: max-age=0", Ok(30));
    check(&overriding(true, false, false), 200, "Cache-Control: private", Err(NotStored::Private));
    check(&overriding(false, true, false), 200, "Cache-Control: private", Ok(30));
    check(&overriding(false, false, true), 200, "Cache-Control: no-cache", Ok(30));
    check(&overriding(false, false, true), 200, "Cache-Control: no-cache, max-age=60", Ok(60));
    for response in ["Cache-Control: no-store", "Set-Cookie: a=b", "Vary: *"] {
        assert!(store(&overriding(true, true, true), 200, response).is_err(), "{response}");
    }
    let upstream_only = Route { ttl: Ttl::Upstream, ..overriding(true, true, true) };
    check(&upstream_only, 200, FRESH, Ok(60));
}

#[test]
fn credentialed_requests_fill_responses_marked_shared_only() {
    let store = |response| {
        store_for(Caller::Credentialed { until: None }, &overriding(false, true, false), 200, response)
    };
    for response in
        ["Cache-Control: public", "Cache-Control: s-maxage=5", "Cache-Control: s-maxage=5, max-age=0"]
    {
        assert!(store(response).is_ok_and(|terms| terms.open_to_credentials), "{response}");
    }
    for response in [
        "",
        FRESH,
        "Cache-Control: must-revalidate",
        "Cache-Control: s-maxage=0",
        "Cache-Control: s-maxage=x",
        "Cache-Control: public=1",
        "Cache-Control: public, private",
    ] {
        assert_eq!(store(response), Err(NotStored::Credentials), "{response}");
    }
    assert!(!stored(&with_ttl(30), FRESH).open_to_credentials);
}

#[test]
fn the_route_ttl_counts_from_receipt_max_age_from_origin() {
    let old = "Age: 20";
    let by_route = stored(&with_ttl(30), old);
    assert_eq!((by_route.age(NOW), by_route.ttl(NOW)), (secs(20), 30));
    let by_response = stored(&with_ttl(30), &format!("{FRESH}\n{old}"));
    assert_eq!((by_response.age(NOW), by_response.ttl(NOW)), (secs(20), 40));
    check(&with_ttl(30), 200, "Date: Sun, 06 Nov 1904 08:49:37 GMT", Ok(30 + NOW.as_secs()));
}

#[test]
fn until_purged_ends_with_the_safety_expiry() {
    let route = Route { ttl: Ttl::UntilPurged, stale_if_error: secs(60), ..route() };
    for response in ["", TAG, "Age: 1000"] {
        let terms = stored(&route, response);
        assert_eq!(terms.expires_at, NOW.plus(MAX_UNTIL_PURGED_LIFETIME), "{response}");
        assert!(terms.is_fresh(NOW.plus(MAX_UNTIL_PURGED_LIFETIME - secs(1))), "{response}");
    }
    check(&route, 200, FRESH, Ok(60));
}

#[test]
fn must_revalidate_closes_the_stale_windows() {
    let route = Route { stale_while_revalidate: secs(7), stale_if_error: secs(8), ..with_ttl(30) };
    for (response, expected) in [
        ("", (7, 8)),
        ("Cache-Control: stale-while-revalidate=1", (1, 8)),
        ("Cache-Control: stale-if-error=2", (7, 2)),
        ("Cache-Control: stale-if-error=x", (7, 0)),
        ("Cache-Control: must-revalidate", (0, 0)),
        ("Cache-Control: proxy-revalidate, stale-if-error=2", (0, 0)),
        ("Cache-Control: s-maxage=5, must-revalidate", (0, 0)),
        ("Cache-Control: no-cache, stale-if-error=2\nETag: \"1\"", (0, 0)),
    ] {
        let terms = stored(&route, response);
        let windows = (terms.stale_while_revalidate, terms.stale_if_error);
        assert_eq!(windows, (secs(expected.0), secs(expected.1)), "{response}");
    }
}

#[test]
fn s_maxage_closes_the_windows_that_the_operator_does_not_open() {
    let both = "Cache-Control: s-maxage=5, stale-while-revalidate=1, stale-if-error=2";
    let overriding = Overrides { s_maxage_revalidation: true, ..Overrides::default() };
    for (window, overrides, response, expected) in [
        (0, Overrides::default(), both, (0, 0)),
        (7, Overrides::default(), both, (1, 0)),
        (7, Overrides::default(), "Cache-Control: s-maxage=5", (7, 0)),
        (0, overriding, both, (1, 2)),
        (7, overriding, "Cache-Control: s-maxage=5", (7, 8)),
        (7, overriding, "Cache-Control: s-maxage=5, proxy-revalidate", (0, 0)),
    ] {
        let route =
            Route { stale_while_revalidate: secs(window), stale_if_error: secs(8), overrides, ..route() };
        let terms = stored(&route, response);
        let windows = (terms.stale_while_revalidate, terms.stale_if_error);
        assert_eq!(windows, (secs(expected.0), secs(expected.1)), "{window} {overrides:?} {response}");
        // A request's max-stale opens nothing that s-maxage closes.
        assert_eq!(terms.must_revalidate, !overrides.s_maxage_revalidation || response.contains("proxy"));
    }
}

#[test]
fn a_response_is_kept_while_it_can_be_served_or_validated() {
    let route = Route { stale_while_revalidate: secs(20), stale_if_error: secs(10), ..with_ttl(30) };
    for (response, expected) in [
        ("", 50),
        ("Age: 5", 50),
        ("Cache-Control: max-age=60\nAge: 5", 75),
        ("ETag: \"1\"", 30 + 600),
        ("Last-Modified: Sun, 06 Nov 1993 08:49:37 GMT", 30 + 600),
        ("Last-Modified: yesterday", 50),
        ("Cache-Control: max-age=3600\nETag: \"1\"", 7200),
        ("Cache-Control: max-age=3600\nAge: 7200\nETag: \"1\"", 3600),
        ("Cache-Control: max-age=864000\nETag: \"1\"", 864_000 + 86_400),
        ("Cache-Control: max-age=0\nETag: \"1\"", 600),
        ("Cache-Control: no-cache\nETag: \"1\"", 600),
        ("Cache-Control: max-age=99999999999", 399 * 86_400),
    ] {
        assert_eq!(stored(&route, response).expires_at.since(NOW), secs(expected), "{response}");
    }
}

#[test]
fn no_cache_is_stored_to_be_validated_each_time() {
    for response in
        ["Cache-Control: no-cache\nETag: \"1\"", "Cache-Control: no-cache, max-age=60\nETag: \"1\""]
    {
        assert!(stored(&route(), response).always_validate, "{response}");
    }
    assert!(!stored(&overriding(false, false, true), "Cache-Control: no-cache").always_validate);
}

#[test]
fn no_response_outlives_the_record_of_its_purge() {
    assert!(MAX_STORED_LIFETIME < crate::purge::IndexBounds::default().max_lifetime);
}

proptest! {
    #[test]
    fn stored_lifetimes_are_useful_and_bounded(
        ttl in proptest::sample::select(vec![Ttl::Upstream, Ttl::UntilPurged, Ttl::For(Duration::MAX), Ttl::For(secs(0))]),
        window: u64,
        response in "(Age: [0-9]{1,12}\n)?(ETag: \"x\"\n)?Cache-Control: (max-age=[0-9]{1,12}|no-cache|public)",
    ) {
        let route = Route { ttl, stale_if_error: secs(window), ..route() };
        if let Ok(terms) = store(&route, 200, &response) {
            prop_assert!(terms.expires_at > NOW);
            prop_assert!(terms.expires_at <= NOW.plus(MAX_STORED_LIFETIME));
        }
    }
}
