//! Whether each worker's thread still turns: a beat is due again and again, and one that stands still does not beat.
//!
//! It never does anything about it: a thread can't be freed from outside, and the others go on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Moment;

/// How often each beats.
pub const EVERY: Duration = Duration::from_millis(250);

/// Later than this is a stall, and not a busy machine.
const LATE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    workers: Mutex<Vec<Arc<Worker>>>,
    stalls: AtomicU64,
}

#[derive(Debug)]
struct Worker {
    number: usize,
    /// In the nanoseconds of a `Moment`.
    last: AtomicU64,
}

/// One worker's; it is watched for as long as this lives.
#[derive(Debug)]
pub struct Heart {
    worker: Arc<Worker>,
    all: Arc<Heartbeats>,
}

impl Heartbeats {
    pub fn watch(self: &Arc<Self>, number: usize, now: Moment) -> Heart {
        let worker = Arc::new(Worker { number, last: AtomicU64::new(now.as_nanos()) });
        self.workers().push(worker.clone());
        Heart { worker, all: self.clone() }
    }

    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }

    /// For how long the beat of each is overdue.
    pub fn overdue(&self, now: Moment) -> Vec<(usize, Duration)> {
        let mut overdue: Vec<_> =
            self.workers().iter().map(|worker| (worker.number, worker.overdue(now))).collect();
        overdue.sort_unstable();
        overdue
    }

    fn workers(&self) -> MutexGuard<'_, Vec<Arc<Worker>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Worker {
    fn overdue(&self, now: Moment) -> Duration {
        now.since(Moment::from_nanos(self.last.load(Ordering::Relaxed))).saturating_sub(EVERY)
    }
}

impl Heart {
    /// Says for how long it had stood still, if that was too long.
    pub fn beat(&self, now: Moment) -> Option<Duration> {
        let overdue = self.worker.overdue(now);
        self.worker.last.store(now.as_nanos(), Ordering::Relaxed);
        let stalled = overdue > LATE;
        self.all.stalls.fetch_add(u64::from(stalled), Ordering::Relaxed);
        stalled.then_some(overdue)
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.all.workers().retain(|worker| !Arc::ptr_eq(worker, &self.worker));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_worker_that_stands_still_is_overdue_until_it_beats_and_counts_as_one_stall() {
        let hearts = Arc::new(Heartbeats::default());
        let (quick, slow) = (hearts.watch(0, at(0)), hearts.watch(1, at(0)));
        assert_eq!(quick.beat(at(300)), None);
        assert_eq!(slow.beat(at(1200)), None);
        assert_eq!(quick.beat(at(3200)), Some(Duration::from_millis(2650)));
        let millis = |(worker, overdue): (usize, Duration)| (worker, overdue.as_millis());
        let overdue: Vec<_> = hearts.overdue(at(3250)).into_iter().map(millis).collect();
        assert_eq!(overdue, [(0, 0), (1, 1800)]);
        assert_eq!(hearts.stalls(), 1);
    }

    #[test]
    fn one_that_has_ended_is_not_overdue() {
        let hearts = Arc::new(Heartbeats::default());
        drop(hearts.watch(0, at(0)));
        assert_eq!(hearts.overdue(at(60_000)), []);
    }
}
