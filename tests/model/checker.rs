//! Breadth-first search through every state that a protocol can reach.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

/// A protocol: where it starts, and where each step leads.
pub trait Model {
    type State: Clone + Debug + Eq + Hash;
    type Step: Copy + Debug;

    fn start(&self) -> Self::State;

    /// All steps that are possible in `state`.
    fn steps(&self, state: &Self::State) -> Vec<Self::Step>;

    /// The state after `step`, or the promise that the step breaks.
    fn after(&self, state: &Self::State, step: Self::Step) -> Result<Self::State, &'static str>;
}

/// The result of a search.
#[derive(Debug)]
pub enum Found<S> {
    /// Every reachable state keeps every promise; there are so many.
    Nothing { states: usize },
    /// The shortest run that breaks a promise.
    Violation { promise: &'static str, run: Vec<S> },
}

/// Visits every reachable state once.
pub fn search<M: Model>(model: &M) -> Found<M::Step> {
    let start = model.start();
    let mut states = vec![start.clone()];
    let mut reached_by: Vec<Option<(usize, M::Step)>> = vec![None];
    let mut known = HashSet::from([start]);
    let mut next = 0;
    while next < states.len() {
        let state = states[next].clone();
        for step in model.steps(&state) {
            match model.after(&state, step) {
                Ok(reached) if known.contains(&reached) => {}
                Ok(reached) => {
                    known.insert(reached.clone());
                    states.push(reached);
                    reached_by.push(Some((next, step)));
                }
                Err(promise) => {
                    let mut run = vec![step];
                    let mut at = next;
                    while let Some((before, step)) = reached_by[at] {
                        run.push(step);
                        at = before;
                    }
                    run.reverse();
                    return Found::Violation { promise, run };
                }
            }
        }
        next += 1;
    }
    Found::Nothing { states: states.len() }
}
