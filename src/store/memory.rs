//! The embedded store: the first tier alone, and the purge index beside it. A purge is acknowledged when the view has
//! it.

use std::future::ready;

use super::first_tier::FirstTier;
use super::history::{History, Purges};
use super::{Figures, Fill, Found, Recall, Seen, Store, StoreError, Tier, Waiting};
use crate::clock::Clock;
use crate::policy::CacheKey;
use crate::purge::{
    Asked, Bounds, Incarnation, Index, Mark, Position, Purge, Record, Stamp, TargetId, Validity, View,
};
use crate::stored_response::{Stored, StoredResponse};

pub struct MemoryStore {
    view: View,
    responses: FirstTier,
    clock: Clock,
    history: History,
    replica: String,
}

impl MemoryStore {
    /// `capacity` is in bytes, headers and bookkeeping included.
    pub fn new(capacity: u64, incarnation: Incarnation, clock: Clock) -> Self {
        Self::named(String::new(), capacity, incarnation, clock)
    }

    /// `replica`: what the records of purges call this one.
    pub fn named(replica: String, capacity: u64, incarnation: Incarnation, clock: Clock) -> Self {
        let index = Index::new(incarnation, clock.now(), Bounds::default());
        let (view, responses) = (View::new(index), FirstTier::new(capacity));
        Self { view, responses, clock, history: History::default(), replica }
    }
}

impl Store for MemoryStore {
    fn recall(&self, key: &CacheKey) -> Recall {
        Recall::Ready(self.recall_here(key))
    }

    fn recall_here(&self, key: &CacheKey) -> Option<Found> {
        self.responses.find(key, &self.view, self.clock.now())
    }

    fn permit(&self, key: &CacheKey) -> Fill {
        Fill::new(*key, self.view.stamp(self.clock.now()))
    }

    fn judge(&self, stamp: &Stamp, targets: &[TargetId]) -> Validity {
        self.view.judge(stamp, targets)
    }

    fn is_unpurged(&self, stamp: &Stamp) -> bool {
        self.view.read().is_unpurged(stamp)
    }

    fn insert(&self, fill: Fill, stored: Stored) -> Waiting<Result<(), StoreError>> {
        self.responses.insert(*fill.key(), stored, &self.view);
        Box::pin(ready(Ok(())))
    }

    fn purge(&self, purge: Purge) -> Waiting<Result<Position, StoreError>> {
        let now = self.clock.now();
        let position = self.view.change(|index| {
            let position = index.purge(&purge, now);
            if let Some(Mark { id, targets, .. }) = &purge.lifts {
                index.lift(targets, *id);
            }
            position
        });
        if let Some(record) = Record::of(&purge, &self.replica) {
            self.history.add(Record { position, at: now, ..record });
        }
        Box::pin(ready(Ok(position)))
    }

    fn mark(&self, mark: Mark) -> Waiting<Result<(), StoreError>> {
        let date = Position(self.clock.now().plus(mark.lasts).as_micros());
        self.view
            .change(|index| index.mark(&mark.targets, mark.id, date.max(Position(index.high_water().0 + 1))));
        Box::pin(ready(Ok(())))
    }

    fn purges(&self, asked: Asked) -> Waiting<Purges> {
        let records = self.history.read(&asked);
        Box::pin(ready(Purges { records, of_all_replicas: true }))
    }

    fn look(&self, key: &CacheKey) -> Waiting<Option<Seen>> {
        let stored = self.responses.peek(key);
        let seen = stored.map(|stored| Seen::of(stored, Tier::Memory, &self.view));
        Box::pin(ready(seen))
    }

    fn known_here(&self) -> Vec<StoredResponse> {
        self.responses.known()
    }

    fn latest(&self) -> Position {
        self.view.read().high_water()
    }

    fn figures(&self) -> Figures {
        self.responses.figures(&self.view)
    }
}
