//! Lets an upstream rest that can't be reached or does not answer in time: then it is asked now and then, and nobody
//! else waits for what will not come.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Between two requests that try whether it is back.
const PAUSE: Duration = Duration::from_millis(500);

pub struct Breaker {
    /// So many failures in a row; `None`: it never rests.
    limit: Option<usize>,
    failures: AtomicUsize,
    began: Instant,
    /// When it is tried next, in milliseconds since `began`.
    next: AtomicU64,
}

impl Breaker {
    pub fn new(limit: Option<usize>) -> Self {
        Self { limit, failures: AtomicUsize::new(0), began: Instant::now(), next: AtomicU64::new(0) }
    }

    /// Whether a request may be sent.
    pub fn admits(&self) -> bool {
        !self.rests() || self.tries(self.now())
    }

    fn tries(&self, now: u64) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        // One request tries; the others see that it has been taken.
        now >= next
            && self
                .next
                .compare_exchange(next, now + millis(PAUSE), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    pub fn succeeded(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            let before = self.failures.swap(0, Ordering::Relaxed);
            if self.limit.is_some_and(|limit| before >= limit) {
                tracing::info!("the upstream is back");
            }
        }
    }

    pub fn failed(&self) {
        self.failed_at(self.now());
    }

    fn failed_at(&self, now: u64) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if self.limit == Some(failures) {
            self.next.store(now + millis(PAUSE), Ordering::Relaxed);
            tracing::warn!(failures, "the upstream is left alone, and tried now and then");
        }
    }

    fn rests(&self) -> bool {
        self.limit.is_some_and(|limit| self.failures.load(Ordering::Relaxed) >= limit)
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
        let breaker = Breaker::new(Some(3));
        let at = |pauses: u64| pauses * millis(PAUSE);
        breaker.failed_at(at(0));
        breaker.failed_at(at(0));
        breaker.succeeded();
        for _ in 0..3 {
            assert!(!breaker.rests());
            breaker.failed_at(at(0));
        }
        assert!(breaker.rests());
        for pauses in 1..4 {
            assert!(!breaker.tries(at(pauses) - 1));
            assert!(breaker.tries(at(pauses)));
            assert!(!breaker.tries(at(pauses)));
            breaker.failed_at(at(pauses));
        }
        breaker.succeeded();
        assert!(!breaker.rests());
    }

    #[test]
    fn it_can_be_switched_off() {
        let breaker = Breaker::new(None);
        for _ in 0..1000 {
            breaker.failed();
        }
        assert!(breaker.admits());
    }
}
