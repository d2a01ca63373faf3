//! Bounds how slowly a client may read a response: by the minimum rate, and by the time without progress while memory is
//! short.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::memory_budget::MemoryBudget;
use crate::progress_timeout::ProgressTimeout;

/// The interval at which a blocked response looks at the memory budget.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct SlowReaderTimeout {
    rate: ProgressTimeout,
    memory: Arc<MemoryBudget>,
    /// The time since which the client has read nothing, and the next check.
    blocked: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl SlowReaderTimeout {
    pub(super) fn new(rate: ProgressTimeout, memory: Arc<MemoryBudget>) -> Self {
        Self { rate, memory, blocked: None }
    }

    /// Records that the client has read something.
    pub(super) fn record(&mut self, bytes: u64) {
        self.blocked = None;
        self.rate.record(bytes);
    }

    /// Starts anew: nothing is left that the client would have to read.
    pub(super) fn reset(&mut self) {
        self.blocked = None;
        self.rate.reset();
    }

    /// Resolves when the client is too slow.
    pub(super) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.rate.poll_expired(cx).is_ready() {
            return Poll::Ready(());
        }
        let (since, check) =
            self.blocked.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(CHECK_INTERVAL))));
        while check.as_mut().poll(cx).is_ready() {
            if self.memory.max_stall().is_some_and(|max_stall| since.elapsed() >= max_stall) {
                return Poll::Ready(());
            }
            check.as_mut().reset(Instant::now() + CHECK_INTERVAL);
        }
        Poll::Pending
    }
}
