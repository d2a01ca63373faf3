//! A request that waits for the store, and is a hit then: the way of nearly all where responses are only in Redis, or a
//! hit has to be confirmed. In as little room as it takes, because many wait at a time; never fetches.

use http::Response;

use super::Body;
use super::finding::{Finding, Glance};
use super::handling::{Later, Step};
use crate::store::{Found, Recall};

impl Later {
    /// The answer, if the store has it; if not, what is to be done with what is known now.
    pub async fn from_store(mut self: Box<Self>) -> Result<Response<Body>, Box<Self>> {
        let Some(recall) = self.recall() else { return Err(self) };
        let found = recall.found().await;
        self.answer_with(found)
    }

    /// What is waited for, if it is the store alone.
    fn recall(&mut self) -> Option<Recall> {
        match &mut self.step {
            // The route's time is not measured here.
            Step::LookUp { route, glance, .. } if route.timeout.is_none() => match glance.take() {
                Some(Glance::Waiting(recall)) => Some(recall),
                other => {
                    *glance = other;
                    None
                }
            },
            _ => None,
        }
    }

    fn answer_with(mut self: Box<Self>, found: Option<Found>) -> Result<Response<Body>, Box<Self>> {
        let Later { worker, request, step, .. } = &mut *self;
        let Step::LookUp { route, key, query, caller, glance } = step else { return Err(self) };
        let lookup = worker.lookup(route, *key, query.take(), *caller);
        match worker.glance_at(found, &lookup, &request.head) {
            Glance::Found(Finding::Fresh(usable)) => {
                let answer = worker.reply(&request.head, &lookup, usable);
                let Later { worker, line, .. } = *self;
                Ok(line.close(&worker, answer))
            }
            other => {
                *query = lookup.query;
                *glance = Some(other);
                Err(self)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_waiting<F>(_: impl Fn(Box<Later>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn waiting_for_the_store_takes_little_room() {
        // An answer, and next to nothing besides.
        let room = size_of_waiting(Later::from_store);
        assert!(room <= 384, "{room}");
    }
}
