use std::time::Duration;

use super::*;
use crate::purge::{Bounds, Change, Hardness, Target, Validity};

const SECOND: Duration = Duration::from_secs(1);
const NOW: Timestamp = Timestamp::from_secs(1_000);

#[test]
fn what_was_found_valid_is_looked_up_again_after_a_purge() {
    let view = View::new(Index::new(Incarnation(1), NOW, Bounds::default()));
    let (found, stamp) = (FoundValid::default(), view.stamp(NOW));
    let (mine, other) = (Target::tag("mine"), Target::tag("other"));
    let judge = || view.judge_again(&found, &stamp, &[mine.id()]);
    assert_eq!((judge(), judge()), (Validity::Valid, Validity::Valid));
    view.purge(&Purge::hard(vec![other]), NOW);
    assert_eq!((judge(), judge()), (Validity::Valid, Validity::Valid));
    view.purge(&Purge::hard(vec![mine.clone()]), NOW);
    assert_eq!((judge(), judge()), (Validity::Dead, Validity::Dead));
}

/// A view of an index that is kept elsewhere, and when it began.
fn copy() -> (View, Moment) {
    (View::new(Index::unknown(Bounds::default())), Moment::from_nanos(1))
}

/// Of incarnation 1, whole, and without changes.
fn confirmation(after: u64, high_water: u64, asked_at: Moment) -> Confirmation {
    Confirmation {
        incarnation: Incarnation(1),
        after: Position(after),
        high_water: Position(high_water),
        is_whole: true,
        changes: Vec::new(),
        now: NOW,
        asked_at,
    }
}

fn hard(tag: &str, position: u64) -> Change {
    Change::Purged { id: Target::tag(tag).id(), position: Position(position), hardness: Hardness::Hard }
}

fn judge(view: &View, stamp: Stamp, tag: &str) -> Validity {
    view.judge(&stamp, &[Target::tag(tag).id()])
}

#[test]
fn before_the_first_confirmation_nothing_is_proved_and_nothing_valid() {
    let (view, _) = copy();
    assert_eq!(view.confirmed_at(), None);
    let void = view.read().stamp();
    assert_eq!(judge(&view, void, "a"), Validity::Dead);
}

#[test]
fn a_confirmation_proves_what_was_known_when_it_was_asked_for() {
    let (view, began) = copy();
    assert!(view.learn(&confirmation(0, 10, began.plus(SECOND))));
    assert_eq!(view.confirmed_at(), Some(began.plus(SECOND)));
    let stamp = view.read().stamp();
    assert_eq!((stamp.incarnation, stamp.as_of), (Incarnation(1), Position(10)));
    let changes = vec![hard("a", 11)];
    let later = Confirmation { changes, ..confirmation(10, 11, began.plus(2 * SECOND)) };
    assert!(!view.learn(&later));
    assert_eq!((judge(&view, stamp, "a"), judge(&view, stamp, "b")), (Validity::Dead, Validity::Valid));
    // The reply to an older question, which comes later, undoes nothing.
    view.learn(&confirmation(0, 10, began.plus(SECOND)));
    assert_eq!(view.confirmed_at(), Some(began.plus(2 * SECOND)));
    assert_eq!(view.read().stamp().as_of, Position(11));
    assert_eq!(judge(&view, stamp, "a"), Validity::Dead);
}

#[test]
fn a_part_proves_nothing_until_the_rest_is_there() {
    let (view, began) = copy();
    let part = Confirmation { is_whole: false, changes: vec![hard("a", 5)], ..confirmation(0, 5, began) };
    view.learn(&part);
    assert_eq!(view.confirmed_at(), None);
    view.learn(&confirmation(5, 9, began.plus(SECOND)));
    assert_eq!(view.confirmed_at(), Some(began.plus(SECOND)));
    let before = Stamp { incarnation: Incarnation(1), as_of: Position(4) };
    assert_eq!(judge(&view, before, "a"), Validity::Dead);
}

#[test]
fn what_does_not_join_on_to_what_is_known_proves_nothing() {
    let (view, began) = copy();
    view.learn(&confirmation(0, 10, began));
    view.learn(&confirmation(11, 20, began.plus(SECOND)));
    assert_eq!((view.confirmed_at(), view.read().high_water()), (Some(began), Position(10)));
    // Of another index, but not from its beginning.
    let other = Confirmation { incarnation: Incarnation(2), ..confirmation(11, 20, began.plus(SECOND)) };
    assert!(!view.learn(&other));
    assert_eq!((view.confirmed_at(), view.incarnation()), (Some(began), Incarnation(1)));
}

#[test]
fn another_index_proves_nothing_until_it_is_whole_and_makes_all_before_it_dead() {
    let (view, began) = copy();
    view.learn(&confirmation(0, 10, began));
    let stamp = view.read().stamp();
    let part = Confirmation {
        incarnation: Incarnation(2),
        is_whole: false,
        ..confirmation(0, 3, began.plus(SECOND))
    };
    assert!(view.learn(&part));
    assert_eq!((view.confirmed_at(), judge(&view, stamp, "a")), (None, Validity::Dead));
    let rest = Confirmation { incarnation: Incarnation(2), ..confirmation(3, 8, began.plus(2 * SECOND)) };
    view.learn(&rest);
    assert_eq!(view.confirmed_at(), Some(began.plus(2 * SECOND)));
    assert_eq!(view.read().stamp().as_of, Position(8));
    // What the former index still had to say comes too late.
    assert!(!view.learn(&confirmation(0, 99, began.plus(SECOND))));
    assert_eq!(view.incarnation(), Incarnation(2));
}

#[test]
fn what_is_unsettled_is_dead_under_any_index() {
    let (view, began) = copy();
    view.learn(&confirmation(0, 10, began));
    view.change(|index| index.unsettle(&[Target::tag("a").id()]));
    let stamp = view.read().stamp();
    assert_eq!((judge(&view, stamp, "a"), judge(&view, stamp, "b")), (Validity::Dead, Validity::Valid));
    view.learn(&Confirmation { incarnation: Incarnation(2), ..confirmation(0, 5, began.plus(SECOND)) });
    let stamp = view.read().stamp();
    assert_eq!((judge(&view, stamp, "a"), judge(&view, stamp, "b")), (Validity::Dead, Validity::Valid));
    view.change(|index| index.settle(&[Target::tag("a").id()]));
    assert_eq!(judge(&view, stamp, "a"), Validity::Valid);
}

#[test]
fn what_was_folded_elsewhere_is_dead_here() {
    let (view, began) = copy();
    let id = Target::tag("a").id();
    let bucket = u16::from_le_bytes([id.0[0], id.0[1]]);
    let changes = vec![Change::Folded { bucket, position: Position(7) }];
    view.learn(&Confirmation { changes, ..confirmation(0, 10, began) });
    let before = Stamp { incarnation: Incarnation(1), as_of: Position(6) };
    assert_eq!(judge(&view, before, "a"), Validity::Dead);
    assert_eq!(judge(&view, Stamp { as_of: Position(7), ..before }, "a"), Validity::Valid);
}
