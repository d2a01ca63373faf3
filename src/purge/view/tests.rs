use std::time::Duration;

use super::*;
use crate::purge::{IndexBounds, IndexChange, PurgeMode, Target, Validity};

const SECOND: Duration = Duration::from_secs(1);
const NOW: Timestamp = Timestamp::from_secs(1_000);

#[test]
fn what_was_found_valid_is_looked_up_again_after_a_purge() {
    let view = PurgeView::new(Index::new(Epoch(1), NOW, IndexBounds::default()));
    let (found, stamp) = (ValidityCache::default(), view.read_version(NOW));
    let (mine, other) = (Target::tag("mine"), Target::tag("other"));
    let judge = || view.check_validity_cached(&found, &stamp, &[mine.id()]);
    assert_eq!((judge(), judge()), (Validity::Valid, Validity::Valid));
    view.purge(&Purge::hard(vec![other]), NOW);
    assert_eq!((judge(), judge()), (Validity::Valid, Validity::Valid));
    view.purge(&Purge::hard(vec![mine.clone()]), NOW);
    assert_eq!((judge(), judge()), (Validity::Dead, Validity::Dead));
}

/// A view of an index that is kept elsewhere, and when it began.
fn copy() -> (PurgeView, Moment) {
    (PurgeView::new(Index::new_replica(IndexBounds::default())), Moment::from_nanos(1))
}

/// A complete reply of epoch 1 without changes.
fn confirmation(after: u64, high_water: u64, asked_at: Moment) -> SyncReply {
    SyncReply {
        epoch: Epoch(1),
        base: PurgeVersion(after),
        high_water: PurgeVersion(high_water),
        is_complete: true,
        changes: Vec::new(),
        server_time: NOW,
        sent_at: asked_at,
        is_member: true,
    }
}

fn hard(tag: &str, version: u64) -> IndexChange {
    IndexChange::Purged { id: Target::tag(tag).id(), version: PurgeVersion(version), mode: PurgeMode::Hard }
}

fn judge(view: &PurgeView, stamp: ReadVersion, tag: &str) -> Validity {
    view.check_validity(&stamp, &[Target::tag(tag).id()])
}

#[test]
fn nothing_is_valid_before_the_first_sync() {
    let (view, _) = copy();
    assert_eq!(view.confirmed_at(), None);
    let void = view.read().read_version();
    assert_eq!(judge(&view, void, "a"), Validity::Dead);
}

/// No purge waits for such a replica.
#[test]
fn a_replica_off_the_roll_learns_of_purges_unconfirmed() {
    let (view, began) = copy();
    let outside = |reply| SyncReply { is_member: false, ..reply };
    assert!(view.apply(&outside(confirmation(0, 10, began))));
    assert_eq!(view.confirmed_at(), None);
    view.apply(&confirmation(10, 11, began.plus(SECOND)));
    let stamp = view.read().read_version();
    let later = SyncReply { changes: vec![hard("a", 12)], ..confirmation(11, 12, began.plus(2 * SECOND)) };
    view.apply(&outside(later));
    assert_eq!(judge(&view, stamp, "a"), Validity::Dead);
    assert_eq!(view.confirmed_at(), Some(began.plus(SECOND)));
}

#[test]
fn a_confirmation_proves_what_was_known_when_it_was_asked_for() {
    let (view, began) = copy();
    assert!(view.apply(&confirmation(0, 10, began.plus(SECOND))));
    assert_eq!(view.confirmed_at(), Some(began.plus(SECOND)));
    let stamp = view.read().read_version();
    assert_eq!((stamp.epoch, stamp.version), (Epoch(1), PurgeVersion(10)));
    let changes = vec![hard("a", 11)];
    let later = SyncReply { changes, ..confirmation(10, 11, began.plus(2 * SECOND)) };
    assert!(!view.apply(&later));
    assert_eq!((judge(&view, stamp, "a"), judge(&view, stamp, "b")), (Validity::Dead, Validity::Valid));
    // The reply to an older question, which comes later, undoes nothing.
    view.apply(&confirmation(0, 10, began.plus(SECOND)));
    assert_eq!(view.confirmed_at(), Some(began.plus(2 * SECOND)));
    assert_eq!(view.read().read_version().version, PurgeVersion(11));
    assert_eq!(judge(&view, stamp, "a"), Validity::Dead);
}

