//! Holds the content of a request back until the upstream wants it (RFC 9110 §10.1.1).

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Sleep, sleep};

/// The time after which the content is sent to an upstream that says nothing. curl waits as long.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Opens when the upstream answers 100, or nothing for a while. Once a final response has come, it stays as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContinueGate(Arc<Mutex<GateState>>);

#[derive(Debug, Default)]
struct GateState {
    is_open: bool,
    is_refused: bool,
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

    /// The upstream has given its final response. Returns whether the content is held back, and stays so: the client was not
    /// told to send it (RFC 9110 §10.1.1).
    pub(super) fn refuse(&self) -> bool {
        let mut state = self.0.lock();
        state.is_refused = !state.is_open;
        state.is_refused
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
            if state.is_refused {
                return Poll::Pending;
            }
        }
        ready!(self.timer.get_or_insert_with(|| Box::pin(sleep(MAX_WAIT))).as_mut().poll(cx));
        self.gate.0.lock().is_open = true;
        Poll::Ready(())
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
        assert!(!gate.refuse(), "the content is under way");
    }

    #[tokio::test(start_paused = true)]
    async fn it_stays_closed_after_a_final_response() {
        let gate = ContinueGate::default();
        let mut wait = ContinueWait::new(gate.clone());
        assert!(poll_fn(|cx| Poll::Ready(wait.poll_open(cx))).await.is_pending());
        assert!(gate.refuse());
        tokio::time::advance(2 * MAX_WAIT).await;
        assert!(poll_fn(|cx| Poll::Ready(wait.poll_open(cx))).await.is_pending());
    }
}
