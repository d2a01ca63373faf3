//! Request bodies to the upstream.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::body_error::BodyError;
use super::content_end::ContentEnd;
use super::continue_gate::ContinueGate;
use super::held_content::{CapturedBody, HeldContent};
use super::request_progress::RequestProgress;
use super::streamed_content::{StreamedContent, UploadLimits};

/// The client's request body on its way to the upstream.
pub(crate) struct RequestBody {
    source: Source,
    progress: RequestProgress,
    capture: Option<CapturedBody>,
}

enum Source {
    Empty,
    /// The whole content, read before a connection is taken. `None` once it was forwarded.
    Buffered(Option<Bytes>, Option<HeaderMap>),
    Client(StreamedContent),
}

impl RequestBody {
    pub(crate) fn empty() -> Self {
        Self { source: Source::Empty, progress: RequestProgress::without_body(), capture: None }
    }

    /// Content that is known as a whole.
    pub(crate) fn from_content(content: Bytes) -> Self {
        if content.is_empty() {
            return Self::empty();
        }
        let source = Source::Buffered(Some(content), None);
        Self { source, progress: RequestProgress::started(), capture: None }
    }

    /// The content, if it was buffered and not yet sent.
    pub(crate) fn into_content(self) -> Bytes {
        if let Source::Buffered(Some(content), _) = self.source { content } else { Bytes::new() }
    }

    /// `start`: the part that was read before.
    pub(crate) fn from_client(
        incoming: Incoming,
        start: Option<Bytes>,
        version: Version,
        limits: UploadLimits,
    ) -> Self {
        let content = StreamedContent::new(incoming, start, version, limits);
        Self { source: Source::Client(content), progress: RequestProgress::started(), capture: None }
    }

    /// Holds the content back until the upstream wants it.
    pub(crate) fn wait_for_continue(&mut self) {
        if let Source::Client(content) = &self.source {
            content.wait_for_continue();
        }
    }

    /// The gate of a content that is held back.
    pub(crate) fn continue_gate(&self) -> Option<ContinueGate> {
        match &self.source {
            Source::Client(content) => content.continue_gate(),
            _ => None,
        }
    }

    /// Holds the end of a content that arrives from the client back until it is allowed. `None`: it is known already.
    pub(crate) fn hold_end(&mut self) -> Option<ContentEnd> {
        match &self.source {
            Source::Client(content) => Some(content.hold_end()),
            _ => None,
        }
    }

    /// Copies the content as it is forwarded.
    pub(crate) fn capture(&mut self, limit: u64) -> CapturedBody {
        let held = match &self.source {
            Source::Client(content) => HeldContent::counted_by(&content.memory()),
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
        let Source::Client(content) = &self.source else { return Ok(()) };
        let length = content.size_hint().exact();
        match length.filter(|length| *length <= limit && content.continue_gate().is_none()) {
            Some(length) if content.memory().has_room_for(length) => {
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
        let Source::Client(streamed) = &self.source else { return Ok(()) };
        let memory = streamed.memory();
        // Grown as it arrives: the length is only announced.
        let mut content = HeldContent::counted_by(&memory);
        if let Some(length) = streamed.size_hint().exact() {
            check(length)?;
            content = content.announced(length);
        }
        let mut trailers = None;
        loop {
            let patience = memory.budget().max_stall().map_or(idle_timeout, |stall| stall.min(idle_timeout));
            let frame = timeout(patience, poll_fn(|cx| streamed.poll_frame(cx))).await;
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
    /// their capture, of the attempt that runs. `limit`: how much of a content that arrives from the client is kept.
    pub(crate) fn replay(&self, limit: u64) -> Option<Self> {
        let source = match &self.source {
            Source::Empty => Source::Empty,
            Source::Buffered(Some(content), trailers) => {
                Source::Buffered(Some(content.clone()), trailers.clone())
            }
            Source::Buffered(None, _) => return None,
            Source::Client(content) => Source::Client(content.replay(limit)),
        };
        Some(Self { source, progress: self.progress.clone(), capture: self.capture.clone() })
    }

    /// Returns whether all that another attempt forwarded is known.
    pub(super) fn can_begin_again(&self) -> bool {
        match &self.source {
            Source::Client(content) => content.can_begin_again(),
            _ => true,
        }
    }

    /// Forgets how far another attempt came, when this body is sent in its place.
    pub(super) fn begin_again(&self) {
        if let Source::Client(content) = &self.source {
            content.begin_again();
        }
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
            Source::Client(content) => content.is_complete(),
            Source::Empty => true,
            // Trailers can't follow a content whose length was announced over HTTP/1.1.
            Source::Buffered(content, _) => content.is_none(),
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
            Source::Client(content) => content.poll_frame(cx),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.poll_source(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(capture), Some(data)) = (&self.capture, frame.data_ref()) {
                    capture.append(data);
                }
                let complete = self.is_complete();
                self.progress.update(|state| state.complete = complete);
            }
            Some(Err(BodyError::Superseded)) => {}
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
            Source::Client(content) => content.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Buffered(content, _) => {
                SizeHint::with_exact(content.as_ref().map_or(0, Bytes::len) as u64)
            }
            Source::Client(content) => content.size_hint(),
        }
    }
}
