//! Interim (1xx) responses of the upstream, on their way to the client whose request they are for (RFC 9110 §15.2).
//!
//! hyper's server sends none, so the connection writes them: they are queued until hyper has nothing to write, which is
//! always before the final response of the same request. Only for HTTP/1.1 on both sides. A follower of a fetch and a hit
//! get none.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Version};
use parking_lot::{Mutex, MutexGuard};

use super::forwarding;
use crate::upstream::ContinueGate;

/// Interim responses queued for one request at most.
const MAX_QUEUED: usize = 16;
const MAX_QUEUED_BYTES: usize = 64 * 1024;

/// The interim responses that are queued on one connection.
#[derive(Clone, Default)]
pub(crate) struct InterimQueue(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    /// The number of the current request: a late interim response of an earlier one is dropped.
    request: u64,
    waiting: VecDeque<Bytes>,
    /// The connection's waker.
    waker: Option<Waker>,
}

/// Sends interim responses to one request's client.
#[derive(Clone)]
pub(crate) struct InterimSender {
    queue: InterimQueue,
    request: u64,
}

impl InterimQueue {
    /// Runs the connection's next request. `answer` gets the sender for its interim responses, which are written until the
    /// final response is there.
    pub(crate) async fn relay<F: Future>(&self, answer: impl FnOnce(InterimSender) -> F) -> F::Output {
        let request = {
            let mut queue = self.lock();
            queue.request += 1;
            queue.request
        };
        let mut answer = std::pin::pin!(answer(InterimSender { queue: self.clone(), request }));
        let mut answered = None;
        poll_fn(|cx| {
            if answered.is_none() {
                match answer.as_mut().poll(cx) {
                    Poll::Ready(output) => answered = Some(output),
                    Poll::Pending => {
                        self.lock().waker = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                }
                if !self.lock().waiting.is_empty() {
                    // The connection writes them at the end of this poll, if it can. A client that does not read gets
                    // only the final response.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            let mut queue = self.lock();
            queue.request += 1;
            queue.waiting.clear();
            drop(queue);
            answered.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// The next interim response. Call it only when hyper has written everything.
    pub(crate) fn next(&self) -> Option<Bytes> {
        self.lock().waiting.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock()
    }
}

/// Subscribes to the upstream's interim responses to `request`. A 100 opens `gate`.
pub(super) fn listen<B>(
    request: &mut Request<B>,
    interims: Option<InterimSender>,
    gate: Option<ContinueGate>,
) {
    if interims.is_none() && gate.is_none() {
        return;
    }
    hyper::ext::on_informational(request, move |response| match (&gate, &interims) {
        (Some(gate), _) if response.status() == StatusCode::CONTINUE => gate.open(),
        (_, Some(interims)) => {
            interims.push(response.status(), response.headers().clone(), response.version());
        }
        (_, None) => {}
    });
}

impl InterimSender {
    fn push(&self, status: StatusCode, mut headers: HeaderMap, version: Version) {
        // 100 concerns one hop only. 101 is a final response.
        if [StatusCode::CONTINUE, StatusCode::SWITCHING_PROTOCOLS].contains(&status) {
            return;
        }
        forwarding::prepare_response(&mut headers, version);
        let written = serialize(status, &headers);
        let mut queue = self.queue.lock();
        let bytes: usize = queue.waiting.iter().map(Bytes::len).sum();
        if queue.request != self.request
            || queue.waiting.len() >= MAX_QUEUED
            || bytes + written.len() > MAX_QUEUED_BYTES
        {
            return;
        }
        queue.waiting.push_back(written);
        let waker = queue.waker.take();
        drop(queue);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// RFC 9112 §4.
fn serialize(status: StatusCode, headers: &HeaderMap) -> Bytes {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.into()
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use http::HeaderValue;
    use http::header::{CONNECTION, LINK};

    use super::*;

    fn push(interims: &InterimSender, status: u16) {
        let headers = HeaderMap::from_iter([
            (LINK, HeaderValue::from_static("</a.css>; rel=preload")),
            (CONNECTION, HeaderValue::from_static("x-mine")),
        ]);
        interims.push(StatusCode::from_u16(status).expect("a status"), headers, Version::HTTP_11);
    }

    #[test]
    fn interim_responses_precede_the_final_one() {
        let queue = InterimQueue::default();
        let mut relay = std::pin::pin!(queue.relay(|interims| async move { push(&interims, 103) }));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(relay.as_mut().poll(&mut cx).is_pending());
        let written = queue.next().expect("one waits");
        assert_eq!(
            written,
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nvia: 1.1 larder\r\n\r\n"
        );
        assert!(relay.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn an_unwritten_interim_response_is_dropped() {
        let queue = InterimQueue::default();
        let mut relay = std::pin::pin!(queue.relay(|interims| async move { push(&interims, 102) }));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(relay.as_mut().poll(&mut cx).is_pending());
        assert!(relay.as_mut().poll(&mut cx).is_ready());
        assert!(queue.next().is_none());
    }

    #[tokio::test]
    async fn a_late_interim_response_is_not_for_the_next_request() {
        let queue = InterimQueue::default();
        let late = queue.relay(|interims| async move { interims }).await;
        push(&late, 103);
        assert!(queue.next().is_none());
        queue.relay(|_| async { push(&late, 103) }).await;
        assert!(queue.next().is_none());
    }

    #[tokio::test]
    async fn responses_100_and_101_are_not_relayed() {
        let queue = InterimQueue::default();
        queue
            .relay(|interims| {
                let queue = queue.clone();
                async move {
                    push(&interims, 100);
                    push(&interims, 101);
                    assert!(queue.next().is_none());
                    (0..100).for_each(|_| push(&interims, 103));
                    assert_eq!(std::iter::from_fn(|| queue.next()).count(), MAX_QUEUED);
                }
            })
            .await;
    }
}
