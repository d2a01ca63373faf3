use proptest::prelude::*;

use super::*;
use crate::purge::PurgeVersion;

const ALL_FWD: [Fwd; 7] =
    [Fwd::Bypass, Fwd::Method, Fwd::UriMiss, Fwd::VaryMiss, Fwd::Miss, Fwd::Request, Fwd::Stale];

const SOME_DETAILS: [Option<Detail>; 9] = [
    None,
    Some(Detail::Pass(PassReason::RouteNeverCaches)),
    Some(Detail::NotStored(NotStored::TooManyTags)),
    Some(Detail::Miss(MissReason::OtherCaller)),
    Some(Detail::Miss(MissReason::Purged(PurgeVersion(u64::MAX)))),
    Some(Detail::StaleWhileRevalidate),
    Some(Detail::StaleIfError),
    Some(Detail::WouldHit),
    Some(Detail::WouldStore),
];

fn check(outcome: CacheOutcome, expected: &str) {
    assert_eq!(outcome.to_string(), expected);
    assert_eq!(outcome.to_header_value(), expected);
}

#[test]
fn parameters_stand_in_the_order_of_the_rfc() {
    check(CacheOutcome::Hit { ttl: 23, detail: None }, "larder; hit; ttl=23");
    check(
        CacheOutcome::Hit { ttl: -2, detail: Some(Detail::StaleIfError) },
        "larder; hit; ttl=-2; detail=stale-if-error",
    );
    check(CacheOutcome::pass(PassReason::Method), "larder; fwd=method; detail=method");
    check(CacheOutcome::pass(PassReason::Range), "larder; fwd=bypass; detail=range");
    check(
        CacheOutcome::forwarded(Fwd::UriMiss, Some(Detail::NotStored(NotStored::NoStore))),
        "larder; fwd=uri-miss; detail=no-store",
    );
    check(
        CacheOutcome::stored(Fwd::UriMiss, Some(60))
            .because(Some(MissReason::Purged(PurgeVersion(1_764_000)))),
        "larder; fwd=uri-miss; ttl=60; stored; detail=purged:1764000",
    );
    check(
        CacheOutcome::forwarded(Fwd::UriMiss, Some(Detail::NotStored(NotStored::NoStore)))
            .because(Some(MissReason::Expired)),
        "larder; fwd=uri-miss; detail=no-store",
    );
    check(
        CacheOutcome::Forwarded {
            fwd: Fwd::Stale,
            fwd_status: Some(304),
            stored: true,
            collapsed: true,
            ttl: Some(60),
            detail: Some(Detail::Miss(MissReason::Expired)),
        },
        "larder; fwd=stale; fwd-status=304; ttl=60; stored; collapsed; detail=expired",
    );
}

fn outcomes() -> impl Strategy<Value = CacheOutcome> {
    let detail = proptest::sample::select(SOME_DETAILS.to_vec());
    let hit = (any::<i64>(), detail.clone()).prop_map(|(ttl, detail)| CacheOutcome::Hit { ttl, detail });
    let fwd = proptest::sample::select(ALL_FWD.to_vec());
    let forwarded = (fwd, any::<Option<u16>>(), any::<bool>(), any::<bool>(), any::<Option<i64>>(), detail);
    let forwarded = forwarded.prop_map(|(fwd, fwd_status, stored, collapsed, ttl, detail)| {
        CacheOutcome::Forwarded { fwd, fwd_status, stored, collapsed, ttl, detail }
    });
    prop_oneof![hit, forwarded]
}

proptest! {
    #[test]
    fn a_member_says_hit_or_fwd_and_never_both(outcome in outcomes()) {
        let text = outcome.to_string();
        let parameters: Vec<_> = text.split("; ").collect();
        let hits = parameters.iter().filter(|parameter| **parameter == "hit").count();
        let forwards = parameters.iter().filter(|parameter| parameter.starts_with("fwd=")).count();
        prop_assert_eq!(hits + forwards, 1);
    }

    #[test]
    fn every_member_is_a_structured_field_and_fits_its_buffer(outcome in outcomes()) {
        let text = outcome.to_string();
        prop_assert!(text.len() <= MAX_MEMBER_BYTES);
        prop_assert_eq!(outcome.to_header_value(), text.as_str());
        let list = sfv::Parser::new(&text).parse::<sfv::List>();
        prop_assert_eq!(list.map(|list| list.len()).ok(), Some(1));
    }
}
