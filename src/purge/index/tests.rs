use super::*;
use crate::purge::{PurgeIntent, Target};

const NOW: Timestamp = Timestamp::from_secs(1_000_000);
const SECOND: Duration = Duration::from_secs(1);

fn index() -> Index {
    Index::new(Epoch(1), NOW, IndexBounds::default())
}

fn tag(name: &str) -> Vec<Target> {
    vec![Target::tag(name)]
}

fn ids(name: &str) -> Vec<TargetId> {
    vec![Target::tag(name).id()]
}

#[test]
fn a_read_version_is_unpurged_until_anything_is_recorded() {
    let mut index = index();
    let before = index.read_version();
    assert!(index.is_unpurged_since(&before));
    assert!(!index.is_unpurged_since(&ReadVersion { epoch: Epoch(2), ..before }));
    index.add_pending(&ids("a"));
    assert!(!index.is_unpurged_since(&before));
    index.clear_pending(&ids("a"));
    index.add_intent(IntentId([1; 8]), &ids("a"), before.version, NOW.plus(5 * SECOND));
    assert!(!index.is_unpurged_since(&before));
    index.purge(&resolving(IntentId([1; 8])), NOW);
    let before = index.read_version();
    assert!(index.is_unpurged_since(&before));
    index.purge(&Purge { in_doubt_for: SECOND, ..Purge::soft(tag("a")) }, NOW);
    assert!(!index.is_unpurged_since(&before));
    // In doubt until its date, also for what begins now.
    assert!(!index.is_unpurged_since(&index.read_version()));
    assert!(index.is_unpurged_since(&index.read_version_at(NOW.plus(2 * SECOND))));
}

fn resolving(id: IntentId) -> Purge {
    let intent = PurgeIntent { id, targets: Vec::new(), expires_in: SECOND };
    Purge { resolves: Some(intent), ..Purge::hard(Vec::new()) }
}

#[test]
fn a_fetch_is_dead_if_it_began_before_a_purge() {
    let mut index = index();
    let before = index.read_version();
    index.purge(&Purge::hard(tag("a")), NOW);
    let after = index.read_version();
    assert_eq!(index.check_validity(&before, &ids("a")), Validity::Dead);
    assert_eq!(index.check_validity(&before, &ids("b")), Validity::Valid);
    assert_eq!(index.check_validity(&after, &ids("a")), Validity::Valid);
}

#[test]
fn a_clock_that_steps_back_undoes_no_purge() {
    let mut index = index();
    let first = index.purge(&Purge::hard(tag("a")), NOW);
    let between = index.read_version();
    let second = index.purge(&Purge::hard(tag("a")), NOW.minus(3600 * SECOND));
    assert!(second > first);
    assert_eq!(index.check_validity(&between, &ids("a")), Validity::Dead);
}

#[test]
fn two_purges_in_one_microsecond_have_two_positions() {
    let mut index = index();
    let first = index.purge(&Purge::hard(tag("a")), NOW);
    assert!(index.purge(&Purge::hard(tag("a")), NOW) > first);
}

#[test]
fn a_soft_purge_makes_stale_and_a_hard_one_after_it_kills() {
    let mut index = index();
    let stamp = index.read_version();
    index.purge(&Purge::soft(tag("a")), NOW);
    assert!(
        matches!(index.check_validity(&stamp, &ids("a")), Validity::Stale { since } if since.since(NOW) < SECOND)
    );
    index.purge(&Purge::hard(tag("a")), NOW);
    assert_eq!(index.check_validity(&stamp, &ids("a")), Validity::Dead);
}

#[test]
fn in_doubt_nothing_fetched_before_the_date_is_valid() {
    let mut index = index();
    let purge = Purge { in_doubt_for: 30 * SECOND, ..Purge::hard(tag("a")) };
    index.purge(&purge, NOW);
    let in_doubt = index.read_version();
    assert_eq!(index.check_validity(&in_doubt, &ids("a")), Validity::Dead);
    let late = index.read_version_at(NOW.plus(29 * SECOND));
    assert_eq!(index.check_validity(&late, &ids("a")), Validity::Dead);
    let after = index.read_version_at(NOW.plus(30 * SECOND));
    assert_eq!(index.check_validity(&after, &ids("a")), Validity::Valid);
    assert_eq!(index.check_validity(&in_doubt, &ids("a")), Validity::Dead);
}

