use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};

use crate::policy::classify::{CacheLookup, Caller};
use crate::policy::miss_reason::MissReason;
use crate::policy::reuse::{Reuse, assess};
use crate::policy::route::Ttl;
use crate::policy::testing::{NOW, lookup, request, route, secs, store, stored, with_ttl};
use crate::policy::{Fingerprint, Route};
use crate::stored_response::EvaluatedUnder;

/// Stores under `then` and assesses 20 seconds later under `now`.
fn check(then: Route, now: Route, status: u16, response: &str, expected: Reuse) {
    let told_apart = |mut route: Route| {
        route.lifetime_fingerprint = Fingerprint::from_lifetimes(&route);
        Arc::new(route)
    };
    let (then, now) = (told_apart(then), told_apart(now));
    let mut head = stored(response, store(&then, status, response).expect("storable then"));
    head.status = status.try_into().expect("a status");
    let fields = HeaderMap::new();
    for judged_by in [EvaluatedUnder::new(then.lifetime_fingerprint), EvaluatedUnder::default()] {
        head.evaluated_under = judged_by;
        let request = request(&Method::GET, &fields);
        let found = assess(&head, &lookup(&now, Caller::InKey), &request, None, NOW.plus(secs(20)));
        assert_eq!(found, expected, "{response}");
    }
}

fn fresh(ttl: i64) -> Reuse {
    Reuse::Fresh { age: secs(20), ttl }
}

#[test]
fn a_ttl_that_was_shortened_is_shortened_for_what_is_stored() {
    check(with_ttl(60), with_ttl(60), 200, "", fresh(40));
    check(with_ttl(60), with_ttl(30), 200, "", fresh(10));
    check(with_ttl(60), with_ttl(10), 200, "", Reuse::No(MissReason::Expired));
    let until_purged = Route { ttl: Ttl::UntilPurged, ..route() };
    check(until_purged, with_ttl(30), 200, "", fresh(10));
}

#[test]
fn a_silent_source_limits_hits_to_the_fallback_ttl() {
    let windows = |ttl| Route { ttl, stale_while_revalidate: secs(60), stale_if_error: secs(60), ..route() };
    for (ttl, fallback, after, expected) in [
        (Ttl::UntilPurged, None, 20, Reuse::Fresh { age: secs(20), ttl: 7 * 24 * 3600 - 20 }),
        (Ttl::UntilPurged, Some(30), 20, Reuse::Fresh { age: secs(20), ttl: 10 }),
        (Ttl::UntilPurged, Some(20), 20, Reuse::Validate { age: secs(20), ttl: 0, if_error: false }),
        // Shorter lifetimes are unchanged.
        (Ttl::For(secs(30)), Some(40), 20, Reuse::Fresh { age: secs(20), ttl: 10 }),
        (Ttl::For(secs(30)), Some(40), 35, Reuse::StaleWhileRevalidate { age: secs(35), ttl: -5 }),
        (Ttl::For(secs(30)), Some(40), 45, Reuse::Validate { age: secs(45), ttl: -15, if_error: false }),
        (Ttl::For(secs(30)), None, 45, Reuse::StaleWhileRevalidate { age: secs(45), ttl: -15 }),
        (Ttl::For(secs(60)), Some(30), 35, Reuse::Validate { age: secs(35), ttl: -5, if_error: false }),
    ] {
        let now = Arc::new(windows(ttl));
        let head = stored("", store(&now, 200, "").expect("storable"));
        let fields = HeaderMap::new();
        let lookup = CacheLookup { fallback_ttl: fallback.map(secs), ..lookup(&now, Caller::InKey) };
        let found = assess(&head, &lookup, &request(&Method::GET, &fields), None, NOW.plus(secs(after)));
        assert_eq!(found, expected, "{ttl:?} {fallback:?} {after}");
    }
}

/// Age on arrival does not count as time in the store.
#[test]
fn the_fallback_counts_from_when_a_response_came() {
    let now = Arc::new(Route { ttl: Ttl::UntilPurged, ..route() });
    let head = stored("age: 10", store(&now, 200, "age: 10").expect("storable"));
    let fields = HeaderMap::new();
    let lookup = CacheLookup { fallback_ttl: Some(secs(30)), ..lookup(&now, Caller::InKey) };
    for (after, expected) in [
        (29, Reuse::Fresh { age: secs(39), ttl: 1 }),
        (30, Reuse::Validate { age: secs(40), ttl: 0, if_error: false }),
    ] {
        let found = assess(&head, &lookup, &request(&Method::GET, &fields), None, NOW.plus(secs(after)));
        assert_eq!(found, expected, "{after}");
    }
}

#[test]
fn a_ttl_that_was_lengthened_is_not_for_what_is_stored() {
    check(with_ttl(30), with_ttl(60), 200, "", fresh(10));
    check(with_ttl(30), Route { ttl: Ttl::UntilPurged, ..route() }, 200, "", fresh(10));
}

#[test]
fn the_lifetime_that_the_response_gave_itself_stays() {
    check(with_ttl(60), with_ttl(10), 200, "cache-control: max-age=100", fresh(80));
}

#[test]
fn what_would_not_be_kept_now_is_not_used() {
    check(with_ttl(60), route(), 200, "", Reuse::No(MissReason::OtherRules));
    let errors = Route { status: [(404, secs(60))].into(), ..route() };
    check(errors.clone(), errors.clone(), 404, "", fresh(40));
    check(errors, route(), 404, "", Reuse::No(MissReason::OtherRules));
}

#[test]
fn what_is_of_no_use_any_more_is_so_for_what_is_stored() {
    let obeying = |request_directives| Route { request_directives, ..with_ttl(10) };
    check(
        obeying(true),
        obeying(true),
        200,
        "",
        Reuse::Validate { age: secs(20), ttl: -10, if_error: false },
    );
    check(obeying(true), obeying(false), 200, "", Reuse::No(MissReason::Expired));
}

#[test]
fn windows_for_stale_responses_are_the_shorter_ones() {
    let stale = |window: Duration| Route { stale_while_revalidate: window, ..with_ttl(10) };
    let served = Reuse::StaleWhileRevalidate { age: secs(20), ttl: -10 };
    check(stale(secs(60)), stale(secs(60)), 200, "etag: \"1\"", served);
    let validated = Reuse::Validate { age: secs(20), ttl: -10, if_error: false };
    check(stale(secs(60)), stale(secs(5)), 200, "etag: \"1\"", validated);
    check(stale(secs(5)), stale(secs(60)), 200, "etag: \"1\"", validated);
}
