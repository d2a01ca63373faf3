//! The checker finds what it is there for: one hand-made history for each way to be wrong.

use super::super::record::{Apply, Fetch, Purge};
use super::*;

const STRICT: Promise = Promise { lag: 0, guarded: false, unknown_after: 1000, converges_within: 100 };
const BOUNDED: Promise = Promise { lag: 100, ..STRICT };
const GUARDED: Promise = Promise { guarded: true, unknown_after: 1000, ..STRICT };

fn span(inv: u64, ret: u64) -> Span {
    Span { inv, ret }
}

/// A write on replica 0 that is right: version 1 at 15, acknowledged at 20. Its end is `end`.
fn written(end: End) -> History {
    History {
        writes: vec![Write { id: 7, replica: 0, key: 0, span: span(10, 20), end }],
        applies: vec![Apply { key: 0, version: 1, at: 15, write: 7 }],
        ..History::default()
    }
}

fn content(version: u64) -> Content {
    Content { key: 0, version, variant: 0, owner: None, origin_at: 16, intact: true }
}

fn read(replica: usize, inv: u64, content: Content) -> Read {
    let seen = Seen::Content(content);
    Read { replica, key: 0, variant: 0, identity: None, span: span(inv, inv + 5), seen, hit: true }
}

fn with(mut history: History, reads: impl IntoIterator<Item = Read>) -> History {
    history.reads.extend(reads);
    history
}

