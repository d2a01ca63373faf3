//! Circuit breaker of one instance: after failures in a row, requests fail at once, except for a probe now and then.
//! Where there are other instances, one failure is enough for requests to go to those.
//!
//! A failure counts only if the instance answered nothing since that request was sent. So requests for one slow path
//! that time out together say nothing about an instance that answers others meanwhile.

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
    /// The time for an answer after which a request's failure counts, in milliseconds: the upstream's own.
    full_wait: u64,
    failures: AtomicUsize,
    /// The last request failed.
    is_suspect: AtomicBool,
    /// The first millisecond after the last answer, since `began`; 0: there was none.
    answered_until: AtomicU64,
    /// Probes since the last success.
    probes: AtomicU32,
    /// A probe has begun that has not ended, although other instances answer.
    is_probed: AtomicBool,
    began: Instant,
    /// The time of the next probe, in milliseconds since `began`.
    next_probe: AtomicU64,
}

/// A request that was sent, as its failure is judged by.
#[derive(Clone, Copy)]
pub(super) struct SentRequest {
    /// In milliseconds since the breaker began.
    at: u64,
    /// Its route waits for less time than the upstream's `response_timeout`.
    is_impatient: bool,
}

impl Breaker {
    /// `full_wait`: the upstream's `response_timeout`.
    pub(super) fn new(limit: Option<usize>, full_wait: Duration, name: String) -> Self {
        Self {
            name,
            threshold: limit,
            full_wait: millis(full_wait),
            failures: AtomicUsize::new(0),
            is_suspect: AtomicBool::new(false),
            answered_until: AtomicU64::new(0),
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
        self.is_suspect.load(Ordering::Relaxed)
    }

    /// Notes a request that is sent now and waits for its answer for `limit`.
    pub(super) fn begin_request(&self, limit: Duration) -> SentRequest {
        SentRequest { at: self.now(), is_impatient: millis(limit) < self.full_wait }
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
        self.answered_until.fetch_max(self.now() + 1, Ordering::Relaxed);
        if !self.is_suspect() {
            return false;
        }
        self.probes.store(0, Ordering::Relaxed);
        let before = self.failures.swap(0, Ordering::Relaxed);
        if self.threshold.is_some_and(|limit| before >= limit) {
            tracing::info!(upstream = self.name, "upstream circuit breaker closed");
        }
        self.is_suspect.swap(false, Ordering::Relaxed)
    }

    /// Records that no connection could be made for a request. Returns whether it is the first failure in a row.
    pub(super) fn record_unreachable(&self, sent: SentRequest) -> bool {
        self.record_failure_at(self.now(), SentRequest { is_impatient: false, ..sent })
    }

    /// Records that a request was not answered in time. Returns whether it is the first failure in a row.
    pub(super) fn record_timeout(&self, sent: SentRequest) -> bool {
        self.record_failure_at(self.now(), sent)
    }

    /// Records that the instance ended a new connection without an answer. That never opens the circuit, since the request
    /// may be the cause. Returns whether it is the first failure in a row.
    pub(super) fn record_closed(&self, sent: SentRequest) -> bool {
        self.set_suspect(self.now(), sent) == Some(true)
    }

    /// `Some`: whether it is the first failure in a row; `None`: the instance has answered since the request was sent.
    fn set_suspect(&self, now: u64, sent: SentRequest) -> Option<bool> {
        if self.answered_until.load(Ordering::Relaxed) > sent.at {
            return None;
        }
        let is_first = !self.is_suspect.swap(true, Ordering::Relaxed);
        if is_first {
            self.next_probe.store(now + millis(PROBE_INTERVAL), Ordering::Relaxed);
        }
        Some(is_first)
    }

    /// Requests that wait for less time than the upstream's own are counted only if it has not answered for that long:
    /// else a route with a short time could open the circuit between two answers to others.
    fn record_failure_at(&self, now: u64, sent: SentRequest) -> bool {
        let Some(is_first) = self.set_suspect(now, sent) else { return false };
        let answered_until = self.answered_until.load(Ordering::Relaxed);
        let is_counted = !sent.is_impatient || now.saturating_sub(answered_until) >= self.full_wait;
        let failures = self.failures.fetch_add(usize::from(is_counted), Ordering::Relaxed) + 1;
        let opens = is_counted && self.threshold == Some(failures);
        if opens {
            self.next_probe.store(now + millis(PROBE_INTERVAL), Ordering::Relaxed);
            tracing::warn!(upstream = self.name, failures, "upstream circuit breaker opened");
        }
        is_first
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

    const FULL_WAIT: Duration = Duration::from_secs(30);

    fn unreachable_at(breaker: &Breaker, now: u64) {
        breaker.record_failure_at(now, SentRequest { at: now, is_impatient: false });
    }

    #[test]
    fn after_failures_in_a_row_one_request_at_a_time_tries() {
        let breaker = Breaker::new(Some(3), FULL_WAIT, "a".into());
        let at = |pauses: u64| (pauses + 100) * millis(PROBE_INTERVAL);
        unreachable_at(&breaker, at(0));
        unreachable_at(&breaker, at(0));
        breaker.record_success();
        for _ in 0..3 {
            assert!(!breaker.is_open());
            unreachable_at(&breaker, at(0));
        }
        assert!(breaker.is_open());
        for pauses in 1..4 {
            assert!(!breaker.try_probe(at(pauses) - 1, 0));
            assert!(breaker.try_probe(at(pauses), 0));
            assert!(!breaker.try_probe(at(pauses), 0));
            unreachable_at(&breaker, at(pauses));
        }
        breaker.record_success();
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_write_probes_later_than_a_read() {
        let breaker = Breaker::new(None, FULL_WAIT, "a".into());
        assert!(!breaker.is_suspect() && !breaker.begin_probe(true));
        unreachable_at(&breaker, 0);
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
        let breaker = Breaker::new(None, FULL_WAIT, "a".into());
        for _ in 0..100 {
            breaker.record_unreachable(breaker.begin_request(FULL_WAIT));
        }
        for interval in [500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
            tokio::time::advance(Duration::from_millis(interval - 1)).await;
            assert!(!breaker.begin_probe(true), "{interval}");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(breaker.begin_probe(true), "{interval}");
            breaker.end_probe();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_counts_only_if_nothing_was_answered_since() {
        let breaker = Breaker::new(Some(2), FULL_WAIT, "a".into());
        let wait = async |time| {
            let sent = [breaker.begin_request(FULL_WAIT), breaker.begin_request(FULL_WAIT)];
            tokio::time::advance(time).await;
            sent
        };
        let early = wait(FULL_WAIT / 2).await;
        breaker.record_success();
        tokio::time::advance(Duration::from_millis(1)).await;
        let late = wait(FULL_WAIT / 2).await;
        for sent in early {
            assert!(!breaker.record_timeout(sent) && !breaker.record_unreachable(sent));
        }
        assert!(!breaker.is_suspect() && !breaker.is_open());
        late.into_iter().for_each(|sent| _ = breaker.record_timeout(sent));
        assert!(breaker.is_suspect() && breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn an_impatient_route_counts_only_after_the_full_time() {
        let breaker = Breaker::new(Some(2), FULL_WAIT, "a".into());
        let time_out = async || {
            let sent = breaker.begin_request(Duration::from_secs(1));
            tokio::time::advance(Duration::from_secs(1)).await;
            breaker.record_timeout(sent);
        };
        for _ in 1..30 {
            time_out().await;
            assert!(breaker.is_suspect() && !breaker.is_open());
        }
        breaker.record_success();
        for _ in 1..30 {
            time_out().await;
            assert!(!breaker.is_open());
        }
        for _ in 0..3 {
            time_out().await;
        }
        assert!(breaker.is_open());
    }

    #[test]
    fn it_can_be_switched_off() {
        let breaker = Breaker::new(None, FULL_WAIT, "a".into());
        for _ in 0..1000 {
            breaker.record_unreachable(breaker.begin_request(FULL_WAIT));
        }
        assert!(breaker.allows_request());
    }
}
