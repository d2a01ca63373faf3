//! Exponential back-off for each key: hit-for-miss markers, and refreshes that failed.

use std::hash::Hash;
use std::time::Duration;

use quick_cache::sync::Cache;

use crate::clock::{Clock, Timestamp};

/// How many keys are kept at most.
const MAX_KEYS: usize = 16 * 1024;

/// Keys that are held back for a while. The time doubles each time that a key is held back again soon after.
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

    /// Holds the key back, and returns for how long: twice as long as the last time, if that is not long ago.
    pub(super) fn extend(&self, key: K, reason: R) -> Duration {
        let now = self.clock.now();
        let recent = self.held.get(&key).filter(|held| now < held.until.plus(held.lasts));
        let lasts = recent.map_or(self.min, |held| held.lasts.saturating_mul(2).min(self.max));
        self.hold(key, lasts, reason);
        lasts
    }

    pub(super) fn hold(&self, key: K, lasts: Duration, reason: R) {
        self.held.insert(key, Held { until: self.clock.now().plus(lasts), lasts, reason });
    }

    /// Changes the reason for which a key is held back.
    pub(super) fn amend(&self, key: &K, reason: R) {
        if let Some(held) = self.held.get(key) {
            self.held.insert(*key, Held { reason, ..held });
        }
    }

    pub(super) fn clear(&self, key: &K) {
        self.held.remove(key);
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
            assert_eq!(backoff.extend(7, "failed"), seconds(lasts));
            assert_eq!(backoff.active(&7), Some(("failed", seconds(lasts))));
            assert_eq!(backoff.active(&8), None);
            clock.advance(seconds(lasts));
            assert_eq!(backoff.active(&7), None);
        }
        clock.advance(seconds(6));
        assert_eq!(backoff.extend(7, "failed"), seconds(1));
        backoff.clear(&7);
        assert_eq!(backoff.active(&7), None);
    }
}
