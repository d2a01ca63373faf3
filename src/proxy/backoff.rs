//! Exponential back-off for each key: hit-for-miss markers, and refreshes that failed.

use std::hash::Hash;
use std::time::Duration;

use quick_cache::sync::Cache;

use crate::clock::{Clock, Timestamp};

/// How many keys are kept at most.
const MAX_KEYS: usize = 16 * 1024;

/// Keys that are held back for a while. The time doubles if an attempt that began soon after the last hold fails, too: once,
/// however many attempts fail meanwhile.
pub(super) struct Backoff<K, R> {
    held: Cache<K, Held<R>>,
    clock: Clock,
    min: Duration,
    max: Duration,
}

#[derive(Clone, Copy)]
struct Held<R> {
    until: Timestamp,
    lasts: Duration,
    reason: R,
}

impl<K: Copy + Hash + Eq, R: Copy> Backoff<K, R> {
    pub(super) fn new(clock: Clock, min: Duration, max: Duration) -> Self {
        Self { held: Cache::new(MAX_KEYS), clock, min, max }
    }

    /// The reason and the time that is left, if the key is held back now.
    pub(super) fn active(&self, key: &K) -> Option<(R, Duration)> {
        let (held, now) = (self.held.get(key)?, self.clock.now());
        (now < held.until).then(|| (held.reason, held.until.since(now)))
    }

    /// The reason of the last hold, if the failure of an attempt that began at `began` follows it in a row.
    pub(super) fn recent(&self, key: &K, began: Timestamp) -> Option<R> {
        self.held.get(key).filter(|held| held.is_followed_by(began)).map(|held| held.reason)
    }

    /// Holds the key back after the failure of an attempt that began at `began`, and returns for how long from now. A hold
    /// that is not over stays as it is.
    pub(super) fn extend(&self, key: K, began: Timestamp, reason: R) -> Duration {
        let now = self.clock.now();
        let lasts = match self.held.get(&key) {
            Some(held) if now < held.until => {
                self.held.insert(key, Held { reason, ..held });
                return held.until.since(now);
            }
            // The attempt began before the hold was over: it did not wait for its end.
            Some(held) if began < held.until => held.lasts,
            Some(held) if held.is_followed_by(began) => held.lasts.saturating_mul(2).min(self.max),
            _ => self.min,
        };
        self.hold(key, lasts, reason);
        lasts
    }

    pub(super) fn hold(&self, key: K, lasts: Duration, reason: R) {
        self.held.insert(key, Held { until: self.clock.now().plus(lasts), lasts, reason });
    }

    /// Changes the reason for which a key is held back.
    pub(super) fn amend(&self, key: &K, amend: impl FnOnce(R) -> R) {
        if let Some(held) = self.held.get(key) {
            self.held.insert(*key, Held { reason: amend(held.reason), ..held });
        }
    }

    pub(super) fn clear(&self, key: &K) {
        self.held.remove(key);
    }
}

impl<R> Held<R> {
    fn is_followed_by(&self, began: Timestamp) -> bool {
        began < self.until.plus(self.lasts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_doubles_up_to_its_maximum_and_starts_again_later() {
        let clock = Clock::manual(Timestamp::from_secs(1_000));
        let seconds = Duration::from_secs;
        let backoff = Backoff::new(clock.clone(), seconds(1), seconds(5));
        assert_eq!(backoff.active(&7), None);
        for lasts in [1, 2, 4, 5, 5] {
            assert_eq!(backoff.extend(7, clock.now(), "failed"), seconds(lasts));
            assert_eq!(backoff.active(&7), Some(("failed", seconds(lasts))));
            assert_eq!(backoff.active(&8), None);
            clock.advance(seconds(lasts));
            assert_eq!(backoff.active(&7), None);
        }
        clock.advance(seconds(6));
        assert_eq!(backoff.extend(7, clock.now(), "failed"), seconds(1));
        backoff.clear(&7);
        assert_eq!(backoff.active(&7), None);
    }

    #[test]
    fn a_burst_of_failures_counts_once() {
        let clock = Clock::manual(Timestamp::from_secs(1_000));
        let seconds = Duration::from_secs;
        let backoff = Backoff::new(clock.clone(), seconds(2), seconds(60));
        let began = clock.now();
        for _ in 0..13 {
            assert_eq!(backoff.extend(7, began, "failed"), seconds(2));
        }
        clock.advance(seconds(1));
        assert_eq!(backoff.extend(7, clock.now(), "failed again"), seconds(1));
        assert_eq!(backoff.active(&7), Some(("failed again", seconds(1))));
        // One of the burst fails only now.
        clock.advance(seconds(9));
        assert_eq!(backoff.extend(7, began, "timeout"), seconds(2));
    }

    #[test]
    fn a_slow_attempt_counts_from_its_beginning() {
        let clock = Clock::manual(Timestamp::from_secs(1_000));
        let seconds = Duration::from_secs;
        let backoff = Backoff::new(clock.clone(), seconds(1), seconds(30));
        for lasts in [1, 2, 4] {
            let began = clock.now();
            assert_eq!(backoff.recent(&7, began).is_some(), lasts > 1);
            clock.advance(seconds(10));
            assert_eq!(backoff.extend(7, began, "timeout"), seconds(lasts));
            clock.advance(seconds(lasts));
        }
    }
}