#[test]
fn a_purge_while_in_doubt_does_not_end_the_doubt() {
    let mut index = index();
    index.purge(&Purge { in_doubt_for: 30 * SECOND, ..Purge::hard(tag("a")) }, NOW);
    index.purge(&Purge::hard(tag("a")), NOW.plus(SECOND));
    assert_eq!(index.check_validity(&index.read_version(), &ids("a")), Validity::Dead);
}

#[test]
fn an_intent_holds_until_it_is_resolved_or_expires() {
    let mut index = index();
    let before = index.read_version();
    let (first, second) = (IntentId([1; 8]), IntentId([2; 8]));
    let until = NOW.plus(30 * SECOND);
    index.add_intent(first, &ids("a"), before.version, until);
    index.add_intent(second, &ids("a"), before.version, until);
    assert_eq!(index.check_validity(&index.read_version(), &ids("a")), Validity::Dead);
    assert_eq!(index.check_validity(&index.read_version(), &ids("b")), Validity::Valid);
    index.purge(&resolving(first), NOW);
    assert_eq!(index.check_validity(&before, &ids("a")), Validity::Dead, "the other write goes on");
    index.purge(&resolving(second), NOW);
    assert_eq!(index.check_validity(&before, &ids("a")), Validity::Valid, "neither changed anything");
    index.add_intent(first, &ids("a"), before.version, until);
    for _ in 0..2 {
        assert_eq!(index.check_validity(&before, &ids("a")), Validity::Dead);
        let after = index.read_version_at(NOW.plus(31 * SECOND));
        assert_eq!(index.check_validity(&after, &ids("a")), Validity::Valid);
        // The intent becomes a record.
        index.purge(&Purge::hard(tag("b")), NOW.plus(31 * SECOND));
        assert_eq!(index.intents.len(), 0);
    }
}

#[test]
fn an_older_reply_brings_no_intent_back_that_is_resolved() {
    let mut index = Index::new_replica(IndexBounds::default());
    index.reset_epoch(Epoch(1));
    let intent = IntentId([1; 8]);
    let (id, until) = (ids("a")[0], NOW.plus(30 * SECOND));
    let marked = IndexChange::Intent { id, intent, version: PurgeVersion(1), until };
    let resolved = IndexChange::Resolved { intent, version: PurgeVersion(2) };
    index.apply(&[marked, resolved], PurgeVersion(2), NOW);
    index.apply(&[marked], PurgeVersion(1), NOW);
    assert_eq!(index.check_validity(&index.read_version(), &ids("a")), Validity::Valid);
}

#[test]
fn what_was_fetched_less_than_settle_after_a_purge_is_not_kept() {
    let mut index = index();
    index.purge(&Purge::hard(tag("a")), NOW);
    let fetched = |after: u32| index.read_version_at(NOW.plus(after * SECOND)).settled(2 * SECOND);
    assert_eq!(index.check_validity(&fetched(1), &ids("a")), Validity::Dead);
    assert_eq!(index.check_validity(&fetched(1), &ids("b")), Validity::Valid);
    assert_eq!(index.check_validity(&fetched(3), &ids("a")), Validity::Valid);
    assert_eq!(index.read_version().settled(Duration::ZERO), index.read_version());
}

#[test]
fn a_copy_takes_a_time_no_earlier_than_its_high_water_mark() {
    let mut index = Index::new_replica(IndexBounds::default());
    index.reset_epoch(Epoch(1));
    index.apply(&[], PurgeVersion(5), NOW.plus(10 * SECOND));
    index.apply(&[], PurgeVersion(4), NOW.plus(20 * SECOND));
    assert_eq!(index.read_version().time, NOW.plus(10 * SECOND));
    // The clock was set back, and then something was purged in doubt.
    let (id, until) = (ids("a")[0], NOW.plus(2 * SECOND));
    index.apply(&[IndexChange::Doubted { id, version: PurgeVersion(6), until }], PurgeVersion(6), NOW);
    assert_eq!(index.check_validity(&index.read_version(), &ids("a")), Validity::Dead);
    index.apply(&[], PurgeVersion(6), NOW.plus(3 * SECOND));
    assert_eq!(index.check_validity(&index.read_version(), &ids("a")), Validity::Valid);
}

