//! Request bodies to the upstream, with the bounds on how slowly a client may send.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::body_error::{BodyError, is_stream_reset};
use super::content_end::{ContentEnd, HeldEnd};
use super::continue_gate::{ContinueGate, ContinueWait};
use super::held_content::{CapturedBody, HeldContent};
use super::request_progress::RequestProgress;
use crate::memory_budget::ClientMemory;
use crate::progress_timeout::ProgressTimeout;

/// The client's request body on its way to the upstream.
pub(crate) struct RequestBody {
    source: Source,
    progress: RequestProgress,
    capture: Option<CapturedBody>,
    /// Set while the end may not be sent yet.
    held_end: Option<HeldEnd>,
}

enum Source {
    Empty,
    /// The whole content, read before a connection is taken. `None` once it was forwarded.
    Buffered(Option<Bytes>, Option<HeaderMap>),
    Client(ClientBody),
}

/// A body that arrives from the client.
struct ClientBody {
    /// Set while the upstream has yet to say that it wants the content.
    wait: Option<ContinueWait>,
    /// The part that was read before.
    start: Option<Bytes>,
    incoming: Incoming,
    version: Version,
    /// Bounds how slowly the client may send, also after an early response.
    timeout: ProgressTimeout,
    judge_trailer: fn(&HeaderName) -> TrailerVerdict,
    memory: ClientMemory,
}

/// The bounds on what a client may send as its request.
#[derive(Clone, Debug)]
pub(crate) struct UploadLimits {
    /// The time between two parts.
    pub timeout: Duration,
    /// Bytes a second, over `timeout` of waiting; 0: no minimum.
    pub min_rate: u64,
    pub judge_trailer: fn(&HeaderName) -> TrailerVerdict,
    /// Counts what is kept of the content.
    pub memory: ClientMemory,
}

/// The decision about a client's trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TrailerVerdict {
    Forward,
    Drop,
    /// The request is refused, for this reason.
    Refuse(&'static str),
}

impl ClientBody {
    fn with_allowed_trailers(&self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        let mut trailers = match frame.into_trailers() {
            Ok(trailers) => trailers,
            Err(frame) => return Ok(frame),
        };
        let mut dropped = Vec::new();
        for name in trailers.keys() {
            match (self.judge_trailer)(name) {
                TrailerVerdict::Forward => {}
                TrailerVerdict::Drop => dropped.push(name.clone()),
                TrailerVerdict::Refuse(reason) => return Err(BodyError::RequestMalformed(reason)),
            }
        }
        dropped.iter().for_each(|name| drop(trailers.remove(name)));
        Ok(Frame::trailers(trailers))
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.poll_open(cx));
            self.wait = None;
            self.timeout.reset();
        }
        if let Some(start) = self.start.take().filter(|start| !start.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(start))));
        }
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            ready!(self.timeout.poll_expired(cx));
            return Poll::Ready(Some(Err(BodyError::RequestStalled)));
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                self.timeout.record(frame.data_ref().map_or(1, |data| data.len() as u64));
                Some(self.with_allowed_trailers(frame))
            }
            Some(Err(error)) => Some(Err(BodyError::from_client(error))),
            None if is_stream_reset(&self.incoming, self.version) => Some(Err(BodyError::RequestReset)),
            None => None,
        })
    }
}

impl RequestBody {
    pub(crate) fn empty() -> Self {
        Self {
            source: Source::Empty,
            progress: RequestProgress::without_body(),
            capture: None,
            held_end: None,
        }
    }

    /// Content that is known as a whole.
    pub(crate) fn from_content(content: Bytes) -> Self {
        if content.is_empty() {
            return Self::empty();
        }
        let source = Source::Buffered(Some(content), None);
        Self { source, progress: RequestProgress::started(), capture: None, held_end: None }
    }

