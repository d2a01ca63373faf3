//! The operations of a simulation, and shorter simulations that leave some of them out.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::simulation::{Outcome, play_plan};

/// A shrinking history is played this often at most.
const MAX_PLAYS: usize = 400;

/// The request of a client, or the strike of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operation {
    pub actor: Actor,
    /// Its place among the operations of its actor.
    pub number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    Client(u64),
    Fault(u64),
    Scene,
}

/// The operations of a history. The randomness of each does not depend on which others take place.
#[derive(Debug, Default)]
pub struct Plan {
    only: Option<BTreeSet<Operation>>,
    performed: Mutex<Vec<Operation>>,
}

impl Plan {
    pub fn only(operations: impl IntoIterator<Item = Operation>) -> Self {
        Self { only: Some(operations.into_iter().collect()), performed: Mutex::default() }
    }

    /// Whether the history was shortened.
    pub fn is_short(&self) -> bool {
        self.only.is_some()
    }

    /// Whether the operation takes place.
    pub fn begins(&self, operation: Operation) -> bool {
        let takes_place = self.only.as_ref().is_none_or(|only| only.contains(&operation));
        if takes_place {
            self.performed.lock().push(operation);
        }
        takes_place
    }

    pub fn performed(&self) -> Vec<Operation> {
        self.performed.lock().clone()
    }
}

/// Leaves out operations of a seed's history, half of them at first, one by one at last, as long as a promise is still
/// broken.
pub fn shrink(seed: u64, broken: &Outcome) -> Option<Outcome> {
    let mut shortest = None;
    let mut kept = broken.operations.clone();
    let mut size = kept.len().div_ceil(2);
    let mut plays = 0;
    while size > 0 {
        let mut from = 0;
        while from < kept.len() && plays < MAX_PLAYS {
            let until = (from + size).min(kept.len());
            let rest: Vec<_> = kept[..from].iter().chain(&kept[until..]).copied().collect();
            let outcome = play_plan(seed, Plan::only(rest.clone()));
            plays += 1;
            match outcome.violation.is_some() {
                true => (kept, shortest) = (rest, Some(outcome)),
                false => from = until,
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    shortest
}
