//! Circuit breaker of one instance: after failures in a row, requests fail at once, except for a probe now and then.
//! Where there are other instances, one failure is enough for requests to go to those.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The time between two probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// The longest time between two probes where other instances answer: it doubles with each probe.
const MAX_PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// A request that can't be sent elsewhere if it fails is a probe this much later than others.
const WRITE_PROBE_DELAY: Duration = Duration::from_secs(10);

pub(super) struct Breaker {
    /// The instance, for the log.
    name: String,
    /// Failures in a row that open the circuit; `None`: it never opens.
    threshold: Option<usize>,
    failures: AtomicUsize,
    /// Probes since the last success.
    probes: AtomicU32,
    /// A probe has begun that has not ended, although other instances answer.
    is_probed: AtomicBool,
    began: Instant,
    /// The time of the next probe, in milliseconds since `began`.
    next_probe: AtomicU64,
}

impl Breaker {
    pub(super) fn new(limit: Option<usize>, name: String) -> Self {
        Self {
            name,
            threshold: limit,
            failures: AtomicUsize::new(0),
            probes: AtomicU32::new(0),
            is_probed: AtomicBool::new(false),
            began: Instant::now(),
            next_probe: AtomicU64::new(0),
        }
    }

    /// Returns whether a request may be sent: the circuit is closed, or this request is the probe.
    pub(super) fn allows_request(&self) -> bool {
        !self.is_open() || self.try_probe(self.now(), 0)
    }

    /// Returns whether [`Breaker::allows_request`] could say so now.
    pub(super) fn may_allow_request(&self) -> bool {
        !self.is_open() || self.now() >= self.next_probe.load(Ordering::Relaxed)
    }

    /// Returns whether the last request failed, so that others are better sent elsewhere.
    pub(super) fn is_suspect(&self) -> bool {
        self.failures.load(Ordering::Relaxed) > 0
    }

    /// Returns whether this request finds out if the instance is back, although other instances answer. No other does
    /// until [`Breaker::end_probe`]: an instance that hangs keeps one request at a time.
    pub(super) fn begin_probe(&self, is_repeatable: bool) -> bool {
        let doublings = self.probes.load(Ordering::Relaxed).min(16);
        let backoff = (PROBE_INTERVAL * (1 << doublings)).min(MAX_PROBE_INTERVAL) - PROBE_INTERVAL;
        let delay = if is_repeatable { backoff } else { backoff + WRITE_PROBE_DELAY };
        if !self.is_suspect() || self.is_probed.load(Ordering::Relaxed) {
            return false;
        }
        let begins = self.try_probe(self.now(), millis(delay));
        self.is_probed.fetch_or(begins, Ordering::Relaxed);
        begins
    }

    pub(super) fn end_probe(&self) {
        self.is_probed.store(false, Ordering::Relaxed);
    }

    /// `delay`: milliseconds by which this probe comes later than another.
    fn try_probe(&self, now: u64, delay: u64) -> bool {
        let next = self.next_probe.load(Ordering::Relaxed);
        // Only one request wins the exchange.
        let is_probe = now >= next + delay
            && self
                .next_probe
                .compare_exchange(next, now + millis(PROBE_INTERVAL), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_probe {
            self.probes.fetch_add(1, Ordering::Relaxed);
        }
        is_probe
    }

    /// Returns whether the last request had failed.
    pub(super) fn record_success(&self) -> bool {
        if self.failures.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.probes.store(0, Ordering::Relaxed);
        let before = self.failures.swap(0, Ordering::Relaxed);
        if self.threshold.is_some_and(|limit| before >= limit) {
            tracing::info!(upstream = self.name, "upstream circuit breaker closed");
        }
        before > 0
    }

    /// Returns whether it is the first failure in a row.
    pub(super) fn record_failure(&self) -> bool {
        self.record_failure_at(self.now())
    }

    fn record_failure_at(&self, now: u64) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let opens = self.threshold == Some(failures);
        if opens || failures == 1 {
            self.next_probe.store(now + millis(PROBE_INTERVAL), Ordering::Relaxed);
        }
        if opens {
            tracing::warn!(upstream = self.name, failures, "upstream circuit breaker opened");
        }
        failures == 1
    }

    pub(super) fn is_open(&self) -> bool {
        self.threshold.is_some_and(|limit| self.failures.load(Ordering::Relaxed) >= limit)
    }

    fn now(&self) -> u64 {
        millis(self.began.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_failures_in_a_row_one_request_at_a_time_tries() {
        let breaker = Breaker::new(Some(3), "a".into());
        let at = |pauses: u64| pauses * millis(PROBE_INTERVAL);
        breaker.record_failure_at(at(0));
        breaker.record_failure_at(at(0));
        breaker.record_success();
        for _ in 0..3 {
            assert!(!breaker.is_open());
            breaker.record_failure_at(at(0));
        }
        assert!(breaker.is_open());
        for pauses in 1..4 {
            assert!(!breaker.try_probe(at(pauses) - 1, 0));
            assert!(breaker.try_probe(at(pauses), 0));
            assert!(!breaker.try_probe(at(pauses), 0));
            breaker.record_failure_at(at(pauses));
        }
        breaker.record_success();
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_write_probes_later_than_a_read() {
        let breaker = Breaker::new(None, "a".into());
        assert!(!breaker.is_suspect() && !breaker.begin_probe(true));
        breaker.record_failure_at(0);
        let delay = millis(WRITE_PROBE_DELAY);
        let next = millis(PROBE_INTERVAL);
        assert!(breaker.is_suspect() && !breaker.try_probe(next + delay - 1, delay));
        assert!(breaker.try_probe(next, 0) && !breaker.try_probe(2 * next - 1, 0));
        assert!(breaker.try_probe(2 * next + delay, delay));
        breaker.record_success();
        assert!(!breaker.is_suspect() && !breaker.begin_probe(true));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_between_probes_doubles_with_each_probe() {
        let breaker = Breaker::new(None, "a".into());
        for _ in 0..100 {
            breaker.record_failure();
        }
        for interval in [500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
            tokio::time::advance(Duration::from_millis(interval - 1)).await;
            assert!(!breaker.begin_probe(true), "{interval}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(breaker.begin_probe(true), "{interval}");
            breaker.end_probe();
        }
    }

    #[test]
    fn it_can_be_switched_off() {
        let breaker = Breaker::new(None, "a".into());
        for _ in 0..1000 {
            breaker.record_failure();
        }
        assert!(breaker.allows_request());
    }
}
