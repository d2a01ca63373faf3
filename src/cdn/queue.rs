//! The purges that a cache has not taken yet, in order, each target once.

use std::collections::BTreeMap;
use std::time::Duration;

use indexmap::IndexMap;
use parking_lot::Mutex;

use crate::clock::Moment;
use crate::purge::{PurgeMode, TargetId};

/// The most targets that wait. More than a sender's budget of a minute, and less than 1 MB.
const MAX_TARGETS: usize = 10_000;

#[derive(Default)]
pub(super) struct PurgeQueue(Mutex<QueueState>);

#[derive(Default)]
struct QueueState {
    /// Purge everything, before all else.
    everything: Option<Waiting>,
    waiting: IndexMap<(TargetId, PurgeMode), Waiting>,
    /// Sent purges, and when each is sent once more.
    repeats: BTreeMap<(Moment, u64), Batch>,
    repeated: usize,
    sequence: u64,
    /// The batch on its way: how many targets, and since when the first waits.
    in_flight: Option<(usize, Moment)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    since: Moment,
    /// How long after it was sent it is sent once more; zero: it is not.
    repeat: Duration,
}

/// Purges that go out together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Batch {
    Everything(Waiting),
    /// At least one target.
    Targets(PurgeMode, Vec<(TargetId, Waiting)>),
}

pub(super) enum Taken {
    Batch(Batch),
    /// Nothing is due before this time.
    Nothing(Option<Moment>),
}

impl PurgeQueue {
    /// Adds targets. `false`: they don't fit, and everything is purged instead.
    pub(super) fn add(
        &self,
        targets: impl Iterator<Item = TargetId>,
        mode: PurgeMode,
        repeat: Duration,
        since: Moment,
    ) -> bool {
        let mut state = self.0.lock();
        if let Some(everything) = &mut state.everything {
            everything.repeat = everything.repeat.max(repeat);
            return true;
        }
        for target in targets {
            let waiting = state.waiting.entry((target, mode)).or_insert(Waiting { since, repeat });
            waiting.repeat = waiting.repeat.max(repeat);
        }
        let fits = state.waiting.len() <= MAX_TARGETS;
        if !fits {
            state.purge_everything(Waiting { since, repeat });
        }
        fits
    }

    pub(super) fn add_everything(&self, repeat: Duration, since: Moment) {
        self.0.lock().purge_everything(Waiting { since, repeat });
    }

    /// Takes what goes out next; it comes back by [`PurgeQueue::complete`] or [`PurgeQueue::put_back`]. `is_ending`: what is
    /// to be sent once more is due after all others.
    pub(super) fn take(&self, max_targets: usize, now: Moment, is_ending: bool) -> Taken {
        let mut state = self.0.lock();
        let due = state.repeats.first_key_value().map(|((due, _), _)| *due);
        let mut batch = match due.filter(|due| *due <= now) {
            Some(_) => state.take_repeat(),
            None => state.take_waiting(max_targets),
        };
        if batch.is_none() && is_ending {
            batch = state.take_repeat();
        }
        match batch {
            Some(batch) => {
                state.in_flight = Some((batch.len(), batch.oldest()));
                Taken::Batch(batch)
            }
            None => Taken::Nothing(due),
        }
    }

    /// The cache has taken it.
    pub(super) fn complete(&self, batch: Batch, now: Moment) {
        let mut state = self.0.lock();
        state.in_flight = None;
        let repeat = batch.repeat();
        if repeat.is_zero() {
            return;
        }
        state.sequence += 1;
        let key = (now.plus(repeat), state.sequence);
        if state.repeated + batch.len() > MAX_TARGETS {
            // One purge of everything stands for all of them, when the last is due.
            let latest = state.repeats.last_key_value().map_or(key, |(latest, _)| (*latest).max(key));
            let everything = Batch::Everything(Waiting { since: latest.0, repeat: Duration::ZERO });
            (state.repeated, state.repeats) = (1, BTreeMap::from([(latest, everything)]));
            return;
        }
        state.repeated += batch.len();
        state.repeats.insert(key, batch.due_at(key.0));
    }

    /// The cache has not taken it: it goes out before all others.
    pub(super) fn put_back(&self, batch: Batch) {
        let mut state = self.0.lock();
        state.in_flight = None;
        match batch {
            Batch::Everything(waiting) => state.purge_everything(waiting),
            batch if state.everything.is_some() => {
                state.purge_everything(Waiting { since: batch.oldest(), repeat: batch.repeat() });
            }
            Batch::Targets(mode, targets) => {
                let first = targets.into_iter().map(|(target, waiting)| ((target, mode), waiting));
                let mut all: IndexMap<_, _> = first.collect();
                for (target, waiting) in std::mem::take(&mut state.waiting) {
                    let known: &mut Waiting = all.entry(target).or_insert(waiting);
                    known.repeat = known.repeat.max(waiting.repeat);
                }
                state.waiting = all;
            }
        }
    }

