//! A client that has closed its sending side: it still reads (RFC 9112 §9.6), or has left. The parser drops a request
//! whose client has ended, so its end is withheld from the parser.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::activity::ConnectionActivity;

/// How long a client that has closed its sending side waits for an answer that it cancels by leaving, or for more of it.
const HALF_CLOSE_GRACE: Duration = Duration::from_secs(1);

pub(super) struct ClientEnd {
    check: Pin<Box<Sleep>>,
    /// Bytes that were sent to the client before.
    sent: u64,
}

impl ClientEnd {
    pub(super) fn new(sent: u64) -> Self {
        Self { check: Box::pin(sleep(HALF_CLOSE_GRACE)), sent }
    }

    /// Resolves when the parser may learn of the end: everything is answered, or the client is taken to have left. `sent`:
    /// bytes that were sent to the client so far.
    pub(super) fn poll_told(
        &mut self,
        cx: &mut Context<'_>,
        activity: &ConnectionActivity,
        sent: u64,
    ) -> Poll<()> {
        if !activity.is_answering() {
            return Poll::Ready(());
        }
        while self.check.as_mut().poll(cx).is_ready() {
            // The time for a blocked write is bounded elsewhere.
            if activity.is_cancelled_by_end() && self.sent == sent && !activity.is_write_blocked() {
                return Poll::Ready(());
            }
            self.sent = sent;
            self.check.as_mut().reset(Instant::now() + HALF_CLOSE_GRACE);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use super::*;

    async fn time_until_told(activity: &Arc<ConnectionActivity>, mut sent: impl FnMut() -> u64) -> Duration {
        let (began, mut end) = (Instant::now(), ClientEnd::new(sent()));
        poll_fn(|cx| end.poll_told(cx, activity, sent())).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn the_parser_is_told_once_everything_is_answered() {
        let activity = ConnectionActivity::new();
        assert_eq!(time_until_told(&activity, || 0).await, Duration::ZERO);
        let request = activity.begin_request(false);
        activity.set_cancelled_by_end(false);
        let answer = async {
            sleep(60 * HALF_CLOSE_GRACE).await;
            drop(request);
        };
        let (told, ()) = tokio::join!(time_until_told(&activity, || 0), answer);
        assert!((60 * HALF_CLOSE_GRACE..62 * HALF_CLOSE_GRACE).contains(&told), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancellable_request_goes_on_while_bytes_are_sent() {
        let activity = ConnectionActivity::new();
        let _request = activity.begin_request(false);
        activity.set_cancelled_by_end(true);
        assert_eq!(time_until_told(&activity, || 7).await, HALF_CLOSE_GRACE);
        let began = Instant::now();
        let sending = || began.elapsed().min(5 * HALF_CLOSE_GRACE).as_millis() as u64;
        let told = time_until_told(&activity, sending).await;
        assert!((5 * HALF_CLOSE_GRACE..=7 * HALF_CLOSE_GRACE).contains(&told), "{told:?}");
        activity.set_write_blocked(true);
        let unblocked = async {
            sleep(10 * HALF_CLOSE_GRACE).await;
            activity.set_write_blocked(false);
        };
        let (told, ()) = tokio::join!(time_until_told(&activity, || 7), unblocked);
        assert!(told >= 10 * HALF_CLOSE_GRACE, "{told:?}");
    }
}
