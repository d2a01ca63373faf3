//! The body that a client is sent: from memory, from the upstream, or from a response that is shared with others.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::task::TaskTracker;

use super::buffered_body::{BufferedBody, buffer_body};
use super::compressed_body::CompressedBody;
use super::shared_body::{BodyReader, SharedBodyError};
use crate::access_log::AccessLogEntry;
use crate::memory_budget::MemoryBudget;
use crate::observation::ReadRecorder;
use crate::upstream::{BodyError, UpstreamBody};

/// A response that nobody reads is read to its end if it has no more bytes than these, so that its connection can carry the
/// next request. To open another one costs about as much as to read them.
const MAX_DRAIN_BYTES: u64 = 64 * 1024;

/// The time that the end of such a response is waited for.
const MAX_DRAIN_TIME: Duration = Duration::from_secs(1);

/// The one body type of all responses to clients.
pub(crate) enum Body {
    Full(Full<Bytes>),
    Upstream(UpstreamBody),
    Compressed(Box<CompressedBody>),
    Buffered(Box<BufferedBody>),
    Shared(BodyReader),
    /// A body whose end waits for a task.
    WithEnd(Box<BodyWithEnd>),
    /// A body with a deadline.
    Bounded(Box<Body>, Pin<Box<Sleep>>),
    /// A body whose access log entry is written when it has been sent.
    Logged(Box<LoggedBody>),
    /// A body that is fingerprinted on its way.
    Observed(Box<ObservedBody>),
}

pub(crate) struct LoggedBody {
    body: Body,
    entry: AccessLogEntry,
    failed: bool,
}

/// Starts a task when the end of a body is seen, or (`false`) it fails or is dropped before.
pub(crate) type OnEnd = Box<dyn FnOnce(bool) -> JoinHandle<()> + Send>;

/// The client sees neither the end nor that it was cut off before the task is done.
pub(crate) struct BodyWithEnd {
    body: Body,
    /// `None`: the end has been seen.
    on_end: Option<OnEnd>,
    task: Option<JoinHandle<()>>,
    /// The frame or the error that follows the task.
    last: Option<Result<Frame<Bytes>, ClientBodyError>>,
}

pub(crate) struct ObservedBody {
    body: Body,
    recorder: ReadRecorder,
    failed: bool,
}