    /// How many targets were not sent yet.
    pub(super) fn len(&self) -> usize {
        let state = self.0.lock();
        let in_flight = state.in_flight.map_or(0, |(count, _)| count);
        state.waiting.len() + usize::from(state.everything.is_some()) + in_flight
    }

    /// Since when the first of them waits.
    pub(super) fn oldest(&self) -> Option<Moment> {
        let state = self.0.lock();
        let waiting = state.waiting.values().chain(&state.everything).map(|waiting| waiting.since);
        waiting.chain(state.in_flight.map(|(_, since)| since)).min()
    }
}

impl QueueState {
    /// Queues a purge of everything in the place of all that waits.
    fn purge_everything(&mut self, new: Waiting) {
        let merged = self.waiting.values().chain(&self.everything).fold(new, |all, one| Waiting {
            since: all.since.min(one.since),
            repeat: all.repeat.max(one.repeat),
        });
        self.waiting.clear();
        self.everything = Some(merged);
    }

    fn take_repeat(&mut self) -> Option<Batch> {
        let (_, batch) = self.repeats.pop_first()?;
        self.repeated = self.repeated.saturating_sub(batch.len());
        Some(batch)
    }

    fn take_waiting(&mut self, max_targets: usize) -> Option<Batch> {
        if let Some(everything) = self.everything.take() {
            return Some(Batch::Everything(everything));
        }
        let ((_, mode), _) = self.waiting.first()?;
        let mode = *mode;
        let same = self.waiting.keys().take(max_targets).take_while(|(_, other)| *other == mode).count();
        let taken = self.waiting.drain(..same).map(|((target, _), waiting)| (target, waiting));
        Some(Batch::Targets(mode, taken.collect()))
    }
}

impl Batch {
    fn waiting(&self) -> Box<dyn Iterator<Item = Waiting> + '_> {
        match self {
            Batch::Everything(waiting) => Box::new(std::iter::once(*waiting)),
            Batch::Targets(_, targets) => Box::new(targets.iter().map(|(_, waiting)| *waiting)),
        }
    }

    fn len(&self) -> usize {
        self.waiting().count()
    }

    fn oldest(&self) -> Moment {
        self.waiting().map(|waiting| waiting.since).min().unwrap_or_else(Moment::now)
    }

    fn repeat(&self) -> Duration {
        self.waiting().map(|waiting| waiting.repeat).max().unwrap_or_default()
    }

    /// The same once more, which waits from then on.
    fn due_at(self, since: Moment) -> Self {
        let once = |_: Waiting| Waiting { since, repeat: Duration::ZERO };
        match self {
            Batch::Everything(waiting) => Batch::Everything(once(waiting)),
            Batch::Targets(mode, targets) => {
                let targets = targets.into_iter().map(|(target, waiting)| (target, once(waiting)));
                Batch::Targets(mode, targets.collect())
            }
        }
    }
}