#[track_caller]
fn finds(history: &History, promise: Promise, expected: &[Invariant]) {
    let found: Vec<Invariant> = check(history, promise).iter().map(|violation| violation.invariant).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_read_after_an_acknowledgement_sees_the_write() {
    let old_at = |replica, inv| with(written(End::Acknowledged), [read(replica, inv, content(0))]);
    let stale = &[Invariant::FreshAfterAcknowledgement];
    finds(&old_at(1, 20), STRICT, &[]);
    finds(&old_at(1, 21), STRICT, stale);
    finds(&old_at(1, 120), BOUNDED, &[]);
    finds(&old_at(1, 121), BOUNDED, stale);
    // The replica that took the write knows at once.
    finds(&old_at(0, 21), BOUNDED, stale);
    finds(&with(written(End::Acknowledged), [read(1, 21, content(1))]), STRICT, &[]);
}

#[test]
fn an_unrecorded_purge_is_promised_only_under_an_intent() {
    let old = with(written(End::NotRecorded), [read(1, 50, content(0))]);
    finds(&old, STRICT, &[]);
    finds(&old, GUARDED, &[Invariant::FreshAfterAcknowledgement]);
}

#[test]
fn what_is_read_was_there_and_is_what_was_asked_for() {
    let wrong = [
        content(2),
        Content { key: 1, ..content(1) },
        Content { variant: 1, ..content(1) },
        Content { intact: false, ..content(1) },
    ];
    for content in wrong {
        finds(&with(written(End::Acknowledged), [read(0, 30, content)]), STRICT, &[Invariant::RealValue]);
    }
    // Before it came to be.
    finds(&with(written(End::Acknowledged), [read(0, 5, content(1))]), STRICT, &[Invariant::RealValue]);
}

#[test]
fn guarded_what_was_seen_is_not_unseen() {
    let history =
        with(written(End::Unknown(LEFT.into())), [read(0, 16, content(1)), read(1, 22, content(0))]);
    finds(&history, STRICT, &[]);
    finds(&history, GUARDED, &[Invariant::NoGoingBack]);
}

#[test]
fn nothing_from_before_a_purge_is_read_after_it() {
    let purged = |key, acknowledged| {
        let purges = vec![Purge { replica: 0, key, span: span(30, 40), acknowledged }];
        with(History { purges, ..written(End::Acknowledged) }, [read(0, 41, content(1))])
    };
    finds(&purged(Some(0), true), STRICT, &[Invariant::PurgeEpoch]);
    finds(&purged(None, true), STRICT, &[Invariant::PurgeEpoch]);
    finds(&purged(Some(0), true), BOUNDED, &[]);
    finds(&purged(Some(1), true), STRICT, &[]);
    finds(&purged(None, false), STRICT, &[]);
}

#[test]
fn what_was_made_for_one_is_read_by_nobody_else() {
    let owned = |identity| {
        let owned = Content { owner: Some(1), ..content(1) };
        with(written(End::Acknowledged), [Read { identity, ..read(0, 30, owned) }])
    };
    finds(&owned(Some(1)), STRICT, &[]);
    finds(&owned(Some(2)), STRICT, &[Invariant::Owner]);
    finds(&owned(None), STRICT, &[Invariant::Owner]);
}

#[test]
fn a_write_takes_place_once_or_as_its_end_says() {
    let times = |times, end| {
        let mut history = written(end);
        let apply = history.applies.remove(0);
        history.applies.extend((0..times).map(|n| Apply { version: n + 1, ..apply.clone() }));
        history
    };
    let wrong = &[Invariant::ExactlyOnce];
    finds(&times(0, End::Acknowledged), STRICT, wrong);
    finds(&times(2, End::Acknowledged), STRICT, wrong);
    finds(&times(0, End::Refused), STRICT, &[]);
    finds(&times(1, End::Refused), STRICT, wrong);
    finds(&times(1, End::Unknown(LEFT.into())), STRICT, &[]);
    finds(&times(2, End::Unknown(LEFT.into())), STRICT, wrong);
}

#[test]
fn a_journaled_purge_holds_in_its_own_replica() {
    let history = |replica| with(written(End::NotRecorded), [read(replica, 30, content(0))]);
    finds(&history(1), STRICT, &[]);
    finds(&history(0), STRICT, &[Invariant::FreshAfterAcknowledgement]);
    let fault = Fault { what: "a fault".into(), span: span(22, 25), harms: Harm::Killed(0), away: None };
    finds(&History { faults: vec![fault], ..history(0) }, STRICT, &[]);
}

#[test]
fn nothing_is_acknowledged_while_that_is_impossible() {
    let cut_off = |whom, away| {
        let fault =
            Fault { what: "a fault".into(), span: span(1, 99), harms: Harm::Store, away: Some((whom, away)) };
        History { faults: vec![fault], ..written(End::Acknowledged) }
    };
    let wrong = &[Invariant::NoFalseAcknowledgement];
    finds(&cut_off(None, span(9, 21)), STRICT, wrong);
    finds(&cut_off(Some(0), span(9, 21)), STRICT, wrong);
    finds(&cut_off(Some(1), span(9, 21)), STRICT, &[]);
    finds(&cut_off(None, span(11, 21)), STRICT, &[]);
    let purges = vec![Purge { replica: 1, key: None, span: span(12, 13), acknowledged: true }];
    finds(&History { purges, ..cut_off(Some(1), span(9, 21)) }, STRICT, wrong);
}

#[test]
fn when_all_is_well_again_the_newest_is_stored_everywhere() {
    let later =
        |reads: [Read; 2]| History { well_since: Some(50), ..with(written(End::Acknowledged), reads) };
    let at = |inv, hit| Read { hit, ..read(0, inv, content(1)) };
    let late = &[Invariant::Convergence];
    finds(&later([at(151, false), at(160, true)]), STRICT, &[]);
    finds(&later([at(151, false), at(160, false)]), STRICT, late);
    finds(&later([at(100, false), at(140, false)]), STRICT, &[]);
}

#[test]
fn a_key_that_is_left_alone_is_fetched_once_by_each_replica() {
    let fetched = |times: usize, from: u64| {
        let fetch = |n| Fetch { key: 0, variant: 0, owner: None, at: from + n };
        let fetches = (0..times as u64).map(fetch).collect();
        let purges =
            vec![Purge { replica: 0, key: None, span: span(1_900_000, 1_900_001), acknowledged: true }];
        History { fetches, purges, ..written(End::Acknowledged) }
    };
    finds(&fetched(3, 1_700_000), STRICT, &[]);
    finds(&fetched(4, 1_700_000), STRICT, &[Invariant::Herd]);
    finds(&fetched(4, 1_550_000), STRICT, &[]);
    let abandoned = vec![(0, span(1_800_000, 1_800_001))];
    finds(&History { abandoned, ..fetched(4, 1_700_000) }, STRICT, &[]);
    let slow =
        Read { span: span(1_690_000, 1_770_000), key: 1, ..read(0, 0, Content { key: 1, ..content(0) }) };
    finds(&with(fetched(4, 1_700_000), [slow]), STRICT, &[]);
}

#[test]
fn guarded_a_write_that_nobody_heard_of_shows_in_time() {
    let seen_at = |inv| with(written(End::Unknown(LEFT.into())), [read(0, inv, content(0))]);
    finds(&seen_at(1_020), GUARDED, &[]);
    finds(&seen_at(1_021), GUARDED, &[Invariant::UnknownOutcome]);
}

#[test]
fn an_intent_lost_with_the_index_promises_nothing() {
    let lost = |at, replica_too: bool| {
        let fault = |harms| Fault { what: "a fault".into(), span: span(at, at + 1), harms, away: None };
        let mut faults = vec![fault(Harm::Index)];
        faults.extend(replica_too.then(|| fault(Harm::Killed(0))));
        History { faults, ..written(End::Unknown(LEFT.into())) }
    };
    let back = [read(0, 16, content(1)), read(1, 22, content(0))];
    finds(&with(lost(12, false), back.clone()), GUARDED, &[]);
    // A loss after the write took effect takes every stored response with it.
    for late in [17, 30] {
        finds(&with(lost(late, false), back.clone()), GUARDED, &[Invariant::NoGoingBack]);
    }
    let unseen = || [read(0, 1_021, content(0))];
    finds(&with(lost(12, true), unseen()), GUARDED, &[]);
    finds(&with(lost(12, false), unseen()), GUARDED, &[Invariant::UnknownOutcome]);
}

#[test]
fn nothing_fails_that_need_not() {
    let failed = || Read { seen: Seen::Failed("500".into()), ..read(1, 30, content(0)) };
    let during = |harms| {
        let faults = vec![Fault { what: "a fault".into(), span: span(33, 60), harms, away: None }];
        with(History { faults, ..written(End::Acknowledged) }, [failed()])
    };
    let invented = &[Invariant::NoInventedErrors];
    finds(&with(written(End::Acknowledged), [failed()]), STRICT, invented);
    finds(&during(Harm::Store), STRICT, invented);
    finds(&during(Harm::Frozen(0)), STRICT, invented);
    finds(&during(Harm::Frozen(1)), STRICT, &[]);
    finds(&during(Harm::Upstream), STRICT, &[]);
    finds(&written(End::Unknown("500".into())), STRICT, invented);
}
