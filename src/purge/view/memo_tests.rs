//! A response that is remembered to have been valid is valid, whatever happened since: [`PurgeView::check_validity_cached`] says so of nothing of which
//! an index without bounds says otherwise. (Folding is no purge: what it alone makes invalid may be remembered.)

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::purge::{IndexBounds, IndexChange, IntentId, PurgeMode};

const NOW: Timestamp = Timestamp::from_micros(1_000);

/// Few targets, positions and incarnations, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Purge {
        target: u8,
        soft: bool,
        doubt: u8,
        after: u8,
    },
    Mark {
        target: u8,
        mark: u8,
        date: u8,
    },
    Lift {
        target: u8,
        mark: u8,
    },
    Unsettle(u8),
    Settle(u8),
    /// A fetch of what has these targets.
    Fetch {
        targets: Vec<u8>,
        after: u8,
    },
    Learn {
        epoch: u8,
        again: bool,
        to: u8,
        is_whole: bool,
        changes: Vec<(u8, u8, u8)>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let target = || 0..4_u8;
    let change = (0..6_u8, target(), 0..60_u8);
    prop_oneof![
        (target(), any::<bool>(), 0..20_u8, 0..60_u8).prop_map(|(target, soft, doubt, after)| Step::Purge {
            target,
            soft,
            doubt,
            after
        }),
        (target(), 0..2_u8, 0..60_u8).prop_map(|(target, mark, date)| Step::Mark { target, mark, date }),
        (target(), 0..2_u8).prop_map(|(target, mark)| Step::Lift { target, mark }),
        target().prop_map(Step::Unsettle),
        target().prop_map(Step::Settle),
        (prop::collection::vec(target(), 1..3), 0..60_u8)
            .prop_map(|(targets, after)| Step::Fetch { targets, after }),
        (1..3_u8, any::<bool>(), 0..80_u8, any::<bool>(), prop::collection::vec(change, 0..3)).prop_map(
            |(epoch, again, to, is_whole, changes)| Step::Learn { epoch, again, to, is_whole, changes }
        ),
    ]
}

/// All of one bucket, too.
fn id(target: u8) -> TargetId {
    let mut id = [0; TargetId::LENGTH];
    (id[0], id[7]) = (target / 2, target);
    TargetId(id)
}

/// An intent has the same targets each time.
fn intent(target: u8, mark: u8) -> IntentId {
    IntentId([target, mark, 0, 0, 0, 0, 0, 0])
}

fn change((kind, target, version): (u8, u8, u8)) -> IndexChange {
    let (id, version) = (id(target), PurgeVersion(NOW.as_micros() + u64::from(version)));
    let until = Timestamp::from_micros(version.0 + u64::from(target) * 10);
    match kind {
        0 => IndexChange::Folded { bucket: u16::from(target / 2), version, until },
        1 => IndexChange::Intent { id, intent: intent(target, 0), version, until },
        2 => IndexChange::Purged { id, version, mode: PurgeMode::Soft },
        3 => IndexChange::Doubted { id, version, until },
        4 => IndexChange::Resolved { intent: intent(target, 0), version },
        _ => IndexChange::Purged { id, version, mode: PurgeMode::Hard },
    }
}

struct Stored {
    found: ValidityCache,
    stamp: ReadVersion,
    targets: Vec<TargetId>,
}

fn take(view: &PurgeView, step: Step, stored: &mut Vec<Stored>, asked: u64) {
    let later = |after: u8| NOW.plus(Duration::from_micros(after.into()));
    match step {
        Step::Purge { target, soft, doubt, after } => {
            let mode = if soft { PurgeMode::Soft } else { PurgeMode::Hard };
            let in_doubt_for = Duration::from_micros(doubt.into());
            let (version, until) = (PurgeVersion(later(after).as_micros()), later(after).plus(in_doubt_for));
            let change = match in_doubt_for.is_zero() {
                true => IndexChange::Purged { id: id(target), version, mode },
                false => IndexChange::Doubted { id: id(target), version, until },
            };
            view.change(|index| index.apply(&[change], PurgeVersion::default(), later(after)));
        }
        Step::Mark { target, mark, date } => {
            let intent = intent(target, mark);
            view.change(|index| index.add_intent(intent, &[id(target)], PurgeVersion(1), later(date)));
        }
        Step::Lift { target, mark } => {
            let resolved = IndexChange::Resolved { intent: intent(target, mark), version: PurgeVersion(1) };
            view.change(|index| index.apply(&[resolved], PurgeVersion::default(), NOW));
        }
        Step::Unsettle(target) => view.change(|index| index.add_pending(&[id(target)])),
        Step::Settle(target) => view.change(|index| index.clear_pending(&[id(target)])),
        Step::Fetch { targets, after } => stored.push(Stored {
            found: ValidityCache::default(),
            stamp: view.read_version(later(after)),
            targets: targets.into_iter().map(id).collect(),
        }),
        Step::Learn { epoch, again, to, is_whole, changes } => {
            let known = view.read().high_water();
            view.apply(&SyncReply {
                epoch: Epoch(epoch.into()),
                base: if again { PurgeVersion::default() } else { known },
                high_water: PurgeVersion(NOW.as_micros() + u64::from(to)),
                is_complete: is_whole,
                changes: changes.into_iter().map(change).collect(),
                server_time: NOW,
                sent_at: Moment::from_nanos(asked),
                is_member: true,
            });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_was_found_valid_is_never_more_than_what_is_valid(steps in prop::collection::vec(step(), 1..40)) {
        let view_of = |records| {
            let bounds = IndexBounds { max_records: records, ..IndexBounds::default() };
            PurgeView::new(Index::new(Epoch(1), NOW, bounds))
        };
        let (view, exact) = (view_of(2), view_of(usize::MAX));
        let mut stored = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            let asked = number as u64 + 1;
            take(&exact, step.clone(), &mut Vec::new(), asked);
            take(&view, step, &mut stored, asked);
            for Stored { found, stamp, targets } in &stored {
                let said = view.check_validity_cached(found, stamp, targets);
                if said == Validity::Valid {
                    prop_assert_eq!(exact.check_validity(stamp, targets), Validity::Valid);
                } else {
                    prop_assert_eq!(said, view.check_validity(stamp, targets));
                }
            }
        }
    }
}
