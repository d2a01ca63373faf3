//! HTTP/2 streams side by side. A response goes out in parts, as its client takes them; a client that takes nothing of
//! one for too long loses that stream, and keeps its connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::rt::Executor;

use super::activity::InFlightGuard;
use super::slow_reader::SlowReaderTimeout;
use crate::memory_budget::MemoryBudget;
use crate::progress_timeout::ProgressTimeout;

/// The size of a part. hyper asks for the next one when the client has room for it.
const BODY_PART_BYTES: usize = 16 * 1024;

tokio::task_local! {
    static CURRENT_STREAM: Arc<FlowControlState>;
}

/// The number of parts that were handed out, times two, and [`AWAITING_WINDOW`].
#[derive(Debug, Default)]
struct FlowControlState(AtomicU64);

/// Set while the last part waits for the client's window.
const AWAITING_WINDOW: u64 = 1;

impl FlowControlState {
    fn record_part(&self) {
        let parts = self.0.load(Ordering::Relaxed) >> 1;
        self.0.store((parts + 1) << 1 | AWAITING_WINDOW, Ordering::Relaxed);
    }

    fn record_demand(&self) {
        self.0.fetch_and(!AWAITING_WINDOW, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs each stream on its own task, and resets it when its client takes nothing for `write_timeout`.
#[derive(Clone, Debug)]
pub(super) struct StreamExecutor {
    pub write_timeout: Duration,
    pub memory: Arc<MemoryBudget>,
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        let flow = Arc::new(FlowControlState::default());
        let stream = Box::pin(CURRENT_STREAM.scope(flow.clone(), stream));
        let silence = ProgressTimeout::new(self.write_timeout);
        let write_timeout = SlowReaderTimeout::new(silence, self.memory.clone());
        tokio::spawn(StreamTask { stream, flow, last: 0, write_timeout });
    }
}

struct StreamTask<F> {
    stream: Pin<Box<F>>,
    flow: Arc<FlowControlState>,
    last: u64,
    write_timeout: SlowReaderTimeout,
}

impl<F: Future> Future for StreamTask<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let state = self.flow.get();
        let is_blocked = state & AWAITING_WINDOW != 0;
        if state != self.last || !is_blocked {
            self.write_timeout.reset();
            self.last = state;
        }
        if is_blocked {
            ready!(self.write_timeout.poll_expired(cx));
            // Dropping the stream resets it.
            tracing::debug!("HTTP/2 stream reset: the client read nothing of its response");
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// A response body that keeps its request in flight until it has ended.
pub(super) struct TrackedBody<B> {
    body: B,
    /// `None` over HTTP/1.1.
    splitter: Option<Box<StreamSplitter>>,
    _in_flight: InFlightGuard,
}

/// Splits the body of an HTTP/2 stream into parts.
struct StreamSplitter {
    flow: Arc<FlowControlState>,
    /// The rest of the last frame of the body.
    buffered: Bytes,
}

impl<B> TrackedBody<B> {
    pub(super) fn new(body: B, in_flight: InFlightGuard) -> Self {
        Self { body, splitter: None, _in_flight: in_flight }
    }

    /// Splits the body if this is called on the task of an HTTP/2 stream.
    pub(super) fn bind_to_stream(mut self) -> Self {
        if let Ok(flow) = CURRENT_STREAM.try_with(Arc::clone) {
            // The head may wait for the window before the first part is asked for.
            flow.record_part();
            self.splitter = Some(Box::new(StreamSplitter { flow, buffered: Bytes::new() }));
        }
        self
    }

    fn buffered_len(&self) -> u64 {
        self.splitter.as_ref().map_or(0, |splitter| splitter.buffered.len() as u64)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for TrackedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Self { body, splitter, .. } = &mut *self;
        let Some(splitter) = splitter else { return Pin::new(body).poll_frame(cx) };
        let StreamSplitter { flow, buffered } = &mut **splitter;
        flow.record_demand();
        if buffered.is_empty() {
            match ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => *buffered = data,
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let part = buffered.split_to(BODY_PART_BYTES.min(buffered.len()));
        flow.record_part();
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.buffered_len() == 0 && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, buffered) = (self.body.size_hint(), self.buffered_len());
        if buffered == 0 {
            return hint;
        }
        let mut total = SizeHint::new();
        total.set_lower(hint.lower() + buffered);
        if let Some(upper) = hint.upper() {
            total.set_upper(upper + buffered);
        }
        total
    }
}
