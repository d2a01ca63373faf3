use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_000);
const SECOND: Duration = Duration::from_secs(1);

fn member(name: &str, started: u64, trust: Duration) -> Membership {
    Membership::new(name.into(), trust, Timestamp::from_secs(started)).expect("randomness")
}

fn entry(member: &Membership, reported: &str) -> RollEntry {
    let place = [b"r", &member.process()[..], &member.registration()].concat().into();
    let (known, silent_for) = (PurgeVersion(7), Duration::ZERO);
    RollEntry { place, reported: reported.to_owned(), known, silent_for }
}

#[test]
fn a_replica_reports_awaited_purges_until_it_leaves() {
    let one = Membership::new("one".into(), 30 * SECOND, NOW).expect("randomness");
    assert!(!one.is_report_due(PurgeVersion(5)));
    one.request(PurgeVersion(7));
    assert!(!one.is_report_due(PurgeVersion(6)), "it has nothing to say yet");
    assert!(one.is_report_due(PurgeVersion(7)));
    one.record_report(PurgeVersion(7));
    assert!(!one.is_report_due(PurgeVersion(9)));
    one.request(PurgeVersion(10));
    one.has_left.store(true, Ordering::Release);
    assert!(!one.is_report_due(PurgeVersion(10)));
    assert!(one.registration().is_empty());
}

#[test]
fn a_place_says_who_it_is() {
    let one = member("one", 5, 30 * SECOND);
    let status = status(&entry(&one, "-1"));
    assert_eq!((status.name.as_str(), status.position), ("one", PurgeVersion(7)));
    assert_eq!(parse_trust(&entry(&one, "-1").place), 30 * SECOND);
}

#[test]
fn a_silent_replica_is_forgotten_when_its_trust_ends() {
    let (one, other) = (member("one", 1, SECOND), member("other", 2, 10 * SECOND));
    let began = Moment::now();
    let look = |reported, after| one.observe(&[entry(&other, reported)], began.plus(after));
    assert!(look("-5", Duration::ZERO).is_empty());
    assert!(look("-5", 11 * SECOND).is_empty());
    assert!(look("-6", 12 * SECOND).is_empty(), "it has reported");
    assert!(look("-6", 23 * SECOND).is_empty());
    assert_eq!(look("-6", 25 * SECOND), [entry(&other, "-6").place, Bytes::from("-6")]);
    // The former release's say nothing by which they could be told to have reported.
    assert!(look("0", 26 * SECOND).is_empty());
}

#[test]
fn the_later_of_two_replicas_with_one_name_yields() {
    let (first, second) = (member("one", 1, SECOND), member("one", 2, SECOND));
    let began = Moment::now();
    let both = |one, other| [entry(&first, one), entry(&second, other)];
    second.observe(&both("-1", "-1"), began);
    assert!(!second.has_conflict(), "the place may be of a process that has ended");
    second.observe(&both("-2", "-2"), began.plus(SECOND));
    first.observe(&both("-1", "-1"), began);
    first.observe(&both("-2", "-2"), began.plus(SECOND));
    assert!(second.has_conflict() && !first.has_conflict());
    assert!(second.registration().is_empty());
    second.observe(&[entry(&first, "-3")], began.plus(2 * SECOND));
    assert!(second.has_conflict());
    second.observe(&[entry(&first, "-3")], began.plus(9 * SECOND));
    assert!(!second.has_conflict(), "the earlier one has ended");
}

#[test]
fn a_young_epoch_is_never_reported_as_applied() {
    let one = member("one", 1, SECOND);
    assert!(!one.is_epoch_settled(PurgeVersion(9), SECOND), "no epoch is known");
    one.record_epoch(60 * SECOND);
    assert!(one.is_epoch_settled(PurgeVersion(9), SECOND));
    assert!(!one.is_epoch_settled(PurgeVersion(9), 70 * SECOND));
    one.record_purge(PurgeVersion(9));
    // The clock of the server may have been set: this process has not seen the new epoch for as long as that.
    one.record_epoch(60 * SECOND);
    assert!(!one.is_epoch_settled(PurgeVersion(10), SECOND));
    assert!(one.is_epoch_settled(PurgeVersion(10), Duration::ZERO));
    assert!(!one.is_epoch_settled(PurgeVersion(9), Duration::ZERO), "that purge is of the former epoch");
}
