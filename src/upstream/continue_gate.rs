//! Holds the content of a request back until the upstream wants it (RFC 9110 §10.1.1).

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Sleep, sleep};

/// The time after which the content is sent to an upstream that says nothing. curl waits as long.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Opens when the upstream answers 100.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContinueGate(Arc<Mutex<GateState>>);

#[derive(Debug, Default)]
struct GateState {
    is_open: bool,
    waiting: Option<Waker>,
}

/// The wait of one content, from its first poll on.
pub(super) struct ContinueWait {
    gate: ContinueGate,
    timer: Option<Pin<Box<Sleep>>>,
}

impl ContinueGate {
    pub(crate) fn open(&self) {
        let waiting = {
            let mut state = self.0.lock();
            state.is_open = true;
            state.waiting.take()
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl ContinueWait {
    pub(super) fn new(gate: ContinueGate) -> Self {
        Self { gate, timer: None }
    }

    pub(super) fn gate(&self) -> &ContinueGate {
        &self.gate
    }

    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        {
            let mut state = self.gate.0.lock();
            if state.is_open {
                return Poll::Ready(());
            }
            state.waiting = Some(cx.waker().clone());
        }
        self.timer.get_or_insert_with(|| Box::pin(sleep(MAX_WAIT))).as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_opens_by_itself_in_the_end() {
        let mut wait = ContinueWait::new(ContinueGate::default());
        let began = Instant::now();
        poll_fn(|cx| wait.poll_open(cx)).await;
        assert_eq!(began.elapsed(), MAX_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_when_the_upstream_says_so() {
        let gate = ContinueGate::default();
        let mut wait = ContinueWait::new(gate.clone());
        let began = Instant::now();
        let opening = async {
            tokio::task::yield_now().await;
            gate.open();
        };
        tokio::join!(poll_fn(|cx| wait.poll_open(cx)), opening);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
