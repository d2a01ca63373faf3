use std::net::IpAddr;

use super::super::refresh_failures::MIN_REFRESH_BACKOFF;
use super::*;
use crate::clock::Timestamp;
use crate::policy::fixtures::route;

const KEY: CacheKey = CacheKey([1; 32]);
const VARIANT: CacheKey = CacheKey([2; 32]);

fn table() -> (Arc<CollapseTable>, Clock) {
    let clock = Clock::manual(Timestamp::from_secs(1_000));
    (CollapseTable::new(clock.clone()), clock)
}

fn leader(table: &Arc<CollapseTable>, key: &CacheKey) -> Leader {
    match table.join(key, CallerKind::InKey, None, None) {
        Join::Leader(leader) => leader,
        _ => panic!("another request leads already"),
    }
}

fn follower(table: &Arc<CollapseTable>, key: &CacheKey) -> Arc<InFlightFetch> {
    match table.join(key, CallerKind::InKey, None, None) {
        Join::Follower(fetch) => fetch,
        _ => panic!("no request leads"),
    }
}

#[tokio::test]
async fn a_dropped_leader_ends_the_fetch_for_all() {
    let (table, _) = table();
    let lead = leader(&table, &KEY);
    let fetch = follower(&table, &KEY);
    drop(lead);
    assert!(matches!(fetch.outcome().await, FetchOutcome::Interrupted));
    leader(&table, &KEY);
}

#[tokio::test]
async fn the_first_outcome_counts() {
    let (table, _) = table();
    let lead = leader(&table, &KEY);
    let fetch = lead.fetch().clone();
    lead.complete(FetchOutcome::Uncacheable);
    lead.complete(FetchOutcome::Retry);
    assert!(matches!(fetch.outcome().await, FetchOutcome::Uncacheable));
}

#[test]
fn a_refused_fetch_is_replaced_once_for_all() {
    let (table, _) = table();
    let old = leader(&table, &KEY);
    let refused = old.fetch().clone();
    let Join::Leader(new) = table.join(&KEY, CallerKind::InKey, Some(&refused), None) else {
        panic!("not replaced")
    };
    assert!(matches!(table.join(&KEY, CallerKind::InKey, Some(&refused), None), Join::Follower(_)));
    // The old one leaves without taking the new one with it.
    drop(old);
    assert!(Arc::ptr_eq(&follower(&table, &KEY), new.fetch()));
}

#[test]
fn a_variant_is_joined_under_its_own_key() {
    let (table, _) = table();
    let lead = leader(&table, &KEY);
    lead.rekey(VARIANT);
    assert!(Arc::ptr_eq(&follower(&table, &VARIANT), lead.fetch()));
    let _other_variant = leader(&table, &KEY);
    drop(lead);
    let _again = leader(&table, &VARIANT);
}

#[test]
fn an_uncacheable_key_is_not_collapsed_for_a_while() {
    let (table, clock) = table();
    let reason = Uncacheable::ByHeaders(NotStored::Private);
    for lasts in [5, 10, 20] {
        let lasts = Duration::from_secs(lasts);
        assert_eq!(leader(&table, &KEY).mark_hit_for_miss(reason), Some(lasts));
        assert!(table.is_uncacheable(&KEY, CallerKind::InKey, || KEY));
        clock.advance(lasts);
    }
    leader(&table, &KEY).mark_hit_for_miss(reason);
    table.lead_unshared(&KEY, CallerKind::InKey).clear_hit_for_miss();
    assert!(!table.is_uncacheable(&KEY, CallerKind::InKey, || KEY));
}

#[test]
fn a_marker_of_one_kind_of_callers_is_none_of_the_other() {
    let (table, _) = table();
    let reason = Uncacheable::ByHeaders(NotStored::Private);
    table.lead_unshared(&KEY, CallerKind::OutsideKey).mark_hit_for_miss(reason);
    assert!(table.is_uncacheable(&KEY, CallerKind::OutsideKey, || KEY));
    assert!(!table.is_uncacheable(&KEY, CallerKind::InKey, || KEY));
}

fn requester(network: u8, fields: u8) -> Requester {
    Requester { fields: CacheKey([fields; 32]), network: Some(IpAddr::from([10, 0, 0, network])) }
}

#[test]
fn a_refresh_ignores_the_marker_and_obeys_the_back_off() {
    let (table, clock) = table();
    leader(&table, &KEY).mark_hit_for_miss(Uncacheable::AlwaysStale);
    let own = || requester(1, 1);
    let (route, caller) = (route("/a"), CallerKind::InKey);
    let refresh = || table.lead_refresh(&KEY, caller, &route, own);
    let lead = refresh().expect("the refresh");
    assert!(refresh().is_none(), "one at a time");
    table.failures.record((KEY, caller), clock.now(), own(), RefreshFailure::Timeout);
    drop(lead);
    assert!(refresh().is_none() && table.is_failing(&KEY, caller, own));
    clock.advance(MIN_REFRESH_BACKOFF);
    assert!(!table.is_failing(&KEY, caller, own));
    drop(refresh().expect("a second attempt"));
    table.failures.clear(&(KEY, caller));
    refresh().expect("a third one, since the second succeeded");
}

#[test]
fn a_caller_outside_the_key_holds_back_its_kind_alone() {
    let (table, clock) = table();
    let (route, own) = (route("/a"), || requester(1, 1));
    let refresh = |caller| table.lead_refresh(&KEY, caller, &route, own);
    let outside = refresh(CallerKind::OutsideKey).expect("a refresh");
    let within = refresh(CallerKind::InKey).expect("another one beside it");
    assert!(refresh(CallerKind::OutsideKey).is_none() && refresh(CallerKind::InKey).is_none());
    table.failures.record((KEY, CallerKind::OutsideKey), clock.now(), own(), RefreshFailure::NotStored);
    drop((outside, within));
    assert!(refresh(CallerKind::OutsideKey).is_none());
    refresh(CallerKind::InKey).expect("the other kind");
}

#[test]
fn a_failed_refresh_holds_back_its_like() {
    let (table, clock) = table();
    let key = (KEY, CallerKind::InKey);
    let may = |network, fields| table.failures.may_refresh(&key, || requester(network, fields));
    let fails = |network, fields| {
        table.failures.record(key, clock.now(), requester(network, fields), RefreshFailure::Error);
    };
    fails(1, 1);
    assert!(!may(1, 1), "the same request");
    assert!(may(1, 2) && may(2, 1), "another request, another client");
    // One client can't hold back the others, however many requests it thinks of.
    (2..50).for_each(|number| fails(1, number));
    assert!(!may(1, 99) && may(2, 1));
    fails(2, 1);
    assert!(may(3, 1));
    fails(3, 1);
    assert!(!may(4, 1), "the upstream fails for all");
}
