use std::sync::Arc;

use http::{HeaderMap, Method};

use super::*;
use crate::policy::classify::Caller;
use crate::policy::testing::{KEY, NOW, lookup, request, route, secs, store, stored, terms};
use crate::policy::{CacheKey, Fingerprint, Route};
use crate::stored_response::Terms;

fn assess_at(terms: Terms, seconds: u64, soft_purged: bool) -> Reuse {
    let (fields, route) = (HeaderMap::new(), Arc::new(route()));
    let request = request(&Method::GET, &fields);
    assess(
        &stored("", terms),
        &lookup(&route, Caller::InKey),
        &request,
        soft_purged.then_some(NOW),
        NOW.plus(secs(seconds)),
    )
}

fn check(terms: &Terms, seconds: u64, expected: Reuse) {
    assert_eq!(assess_at(*terms, seconds, false), expected, "at {seconds}");
}

fn fresh(age: u64, ttl: i64) -> Reuse {
    Reuse::Fresh { age: secs(age), ttl }
}

fn while_revalidate(age: u64, ttl: i64) -> Reuse {
    Reuse::StaleWhileRevalidate { age: secs(age), ttl }
}

fn validate(age: u64, ttl: i64, if_error: bool) -> Reuse {
    Reuse::Validate { age: secs(age), ttl, if_error }
}

const EXPIRED: Reuse = Reuse::No(MissReason::Expired);

/// Fresh to 60 s, stale to 70 s (while revalidating) and 80 s (on error), kept to 120 s.
fn with_windows() -> Terms {
    Terms { stale_while_revalidate: secs(10), stale_if_error: secs(20), ..terms() }
}

#[test]
fn a_response_goes_from_fresh_to_stale_to_expired() {
    check(&terms(), 0, fresh(0, 60));
    check(&terms(), 59, fresh(59, 1));
    check(&terms(), 60, validate(60, 0, false));
    check(&terms(), 119, validate(119, -59, false));
    check(&terms(), 120, EXPIRED);
    check(&with_windows(), 59, fresh(59, 1));
    check(&with_windows(), 60, while_revalidate(60, 0));
    check(&with_windows(), 69, while_revalidate(69, -9));
    check(&with_windows(), 70, validate(70, -10, true));
    check(&with_windows(), 79, validate(79, -19, true));
    check(&with_windows(), 80, validate(80, -20, false));
}

#[test]
fn the_age_on_arrival_counts() {
    let terms = Terms { initial_age: secs(50), ..with_windows() };
    check(&terms, 9, fresh(59, 1));
    check(&terms, 10, while_revalidate(60, 0));
    check(&terms, 20, validate(70, -10, true));
}

#[test]
fn must_revalidate_allows_nothing_stale() {
    let route = Route { stale_while_revalidate: secs(10), stale_if_error: secs(20), ..route() };
    for directive in ["must-revalidate", "proxy-revalidate"] {
        let response =
            format!("ETag: \"1\"\nCache-Control: max-age=60, {directive}, stale-while-revalidate=10");
        let terms = store(&route, 200, &response).unwrap();
        check(&terms, 59, fresh(59, 1));
        check(&terms, 60, validate(60, 0, false));
        assert_eq!(assess_at(terms, 0, true), validate(0, 0, false));
    }
}

#[test]
fn no_cache_is_validated_while_fresh_and_on_error() {
    let terms = Terms { always_validate: true, ..with_windows() };
    check(&terms, 0, validate(0, 60, false));
    check(&terms, 65, validate(65, -5, false));
}

#[test]
fn a_soft_purge_makes_stale_and_begins_the_windows() {
    for (seconds, expected) in [
        (0, while_revalidate(0, 0)),
        (9, while_revalidate(9, 0)),
        (10, validate(10, 0, true)),
        (19, validate(19, 0, true)),
        (20, validate(20, 0, false)),
        (75, validate(75, -15, false)),
    ] {
        assert_eq!(assess_at(with_windows(), seconds, true), expected, "{seconds}");
    }
    // The end of freshness has begun them before.
    let wide = Terms { stale_while_revalidate: secs(30), initial_age: secs(80), ..terms() };
    assert_eq!(assess_at(wide, 9, true), while_revalidate(89, -29));
    assert_eq!(assess_at(wide, 10, true), validate(90, -30, false));
    assert_eq!(assess_at(terms(), 0, true), validate(0, 0, false));
    let on_error = Terms { stale_if_error: secs(20), ..terms() };
    assert_eq!(assess_at(on_error, 0, true), validate(0, 0, true));
}

#[test]
fn credentialed_requests_get_responses_marked_shared_only() {
    let (fields, route) = (HeaderMap::new(), Arc::new(route()));
    for (caller, open_to_credentials, expected) in [
        (Caller::InKey, false, fresh(0, 60)),
        (Caller::Credentialed { until: None }, true, fresh(0, 60)),
        (Caller::Credentialed { until: None }, false, Reuse::No(MissReason::OtherCaller)),
    ] {
        let stored = stored("", Terms { open_to_credentials, ..terms() });
        let request = request(&Method::GET, &fields);
        assert_eq!(assess(&stored, &lookup(&route, caller), &request, None, NOW), expected, "{caller:?}");
    }
}

#[test]
fn under_another_key_or_other_rules_nothing_is_reused() {
    let fields = HeaderMap::new();
    let request = request(&Method::GET, &fields);
    let other_rules = Arc::new(Route { fingerprint: Fingerprint(2), ..route() });
    let same_rules = Arc::new(route());
    let stored = stored("", terms());
    let other_key = CacheLookup { key: CacheKey([8; 32]), ..lookup(&same_rules, Caller::InKey) };
    for lookup in [lookup(&other_rules, Caller::InKey), other_key] {
        assert_eq!(assess(&stored, &lookup, &request, None, NOW), Reuse::No(MissReason::OtherRules));
    }
    assert_eq!(stored.key, KEY);
}