    /// The content, if it was buffered and not yet sent.
    pub(crate) fn into_content(self) -> Bytes {
        if let Source::Buffered(Some(content), _) = self.source { content } else { Bytes::new() }
    }

    /// `start`: the part that was read before.
    pub(crate) fn from_client(
        incoming: Option<Incoming>,
        start: Option<Bytes>,
        version: Version,
        limits: UploadLimits,
    ) -> Self {
        let Some(incoming) = incoming.filter(|incoming| start.is_some() || !incoming.is_end_stream()) else {
            return Self::empty();
        };
        let timeout = ProgressTimeout::with_min_rate(limits.timeout, limits.min_rate);
        Self {
            source: Source::Client(ClientBody {
                wait: None,
                start,
                incoming,
                version,
                timeout,
                judge_trailer: limits.judge_trailer,
                memory: limits.memory,
            }),
            progress: RequestProgress::started(),
            capture: None,
            held_end: None,
        }
    }

    /// Holds the content back until the upstream wants it.
    pub(crate) fn wait_for_continue(&mut self) {
        if let Source::Client(body) = &mut self.source {
            body.wait = Some(ContinueWait::new(ContinueGate::default()));
        }
    }

    /// The gate of a content that is held back.
    pub(crate) fn continue_gate(&self) -> Option<&ContinueGate> {
        match &self.source {
            Source::Client(body) => body.wait.as_ref().map(ContinueWait::gate),
            _ => None,
        }
    }

    /// Holds the end of a content that arrives from the client back until it is allowed.
    pub(crate) fn hold_end(&mut self) -> ContentEnd {
        let (end, held) = ContentEnd::new();
        self.held_end = Some(held);
        end
    }

    /// Copies the content as it is forwarded.
    pub(crate) fn capture(&mut self, limit: u64) -> CapturedBody {
        let held = match &self.source {
            Source::Client(body) => HeldContent::counted_by(&body.memory),
            Source::Empty | Source::Buffered(..) => HeldContent::default(),
        };
        self.capture.insert(CapturedBody::new(held, limit, self.progress())).clone()
    }

    /// Reads the whole content if its announced length is at most `limit`, there is room, and it is not held back. Then no
    /// slow client holds a connection, and the request can be sent again.
    ///
    /// # Errors
    /// If the client does not send all of it, or stalls while memory is short.
    pub(crate) async fn buffer(&mut self, limit: u64, idle_timeout: Duration) -> Result<(), BodyError> {
        let Source::Client(body) = &self.source else { return Ok(()) };
        let length = body.size_hint().exact().filter(|length| *length <= limit && body.wait.is_none());
        match length {
            Some(length) if body.memory.has_room_for(length) => {
                self.read_whole(|_| Ok(()), idle_timeout).await
            }
            _ => Ok(()),
        }
    }

