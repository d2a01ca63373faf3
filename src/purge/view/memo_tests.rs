//! What is remembered to have been valid is valid, whatever happened since: [`View::judge_again`] says so of nothing of which
//! an index without bounds says otherwise. (Folding is no purge: what it alone makes invalid may be remembered.)

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::purge::{Bounds, Change, Hardness, MarkId};

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
        incarnation: u8,
        again: bool,
        to: u8,
        is_whole: bool,
        changes: Vec<(u8, u8, u8)>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let target = || 0..4_u8;
    let change = (0..4_u8, target(), 0..60_u8);
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
            |(incarnation, again, to, is_whole, changes)| Step::Learn {
                incarnation,
                again,
                to,
                is_whole,
                changes
            }
        ),
    ]
}

/// All of one bucket, too.
fn id(target: u8) -> TargetId {
    let mut id = [0; TargetId::LENGTH];
    (id[0], id[7]) = (target / 2, target);
    TargetId(id)
}

fn change((kind, target, position): (u8, u8, u8)) -> Change {
    let (id, position) = (id(target), Position(NOW.as_micros() + u64::from(position)));
    match kind {
        0 => Change::Folded { bucket: u16::from(target / 2), position },
        1 => Change::Marked { id, mark: MarkId([target; 8]), date: position },
        2 => Change::Purged { id, position, hardness: Hardness::Soft },
        _ => Change::Purged { id, position, hardness: Hardness::Hard },
    }
}

struct Stored {
    found: FoundValid,
    stamp: Stamp,
    targets: Vec<TargetId>,
}

fn take(view: &View, step: Step, stored: &mut Vec<Stored>, asked: u64) {
    let later = |after: u8| NOW.plus(Duration::from_micros(after.into()));
    match step {
        Step::Purge { target, soft, doubt, after } => {
            let (change, now) = (change((if soft { 2 } else { 3 }, target, after + doubt)), later(after));
            view.change(|index| index.learn(&[change], Position::default(), now));
        }
        Step::Mark { target, mark, date } => {
            let date = Position(later(date).as_micros());
            view.change(|index| index.mark(&[id(target)], MarkId([mark; 8]), date));
        }
        Step::Lift { target, mark } => view.change(|index| index.lift(&[id(target)], MarkId([mark; 8]))),
        Step::Unsettle(target) => view.change(|index| index.unsettle(&[id(target)])),
        Step::Settle(target) => view.change(|index| index.settle(&[id(target)])),
        Step::Fetch { targets, after } => stored.push(Stored {
            found: FoundValid::default(),
            stamp: view.stamp(later(after)),
            targets: targets.into_iter().map(id).collect(),
        }),
        Step::Learn { incarnation, again, to, is_whole, changes } => {
            let known = view.read().high_water();
            view.learn(&Confirmation {
                incarnation: Incarnation(incarnation.into()),
                after: if again { Position::default() } else { known },
                high_water: Position(NOW.as_micros() + u64::from(to)),
                is_whole,
                changes: changes.into_iter().map(change).collect(),
                now: NOW,
                asked_at: Moment::from_nanos(asked),
            });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_was_found_valid_is_never_more_than_what_is_valid(steps in prop::collection::vec(step(), 1..40)) {
        let view_of = |records| {
            let bounds = Bounds { records, ..Bounds::default() };
            View::new(Index::new(Incarnation(1), NOW, bounds))
        };
        let (view, exact) = (view_of(2), view_of(usize::MAX));
        let mut stored = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            let asked = number as u64 + 1;
            take(&exact, step.clone(), &mut Vec::new(), asked);
            take(&view, step, &mut stored, asked);
            for Stored { found, stamp, targets } in &stored {
                let said = view.judge_again(found, stamp, targets);
                if said == Validity::Valid {
                    prop_assert_eq!(exact.judge(stamp, targets), Validity::Valid);
                } else {
                    prop_assert_eq!(said, view.judge(stamp, targets));
                }
            }
        }
    }
}