/// A response under these rules that carries the tag.
fn targets_under(rules: &str, name: &str) -> Vec<TargetId> {
    vec![Target::tag(name).id(), TargetId::hash_rules(rules)]
}

/// A purge of the tag that these rules have rendered.
fn rendered(rules: &str, name: &str) -> Purge {
    Purge { rules: Some(TargetId::hash_rules(rules)), ..Purge::hard(tag(name)) }
}

#[test]
fn under_other_rules_nothing_is_served() {
    let mut index = index();
    let read = index.read_version();
    index.set_rules(TargetId::hash_rules("new"));
    index.reset_epoch(Epoch(1));
    assert_eq!(index.check_validity(&read, &targets_under("old", "a")), Validity::Dead);
    assert_eq!(index.check_validity(&read, &targets_under("new", "a")), Validity::Valid);
}

#[test]
fn a_purge_reaches_what_is_stored_under_any_other_rules() {
    let mut index = index();
    let before = index.read_version();
    index.purge(&rendered("one", "a"), NOW);
    let judge = |index: &Index, rules, name| index.check_validity(&before, &targets_under(rules, name));
    assert_eq!(judge(&index, "one", "a"), Validity::Dead);
    assert_eq!(judge(&index, "one", "b"), Validity::Valid);
    assert_eq!(judge(&index, "two", "b"), Validity::Dead);
    let purged = index.last_purge(&before, &targets_under("two", "b")).unwrap();
    assert_eq!(purged, (TargetId::hash_rules("one"), index.high_water()));
    // A later fetch is valid until the next purge.
    let read = index.read_version();
    assert_eq!(index.check_validity(&read, &targets_under("two", "a")), Validity::Valid);
    index.purge(&rendered("two", "a"), NOW);
    assert_eq!(index.check_validity(&read, &targets_under("two", "b")), Validity::Valid);
    assert_eq!(index.check_validity(&read, &targets_under("one", "b")), Validity::Dead);
    assert_eq!(index.len(), 1, "rules are no targets");
}

#[test]
fn an_intent_a_doubt_and_a_pending_purge_reach_other_rules() {
    let (mut index, intent) = (index(), IntentId([1; 8]));
    let ids = rendered("one", "a").ids();
    let judge = |index: &Index| {
        [("one", "b"), ("two", "b")].map(|(rules, name)| {
            index.check_validity(&index.read_version_at(NOW), &targets_under(rules, name)) == Validity::Valid
        })
    };
    index.add_intent(intent, &ids, index.high_water(), NOW.plus(SECOND));
    assert_eq!(judge(&index), [true, false]);
    index.purge(&resolving(intent), NOW);
    assert_eq!(judge(&index), [true, true]);
    index.add_pending(&ids);
    assert_eq!(judge(&index), [true, false]);
    // The index is lost, and what waits is not.
    index.reset_epoch(Epoch(2));
    assert_eq!(judge(&index), [true, false]);
    index.clear_pending(&ids);
    assert_eq!(judge(&index), [true, true]);
    index.purge(&Purge { in_doubt_for: SECOND, ..rendered("one", "a") }, NOW);
    assert_eq!(judge(&index), [true, false]);
}

#[test]
fn rules_are_folded_and_no_purge_by_them_is_forgotten() {
    let mut index = index();
    let before = index.read_version();
    let count = MAX_RULES + 10;
    for number in 0..count {
        index.purge(&rendered(&number.to_string(), "a"), NOW);
    }
    assert_eq!(index.rules_of_purges.len(), MAX_RULES);
    for number in 0..count {
        assert_eq!(
            index.check_validity(&before, &targets_under(&number.to_string(), "b")),
            Validity::Dead,
            "{number}"
        );
    }
    let read = index.read_version();
    assert_eq!(index.check_validity(&read, &targets_under("0", "b")), Validity::Valid);
}

