//! Interim (1xx) responses of the upstream, on their way to the client whose request they are for (RFC 9110 §15.2).
//!
//! hyper's server sends none, so they are written beside it: they wait here until hyper has nothing to write, which is
//! sure to be before the final response of the same request, and the connection writes them then. Only HTTP/1.1 on both
//! sides; whoever follows another's fetch, or is answered from the store, gets none.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Version};

use super::forwarding;

/// More at a time wait for no client.
const MOST: usize = 16;
const MOST_BYTES: usize = 64 * 1024;

/// Those that wait on one connection.
#[derive(Clone, Default)]
pub struct InterimQueue(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    /// Counts the requests on the connection: an interim response that comes too late is for none of them.
    request: u64,
    waiting: VecDeque<Bytes>,
    /// Of the connection.
    waker: Option<Waker>,
}

/// The way back to one request's client.
#[derive(Clone)]
pub struct Interims {
    queue: InterimQueue,
    request: u64,
}

impl InterimQueue {
    /// Runs the answer to the connection's next request; `answer` is given the way for its interim responses, which are
    /// written until its final response is there.
    pub async fn relay<F: Future>(&self, answer: impl FnOnce(Interims) -> F) -> F::Output {
        let request = {
            let mut queue = self.lock();
            queue.request += 1;
            queue.request
        };
        let mut answer = std::pin::pin!(answer(Interims { queue: self.clone(), request }));
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
                    // The connection writes them at the end of this turn, if it can: a client that does
                    // not read gets the final response alone.
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

    /// The next to be written; to be asked for only when all that hyper had to write is written.
    pub fn next(&self) -> Option<Bytes> {
        self.lock().waiting.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interims {
    /// The upstream's interim responses to `request` come this way.
    pub(super) fn listen<B>(&self, request: &mut Request<B>) {
        let interims = self.clone();
        hyper::ext::on_informational(request, move |response| {
            interims.push(response.status(), response.headers().clone(), response.version());
        });
    }

    fn push(&self, status: StatusCode, mut headers: HeaderMap, version: Version) {
        // 100 is between two hops, and larder asks for none; 101 is an answer of its own kind.
        if [StatusCode::CONTINUE, StatusCode::SWITCHING_PROTOCOLS].contains(&status) {
            return;
        }
        forwarding::to_client(&mut headers, version);
        let written = written(status, &headers);
        let mut queue = self.queue.lock();
        let bytes: usize = queue.waiting.iter().map(Bytes::len).sum();
        if queue.request != self.request || queue.waiting.len() >= MOST || bytes + written.len() > MOST_BYTES
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
fn written(status: StatusCode, headers: &HeaderMap) -> Bytes {
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

    fn push(interims: &Interims, status: u16) {
        let headers = HeaderMap::from_iter([
            (LINK, HeaderValue::from_static("</a.css>; rel=preload")),
            (CONNECTION, HeaderValue::from_static("x-mine")),
        ]);
        interims.push(StatusCode::from_u16(status).expect("a status"), headers, Version::HTTP_11);
    }

    #[test]
    fn they_are_written_before_the_final_response_is_given() {
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
    fn one_that_could_not_be_written_in_time_is_dropped() {
        let queue = InterimQueue::default();
        let mut relay = std::pin::pin!(queue.relay(|interims| async move { push(&interims, 102) }));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(relay.as_mut().poll(&mut cx).is_pending());
        assert!(relay.as_mut().poll(&mut cx).is_ready());
        assert!(queue.next().is_none());
    }

    #[tokio::test]
    async fn one_that_comes_after_the_final_response_is_for_no_later_request() {
        let queue = InterimQueue::default();
        let late = queue.relay(|interims| async move { interims }).await;
        push(&late, 103);
        assert!(queue.next().is_none());
        queue.relay(|_| async { push(&late, 103) }).await;
        assert!(queue.next().is_none());
    }

    #[tokio::test]
    async fn what_is_between_two_hops_stays_there() {
        let queue = InterimQueue::default();
        queue
            .relay(|interims| {
                let queue = queue.clone();
                async move {
                    push(&interims, 100);
                    push(&interims, 101);
                    assert!(queue.next().is_none());
                    (0..100).for_each(|_| push(&interims, 103));
                    assert_eq!(std::iter::from_fn(|| queue.next()).count(), MOST);
                }
            })
            .await;
    }
}
