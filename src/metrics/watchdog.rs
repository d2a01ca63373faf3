//! Detects blocked worker threads: each beats regularly, and a missing beat means its runtime is blocked. Stalls are
//! reported only; a thread cannot be unblocked from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::clock::Moment;

/// Interval between beats.
pub(crate) const WATCHDOG_INTERVAL: Duration = Duration::from_millis(250);

/// Overdue beats beyond this count as a stall.
const STALL_THRESHOLD: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Watchdog {
    workers: Mutex<Vec<Arc<WatchedWorker>>>,
    stalls: AtomicU64,
}

#[derive(Debug)]
struct WatchedWorker {
    number: usize,
    /// Nanoseconds of a `Moment`.
    last_beat: AtomicU64,
}

/// Heartbeat of one worker, which is watched until this is dropped.
#[derive(Debug)]
pub(crate) struct WorkerHeartbeat {
    worker: Arc<WatchedWorker>,
    all: Arc<Watchdog>,
}

impl Watchdog {
    pub(super) fn register(self: &Arc<Self>, number: usize, now: Moment) -> WorkerHeartbeat {
        let worker = Arc::new(WatchedWorker { number, last_beat: AtomicU64::new(now.as_nanos()) });
        self.lock_workers().push(worker.clone());
        WorkerHeartbeat { worker, all: self.clone() }
    }

    pub(super) fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }

    /// How long each worker's beat is overdue.
    pub(super) fn overdue(&self, now: Moment) -> Vec<(usize, Duration)> {
        let mut overdue: Vec<_> =
            self.lock_workers().iter().map(|worker| (worker.number, worker.overdue(now))).collect();
        overdue.sort_unstable();
        overdue
    }

    fn lock_workers(&self) -> MutexGuard<'_, Vec<Arc<WatchedWorker>>> {
        self.workers.lock()
    }
}

impl WatchedWorker {
    fn overdue(&self, now: Moment) -> Duration {
        now.since(Moment::from_nanos(self.last_beat.load(Ordering::Relaxed)))
            .saturating_sub(WATCHDOG_INTERVAL)
    }
}

impl WorkerHeartbeat {
    /// Beats, and returns how long the worker was blocked if that was a stall.
    pub(crate) fn beat(&self, now: Moment) -> Option<Duration> {
        let overdue = self.worker.overdue(now);
        self.worker.last_beat.store(now.as_nanos(), Ordering::Relaxed);
        let stalled = overdue > STALL_THRESHOLD;
        self.all.stalls.fetch_add(u64::from(stalled), Ordering::Relaxed);
        stalled.then_some(overdue)
    }
}

impl Drop for WorkerHeartbeat {
    fn drop(&mut self) {
        self.all.lock_workers().retain(|worker| !Arc::ptr_eq(worker, &self.worker));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_blocked_worker_is_overdue_and_counts_as_one_stall() {
        let hearts = Arc::new(Watchdog::default());
        let (quick, slow) = (hearts.register(0, moment(0)), hearts.register(1, moment(0)));
        assert_eq!(quick.beat(moment(300)), None);
        assert_eq!(slow.beat(moment(1200)), None);
        assert_eq!(quick.beat(moment(3200)), Some(Duration::from_millis(2650)));
        let millis = |(worker, overdue): (usize, Duration)| (worker, overdue.as_millis());
        let overdue: Vec<_> = hearts.overdue(moment(3250)).into_iter().map(millis).collect();
        assert_eq!(overdue, [(0, 0), (1, 1800)]);
        assert_eq!(hearts.stalls(), 1);
    }

    #[test]
    fn one_that_has_ended_is_not_overdue() {
        let hearts = Arc::new(Watchdog::default());
        drop(hearts.register(0, moment(0)));
        assert_eq!(hearts.overdue(moment(60_000)), []);
    }
}