    /// Reads the whole content, unless `check` refuses its length so far. It counts in the memory budget.
    ///
    /// # Errors
    /// If the client does not send all of it, or stalls while memory is short; and the error of `check`.
    pub(crate) async fn read_whole(
        &mut self,
        check: impl Fn(u64) -> Result<(), BodyError>,
        idle_timeout: Duration,
    ) -> Result<(), BodyError> {
        let Source::Client(body) = &mut self.source else { return Ok(()) };
        // Grown as it arrives: the length is only announced.
        let mut content = HeldContent::counted_by(&body.memory);
        if let Some(length) = body.size_hint().exact() {
            check(length)?;
            content = content.announced(length);
        }
        let mut trailers = None;
        loop {
            let patience =
                body.memory.budget().max_stall().map_or(idle_timeout, |stall| stall.min(idle_timeout));
            let frame = timeout(patience, poll_fn(|cx| body.poll_frame(cx))).await;
            let Some(frame) = frame.map_err(|_| BodyError::RequestStalled)? else { break };
            match frame?.into_data() {
                Ok(data) => content.append(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
            check(content.len())?;
        }
        self.source = Source::Buffered(Some(content.freeze()), trailers);
        Ok(())
    }

    /// Returns another body with the same content, unless that is not known any more. Both share their progress and
    /// their capture, of the attempt that runs.
    pub(crate) fn replay(&self) -> Option<Self> {
        let source = match &self.source {
            Source::Empty => Source::Empty,
            Source::Buffered(Some(content), trailers) => {
                Source::Buffered(Some(content.clone()), trailers.clone())
            }
            Source::Buffered(None, _) | Source::Client(_) => return None,
        };
        Some(Self { source, progress: self.progress.clone(), capture: self.capture.clone(), held_end: None })
    }

    /// Forgets how far another attempt came, when this body is sent in its place.
    pub(super) fn begin_again(&self) {
        if let Some(mut state) = self.progress.state() {
            (state.complete, state.cut, state.fault) = (self.is_empty(), false, None);
            state.handed_over = false;
        }
        self.capture.iter().for_each(CapturedBody::clear);
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.source, Source::Empty)
    }

    /// Tracks the progress of the request, also if it has no content.
    pub(crate) fn track(&mut self) -> RequestProgress {
        if self.is_empty() {
            self.progress = RequestProgress::bodiless();
        }
        self.progress()
    }

    /// Returns whether the content has yet to arrive from the client.
    pub(crate) fn is_streamed(&self) -> bool {
        matches!(self.source, Source::Client(_))
    }

    pub(crate) fn progress(&self) -> RequestProgress {
        self.progress.clone()
    }

    /// Returns whether nothing but trailers is left to be forwarded.
    fn is_complete(&self) -> bool {
        match &self.source {
            Source::Client(body) => body.incoming.size_hint().exact() == Some(0) || self.is_end_stream(),
            _ => self.is_end_stream(),
        }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.source {
            Source::Empty => Poll::Ready(None),
            Source::Buffered(content, trailers) => Poll::Ready(match (content.take(), trailers.take()) {
                (Some(content), later) => {
                    *trailers = later;
                    Some(Ok(Frame::data(content)))
                }
                (None, Some(trailers)) => Some(Ok(Frame::trailers(trailers))),
                (None, None) => None,
            }),
            Source::Client(body) => body.poll_frame(cx),
        }
    }
}

impl RequestBody {
    /// The next frame; the last one, or the end without one, once it is allowed.
    fn poll_allowed(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.held_end.as_ref().is_some_and(HeldEnd::is_reached) {
            let frame = ready!(self.poll_source(cx));
            let is_complete = self.is_complete();
            match (&mut self.held_end, frame) {
                (Some(held), None) => held.hold(None),
                (Some(held), Some(Ok(frame))) if is_complete => held.hold(Some(frame)),
                (_, frame) => return Poll::Ready(frame),
            }
        }
        let Some(held) = &mut self.held_end else { return Poll::Ready(None) };
        let last = ready!(held.poll_allowed(cx));
        self.held_end = None;
        Poll::Ready(last)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.poll_allowed(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(capture), Some(data)) = (&self.capture, frame.data_ref()) {
                    capture.append(data);
                }
                let complete = self.is_complete();
                self.progress.update(|state| state.complete = complete);
            }
            Some(Err(error)) => self.progress.update(|state| {
                state.cut = true;
                if let BodyError::RequestMalformed(fault) = error {
                    state.fault = Some(*fault);
                }
            }),
            None => self.progress.update(|state| state.complete = true),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Buffered(content, trailers) => content.is_none() && trailers.is_none(),
            Source::Client(_) if self.held_end.as_ref().is_some_and(HeldEnd::is_reached) => false,
            Source::Client(body) => body.start.is_none() && body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Buffered(content, _) => {
                SizeHint::with_exact(content.as_ref().map_or(0, Bytes::len) as u64)
            }
            Source::Client(body) => body.incoming.size_hint(),
        }
    }
}