/// Ends the client's connection in the middle of a response, so that a part is never taken for the whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientBodyError {
    #[error(transparent)]
    Upstream(#[from] BodyError),
    #[error("the request took too long")]
    TooLong,
    #[error(transparent)]
    Shared(#[from] SharedBodyError),
}

impl Body {
    /// Fails at `end` if the body is not complete by then.
    pub(crate) fn with_deadline(self, end: Instant) -> Self {
        match self {
            Body::Full(_) => self,
            Body::WithEnd(mut body) => {
                let inner = std::mem::replace(&mut body.body, Body::empty());
                body.body = inner.with_deadline(end);
                Body::WithEnd(body)
            }
            body => Body::Bounded(Box::new(body), Box::pin(sleep_until(end))),
        }
    }

    pub(crate) fn logged(self, entry: AccessLogEntry) -> Self {
        Body::Logged(Box::new(LoggedBody { body: self, entry, failed: false }))
    }

    /// Buffers content that arrives from the upstream. Returns it if it is complete within `limit` bytes and `timeout`, and
    /// there is room; it is sent on as it came.
    pub(crate) async fn buffer(
        &mut self,
        limit: u64,
        timeout: Duration,
        memory: &Arc<MemoryBudget>,
    ) -> Option<Bytes> {
        match std::mem::replace(self, Body::empty()) {
            Body::Upstream(body) => {
                let (body, content) = buffer_body(body, limit, timeout, memory).await;
                *self = Body::Buffered(Box::new(body));
                content
            }
            other => {
                *self = other;
                None
            }
        }
    }

    /// Reads the upstream's content to its end on a task of its own if it is short. A longer one is dropped with its connection.
    pub(super) fn drain(self, tasks: &TaskTracker) {
        let Body::Upstream(mut body) = self else { return };
        if body.size_hint().lower() > MAX_DRAIN_BYTES {
            return;
        }
        tasks.spawn(timeout(MAX_DRAIN_TIME, async move {
            let mut left = MAX_DRAIN_BYTES;
            while let Some(Ok(frame)) = body.frame().await {
                let read = frame.data_ref().map_or(0, Bytes::len) as u64;
                let Some(rest) = left.checked_sub(read) else { return };
                left = rest;
            }
        }));
    }

    /// Whether nothing more has to arrive, though there may be frames to send.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            Body::Full(_) => true,
            Body::Buffered(body) => body.is_whole(),
            Body::Bounded(body, _) => body.is_whole(),
            body => body.is_end_stream(),
        }
    }

    pub(crate) fn with_end(self, on_end: OnEnd) -> Self {
        Body::WithEnd(Box::new(BodyWithEnd { body: self, on_end: Some(on_end), task: None, last: None }))
    }

    pub(super) fn observed(self, recorder: ReadRecorder) -> Self {
        Body::Observed(Box::new(ObservedBody { body: self, recorder, failed: false }))
    }

    /// Whether all of it has been sent. hyper does not poll a body of known length again once that is reached.
    fn is_sent(&self) -> bool {
        self.is_end_stream() || self.size_hint().exact() == Some(0)
    }

    pub(crate) fn empty() -> Self {
        Body::Full(Full::default())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Body::Full(Full::new(bytes))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = ClientBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        match self.get_mut() {
            Body::Full(full) => Pin::new(full)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Body::Upstream(body) => Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| Ok(frame?))),
            Body::Compressed(body) => body.poll_frame(cx).map(|frame| frame.map(|frame| Ok(frame?))),
            Body::Buffered(body) => {
                Pin::new(body.as_mut()).poll_frame(cx).map(|frame| frame.map(|frame| Ok(frame?)))
            }
            Body::Bounded(body, end) => match Pin::new(body.as_mut()).poll_frame(cx) {
                Poll::Pending => end.as_mut().poll(cx).map(|()| Some(Err(ClientBodyError::TooLong))),
                ready => ready,
            },
            Body::WithEnd(body) => body.poll_frame(cx),
            Body::Logged(logged) => logged.poll_frame(cx),
            Body::Observed(observed) => observed.poll_frame(cx),
            Body::Shared(reader) => {
                Pin::new(reader).poll_frame(cx).map(|frame| frame.map(|frame| Ok(frame?)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Full(full) => full.is_end_stream(),
            Body::Upstream(body) => body.is_end_stream(),
            Body::Compressed(body) => body.is_end_stream(),
            Body::Buffered(body) => body.is_end_stream(),
            Body::Bounded(body, _) => body.is_end_stream(),
            Body::WithEnd(body) => body.is_end_stream(),
            Body::Logged(logged) => logged.body.is_end_stream(),
            Body::Observed(observed) => observed.body.is_end_stream(),
            Body::Shared(reader) => reader.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Full(full) => full.size_hint(),
            Body::Upstream(body) => body.size_hint(),
            Body::Compressed(_) | Body::WithEnd(_) => SizeHint::default(),
            Body::Buffered(body) => body.size_hint(),
            Body::Bounded(body, _) => body.size_hint(),
            Body::Logged(logged) => logged.body.size_hint(),
            Body::Observed(observed) => observed.body.size_hint(),
            Body::Shared(reader) => reader.size_hint(),
        }
    }
}

impl LoggedBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.entry.add_bytes(frame.data_ref().map_or(0, Bytes::len)),
            Poll::Ready(Some(Err(_))) => self.failed = true,
            _ => {}
        }
        polled
    }
}

impl Drop for LoggedBody {
    fn drop(&mut self) {
        self.entry.set_complete(self.body.is_sent() && !self.failed);
    }
}

impl ObservedBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.recorder.add(frame.data_ref().map_or(&[], Bytes::as_ref)),
            Poll::Ready(Some(Err(_))) => self.failed = true,
            _ => {}
        }
        polled
    }
}

impl Drop for ObservedBody {
    fn drop(&mut self) {
        self.recorder.finish(self.body.is_sent() && !self.failed);
    }
}

impl BodyWithEnd {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        if self.on_end.is_some() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            // Trailers are an end, and so is the last frame of a body that says so, or has a known length.
            let is_ended = self.body.is_end_stream() || self.body.size_hint().exact() == Some(0);
            match frame {
                Some(Ok(frame)) if frame.is_data() && !is_ended => {
                    return Poll::Ready(Some(Ok(frame)));
                }
                last => self.last = last,
            }
            let is_seen = !matches!(self.last, Some(Err(_)));
            self.task = self.on_end.take().map(|on_end| on_end(is_seen));
        }
        if let Some(task) = &mut self.task {
            // A task that panicked has been logged, and is no reason to keep the end back.
            _ = ready!(Pin::new(task).poll(cx));
            self.task = None;
        }
        Poll::Ready(self.last.take())
    }

    fn is_end_stream(&self) -> bool {
        self.on_end.is_none() && self.task.is_none() && self.last.is_none()
    }
}

impl Drop for BodyWithEnd {
    fn drop(&mut self) {
        if let Some(on_end) = self.on_end.take() {
            on_end(false);
        }
    }
}