#[test]
fn a_part_proves_nothing_until_the_rest_is_there() {
    let (view, began) = copy();
    let part = SyncReply { is_complete: false, changes: vec![hard("a", 5)], ..confirmation(0, 5, began) };
    view.apply(&part);
    assert_eq!(view.confirmed_at(), None);
    view.apply(&confirmation(5, 9, began.plus(SECOND)));
    assert_eq!(view.confirmed_at(), Some(began.plus(SECOND)));
    let before = ReadVersion { epoch: Epoch(1), version: PurgeVersion(4), time: NOW };
    assert_eq!(judge(&view, before, "a"), Validity::Dead);
}

#[test]
fn what_does_not_join_on_to_what_is_known_proves_nothing() {
    let (view, began) = copy();
    view.apply(&confirmation(0, 10, began));
    view.apply(&confirmation(11, 20, began.plus(SECOND)));
    assert_eq!((view.confirmed_at(), view.read().high_water()), (Some(began), PurgeVersion(10)));
    // A reply of another index that does not start at its beginning.
    let other = SyncReply { epoch: Epoch(2), ..confirmation(11, 20, began.plus(SECOND)) };
    assert!(!view.apply(&other));
    assert_eq!((view.confirmed_at(), view.epoch()), (Some(began), Epoch(1)));
}

#[test]
fn a_new_epoch_kills_everything_and_proves_nothing_yet() {
    let (view, began) = copy();
    view.apply(&confirmation(0, 10, began));
    let stamp = view.read().read_version();
    let part = SyncReply { epoch: Epoch(2), is_complete: false, ..confirmation(0, 3, began.plus(SECOND)) };
    assert!(view.apply(&part));
    assert_eq!((view.confirmed_at(), judge(&view, stamp, "a")), (None, Validity::Dead));
    let rest = SyncReply { epoch: Epoch(2), ..confirmation(3, 8, began.plus(2 * SECOND)) };
    view.apply(&rest);
    assert_eq!(view.confirmed_at(), Some(began.plus(2 * SECOND)));
    assert_eq!(view.read().read_version().version, PurgeVersion(8));
    // A reply of the former index comes too late.
    assert!(!view.apply(&confirmation(0, 99, began.plus(SECOND))));
    assert_eq!(view.epoch(), Epoch(2));
}

#[test]
fn what_is_unsettled_is_dead_under_any_index() {
    let (view, began) = copy();
    view.apply(&confirmation(0, 10, began));
    view.change(|index| index.add_pending(&[Target::tag("a").id()]));
    let stamp = view.read().read_version();
    assert_eq!((judge(&view, stamp, "a"), judge(&view, stamp, "b")), (Validity::Dead, Validity::Valid));
    view.apply(&SyncReply { epoch: Epoch(2), ..confirmation(0, 5, began.plus(SECOND)) });
    let stamp = view.read().read_version();
    assert_eq!((judge(&view, stamp, "a"), judge(&view, stamp, "b")), (Validity::Dead, Validity::Valid));
    view.change(|index| index.clear_pending(&[Target::tag("a").id()]));
    assert_eq!(judge(&view, stamp, "a"), Validity::Valid);
}

#[test]
fn what_was_folded_elsewhere_is_dead_here() {
    let (view, began) = copy();
    let id = Target::tag("a").id();
    let bucket = u16::from_le_bytes([id.0[0], id.0[1]]);
    let changes = vec![IndexChange::Folded { bucket, version: PurgeVersion(7), until: NOW.plus(SECOND) }];
    view.apply(&SyncReply { changes, ..confirmation(0, 10, began) });
    let before = ReadVersion { epoch: Epoch(1), version: PurgeVersion(6), time: NOW };
    assert_eq!(judge(&view, before, "a"), Validity::Dead);
    let in_doubt = ReadVersion { version: PurgeVersion(7), ..before };
    assert_eq!(judge(&view, in_doubt, "a"), Validity::Dead);
    assert_eq!(judge(&view, ReadVersion { time: NOW.plus(SECOND), ..in_doubt }, "a"), Validity::Valid);
}

/// Its last replies may arrive after it has left.
#[test]
fn a_replica_that_has_left_is_never_confirmed_again() {
    let (view, began) = copy();
    view.apply(&confirmation(0, 1, began));
    assert_eq!(view.confirmed_at(), Some(began));
    view.leave();
    assert_eq!(view.confirmed_at(), None);
    view.apply(&confirmation(1, 2, began.plus(SECOND)));
    assert_eq!((view.confirmed_at(), view.read().high_water()), (None, PurgeVersion(2)));
}