#[cfg(test)]
impl Default for Waiting {
    fn default() -> Self {
        Self { since: Moment::from_nanos(0), repeat: Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purge::Target;

    const NEVER: Duration = Duration::ZERO;
    const LATER: Duration = Duration::from_secs(10);

    fn id(name: &str) -> TargetId {
        Target::tag(name).id()
    }

    fn moment(seconds: u64) -> Moment {
        Moment::from_nanos(seconds * 1_000_000_000)
    }

    fn add(queue: &PurgeQueue, names: &[&str], mode: PurgeMode, repeat: Duration, second: u64) {
        assert!(queue.add(names.iter().map(|name| id(name)), mode, repeat, moment(second)));
    }

    fn take(queue: &PurgeQueue, second: u64) -> Option<Batch> {
        match queue.take(2, moment(second), false) {
            Taken::Batch(batch) => Some(batch),
            Taken::Nothing(_) => None,
        }
    }

    fn names(batch: &Option<Batch>) -> Vec<TargetId> {
        match batch {
            Some(Batch::Targets(_, targets)) => targets.iter().map(|(target, _)| *target).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn purges_go_out_in_order_and_each_once() {
        let queue = PurgeQueue::default();
        add(&queue, &["a", "b", "a"], PurgeMode::Hard, NEVER, 1);
        add(&queue, &["c"], PurgeMode::Hard, NEVER, 2);
        add(&queue, &["d"], PurgeMode::Soft, NEVER, 3);
        assert_eq!((queue.len(), queue.oldest()), (4, Some(moment(1))));
        let first = take(&queue, 4);
        assert_eq!(names(&first), [id("a"), id("b")]);
        // It changed again while the purge was on its way.
        add(&queue, &["a"], PurgeMode::Hard, NEVER, 4);
        queue.put_back(first.unwrap());
        let again = take(&queue, 5);
        assert_eq!(names(&again), [id("a"), id("b")]);
        add(&queue, &["b"], PurgeMode::Hard, NEVER, 6);
        queue.complete(again.unwrap(), moment(6));
        assert_eq!(queue.oldest(), Some(moment(2)));
        let mut sent = Vec::new();
        while let Some(batch) = take(&queue, 7) {
            sent.push(names(&Some(batch.clone())));
            queue.complete(batch, moment(7));
        }
        assert_eq!(sent, [vec![id("c")], vec![id("d")], vec![id("b")]]);
        assert_eq!((queue.len(), queue.oldest()), (0, None));
    }

    #[test]
    fn a_purge_goes_out_once_more_after_a_while() {
        let queue = PurgeQueue::default();
        add(&queue, &["a"], PurgeMode::Soft, LATER, 1);
        let first = take(&queue, 1).unwrap();
        queue.complete(first, moment(2));
        assert_eq!(queue.len(), 0);
        assert!(matches!(queue.take(2, moment(11), false), Taken::Nothing(Some(due)) if due == moment(12)));
        let again = take(&queue, 12);
        assert_eq!(names(&again), [id("a")]);
        queue.complete(again.unwrap(), moment(12));
        assert!(matches!(queue.take(2, moment(99), false), Taken::Nothing(None)));
        // At the end of the process it is not waited for.
        queue.add_everything(LATER, moment(100));
        queue.complete(take(&queue, 100).unwrap(), moment(100));
        assert!(matches!(queue.take(2, moment(100), true), Taken::Batch(Batch::Everything(_))));
    }

    #[test]
    fn when_it_is_full_everything_is_purged() {
        let queue = PurgeQueue::default();
        let many = |from: usize| (from..from + MAX_TARGETS).map(|number| id(&number.to_string()));
        assert!(queue.add(many(0), PurgeMode::Hard, NEVER, moment(1)));
        assert!(!queue.add(many(1), PurgeMode::Hard, LATER, moment(2)));
        assert_eq!((queue.len(), queue.oldest()), (1, Some(moment(1))));
        let batch = take(&queue, 3).unwrap();
        assert_eq!(batch, Batch::Everything(Waiting { since: moment(1), repeat: LATER }));
        add(&queue, &["later"], PurgeMode::Hard, NEVER, 4);
        queue.put_back(batch);
        assert_eq!(queue.len(), 1);
        queue.complete(take(&queue, 5).unwrap(), moment(5));
        assert!(take(&queue, 5).is_none());
    }

    #[test]
    fn everything_goes_out_again_when_the_last_it_stands_for_would() {
        let queue = PurgeQueue::default();
        add(&queue, &["in doubt"], PurgeMode::Hard, 6 * LATER, 1);
        let failed = take(&queue, 2).unwrap();
        queue.add_everything(LATER, moment(3));
        queue.put_back(failed);
        assert_eq!(queue.oldest(), Some(moment(1)));
        let everything = take(&queue, 4).unwrap();
        assert_eq!(everything, Batch::Everything(Waiting { since: moment(1), repeat: 6 * LATER }));
    }

    #[test]
    fn a_repeat_waits_since_it_is_due_and_is_the_last_at_the_end() {
        let queue = PurgeQueue::default();
        add(&queue, &["a"], PurgeMode::Hard, LATER, 1);
        queue.complete(take(&queue, 1).unwrap(), moment(2));
        let again = take(&queue, 13).unwrap();
        assert_eq!(queue.oldest(), Some(moment(12)));
        queue.complete(again, moment(13));
        add(&queue, &["b"], PurgeMode::Hard, LATER, 14);
        queue.complete(take(&queue, 14).unwrap(), moment(14));
        add(&queue, &["c"], PurgeMode::Hard, NEVER, 15);
        for name in ["c", "b"] {
            let Taken::Batch(batch) = queue.take(1, moment(15), true) else { panic!("{name}") };
            assert_eq!(names(&Some(batch.clone())), [id(name)]);
            queue.complete(batch, moment(15));
        }
    }

    #[test]
    fn what_goes_out_once_more_is_bounded_too() {
        let queue = PurgeQueue::default();
        for number in 0..=MAX_TARGETS {
            add(&queue, &[&number.to_string()], PurgeMode::Hard, LATER, 1);
            queue.complete(take(&queue, 1).unwrap(), moment(1));
        }
        let again = take(&queue, 11).unwrap();
        assert!(matches!(again, Batch::Everything(_)));
        queue.complete(again, moment(11));
        assert!(take(&queue, 99).is_none());
    }
}