#[test]
fn another_epoch_kills_everything() {
    let stamp = index().read_version();
    let other = Index::new(Epoch(2), NOW, IndexBounds::default());
    assert_eq!(other.check_validity(&stamp, &ids("a")), Validity::Dead);
}

#[test]
fn beyond_its_bound_it_forgets_no_purge_and_does_not_grow() {
    let bounds = IndexBounds { max_records: 100, ..IndexBounds::default() };
    let mut index = Index::new(Epoch(1), NOW, bounds);
    let before = index.read_version();
    for n in 0..5_000 {
        index.purge(&Purge::hard(tag(&n.to_string())), NOW.plus(Duration::from_micros(n)));
    }
    assert!(index.len() <= 101, "{}", index.len());
    for n in 0..5_000 {
        assert_eq!(index.check_validity(&before, &ids(&n.to_string())), Validity::Dead, "{n}");
    }
    let untouched =
        (0..5_000).filter(|n| index.check_validity(&before, &ids(&format!("other{n}"))) == Validity::Valid);
    assert!(untouched.count() > 4_980, "folding cost too many");
    assert_eq!(index.check_validity(&index.read_version(), &ids("7")), Validity::Valid);
}

/// However many doubts an attacker causes, the bound holds, no doubt is forgotten, and what nobody wrote stays valid.
#[test]
fn surplus_doubts_are_folded_and_leave_the_untouched() {
    let long = std::env::var_os("LARDER_LONG").map(|_| 1_000_000);
    for doubts in [1_000, 10_000, 100_000].into_iter().chain(long) {
        let bounds = IndexBounds { max_records: 1_000, ..IndexBounds::default() };
        let mut index = Index::new(Epoch(1), NOW, bounds);
        let later = NOW.plus(SECOND);
        for number in 0..doubts {
            let purge = Purge { in_doubt_for: 60 * SECOND, ..Purge::hard(tag(&number.to_string())) };
            index.purge(&purge, later.plus(Duration::from_micros(number)));
        }
        assert!(index.len() <= 1_001, "{}", index.len());
        let now = index.read_version_at(later.plus(2 * SECOND));
        for number in (0..doubts).step_by(7) {
            assert_eq!(index.check_validity(&now, &ids(&number.to_string())), Validity::Dead, "{number}");
        }
        let is_untouched =
            |number: &u32| index.check_validity(&now, &ids(&format!("other{number}"))) == Validity::Valid;
        let untouched = (0..5_000).filter(is_untouched).count();
        assert!(untouched > 4_950, "{untouched} of 5,000 beside {doubts} doubts");
        let over = index.read_version_at(later.plus(62 * SECOND));
        assert_eq!(index.check_validity(&over, &ids("7")), Validity::Valid);
        assert_eq!(index.check_validity(&now, &ids("7")), Validity::Dead);
    }
}

#[test]
fn surplus_intents_are_folded() {
    let bounds = IndexBounds { max_records: 10, ..IndexBounds::default() };
    let mut index = Index::new(Epoch(1), NOW, bounds);
    for number in 0..100_u8 {
        let until = NOW.plus(30 * SECOND);
        index.add_intent(IntentId([number; 8]), &ids(&number.to_string()), PurgeVersion(1), until);
        index.purge(&Purge::hard(tag("b")), NOW.plus(SECOND));
    }
    assert!(index.intents.len() <= 11, "{}", index.intents.len());
    let now = index.read_version_at(NOW.plus(2 * SECOND));
    for number in 0..100 {
        assert_eq!(index.check_validity(&now, &ids(&number.to_string())), Validity::Dead, "{number}");
    }
}

#[test]
fn records_that_outlived_every_response_are_dropped() {
    let bounds = IndexBounds { max_lifetime: 60 * SECOND, ..IndexBounds::default() };
    let mut index = Index::new(Epoch(1), NOW, bounds);
    for n in 0..50 {
        index.purge(&Purge::hard(tag(&n.to_string())), NOW);
    }
    for n in 0..20 {
        index.purge(&Purge::hard(tag("late")), NOW.plus(120 * SECOND + Duration::from_micros(n)));
    }
    assert_eq!(index.len(), 1);
}
