//! A timeout for an operation that waits for a peer: it runs only while the operation waits, and expires when the peer
//! moved too little meanwhile.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

pub(crate) struct ProgressTimeout {
    limit: Duration,
    /// Bytes that must move in `limit` of waiting.
    min_bytes: u64,
    moved: u64,
    /// The time that the operation has waited since the last `min_bytes`.
    waited: Duration,
    /// Armed by the first pending poll, so that an operation that never waits costs no timer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl ProgressTimeout {
    /// Expires after `limit` without a byte.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, min_bytes: 1, moved: 0, waited: Duration::ZERO, timer: None }
    }

    /// Expires when fewer than `bytes_per_second` moved during `limit` of waiting; 0: without a byte.
    pub(crate) fn with_min_rate(limit: Duration, bytes_per_second: u64) -> Self {
        let min_bytes = (u128::from(bytes_per_second) * limit.as_millis() / 1000).max(1);
        Self { min_bytes: u64::try_from(min_bytes).unwrap_or(u64::MAX), ..Self::new(limit) }
    }

    /// Records progress, after which the operation does not wait any more.
    pub(crate) fn record(&mut self, bytes: u64) {
        self.moved += bytes;
        if self.moved >= self.min_bytes {
            self.reset();
        } else if let Some(timer) = self.timer.take() {
            let left = timer.deadline().saturating_duration_since(Instant::now());
            self.waited = self.limit.saturating_sub(left);
        }
    }

    /// Starts anew: nothing is left to be moved.
    pub(crate) fn reset(&mut self) {
        (self.moved, self.waited, self.timer) = (0, Duration::ZERO, None);
    }

    /// Resolves when the peer is too slow. A pending poll means that the operation waits from now on.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.limit.saturating_sub(self.waited);
        self.timer.get_or_insert_with(|| Box::pin(sleep(left))).as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::time::advance;

    use super::*;

    fn is_expired(timeout: &mut ProgressTimeout) -> bool {
        timeout.poll_expired(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn it_expires_without_a_byte_for_the_limit() {
        let mut timeout = ProgressTimeout::new(10 * SECOND);
        for _ in 0..5 {
            assert!(!is_expired(&mut timeout));
            advance(9 * SECOND).await;
            timeout.record(1);
        }
        assert!(!is_expired(&mut timeout));
        advance(11 * SECOND).await;
        assert!(is_expired(&mut timeout));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_expires_and_the_minimum_rate_does_not() {
        for (bytes, survives) in [(99, false), (100, true)] {
            let mut timeout = ProgressTimeout::with_min_rate(10 * SECOND, 100);
            let mut seconds = 0;
            while seconds < 60 && !is_expired(&mut timeout) {
                advance(SECOND).await;
                timeout.record(bytes);
                seconds += 1;
            }
            assert_eq!(seconds == 60, survives, "{bytes} bytes a second: {seconds} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nothing_is_waited_for_does_not_count() {
        let mut timeout = ProgressTimeout::with_min_rate(10 * SECOND, 100);
        for _ in 0..100 {
            assert!(!is_expired(&mut timeout));
            timeout.record(1);
            advance(60 * SECOND).await;
        }
        assert!(!is_expired(&mut timeout));
    }
}
