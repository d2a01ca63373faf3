//! A client's content while it arrives and is forwarded. Its beginning is kept, so that another attempt can forward it again.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;

use super::body_error::{BodyError, is_stream_reset};
use super::content_end::{ContentEnd, HeldEnd};
use super::continue_gate::{ContinueGate, ContinueWait};
use super::held_content::HeldContent;
use crate::memory_budget::ClientMemory;
use crate::progress_timeout::ProgressTimeout;

/// The content as one attempt forwards it. A later attempt takes it over.
pub(super) struct StreamedContent {
    shared: Arc<Mutex<SharedContent>>,
    attempt: usize,
}

struct SharedContent {
    body: ClientBody,
    /// The attempt that forwards it.
    attempt: usize,
    /// The part that an earlier attempt forwarded, until this one has forwarded it too.
    again: Option<Bytes>,
    /// The part that follows `again`, before anything else.
    rest: Option<Bytes>,
    kept: Kept,
    /// How much is kept at most.
    limit: u64,
    /// Set while the end may not be sent yet.
    held_end: Option<HeldEnd>,
}

/// The part that was forwarded.
enum Kept {
    /// No other attempt may follow.
    Unasked,
    Whole {
        start: HeldContent,
        /// The last frame, where there was no room for it.
        last: Option<Bytes>,
    },
    /// It was too much.
    Lost,
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

/// A body that arrives from the client.
struct ClientBody {
    /// Set while the upstream has yet to say that it wants the content.
    wait: Option<ContinueWait>,
    /// The part that was read before.
    start: Option<Bytes>,
    incoming: Incoming,
    is_ended: bool,
    version: Version,
    /// Bounds how slowly the client may send, also after an early response.
    timeout: ProgressTimeout,
    judge_trailer: fn(&HeaderName) -> TrailerVerdict,
    memory: ClientMemory,
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

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.poll_open(cx));
            self.wait = None;
            self.timeout.reset();
        }
        if let Some(start) = self.start.take().filter(|start| !start.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(start))));
        }
        if self.is_ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            ready!(self.timeout.poll_expired(cx));
            return Poll::Ready(Some(Err(BodyError::RequestStalled)));
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                self.timeout.record(frame.data_ref().map_or(1, |data| data.len() as u64));
                let frame = self.with_allowed_trailers(frame);
                // Nothing follows them, and nobody polls again.
                self.is_ended = frame.as_ref().is_ok_and(Frame::is_trailers);
                Some(frame)
            }
            Some(Err(error)) => Some(Err(BodyError::from_client(error))),
            None if is_stream_reset(&self.incoming, self.version) => Some(Err(BodyError::RequestReset)),
            None => {
                self.is_ended = true;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.start.is_none() && (self.is_ended || self.incoming.is_end_stream())
    }

    /// Returns whether nothing but trailers is left.
    fn is_complete(&self) -> bool {
        self.incoming.size_hint().exact() == Some(0) || self.is_end_stream()
    }
}

impl SharedContent {
    /// The next frame; the last one, or the end without one, once it is allowed.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(data) = self.again.take().or_else(|| self.rest.take()) {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if !self.is_end_held() {
            let frame = ready!(self.body.poll_frame(cx));
            let is_complete = self.body.is_complete();
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

    fn is_end_held(&self) -> bool {
        self.held_end.as_ref().is_some_and(HeldEnd::is_reached)
    }

    /// Keeps what is forwarded, up to the limit and one frame more: hyper reads a frame before the upstream's window allows
    /// to send it. A frame that reaches beyond the limit is split.
    fn keep(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let kept = std::mem::replace(&mut self.kept, Kept::Lost);
        let (Kept::Whole { mut start, last: None }, Some(data)) = (kept, frame.data_ref()) else {
            return frame;
        };
        let mut data = data.clone();
        let room = usize::try_from(self.limit - start.len()).unwrap_or(usize::MAX);
        if room == 0 || !start.has_room_for(&data) {
            self.kept = Kept::Whole { start, last: Some(data) };
            return frame;
        }
        if data.len() > room {
            self.rest = Some(data.split_off(room));
        }
        start.append(&data);
        self.kept = Kept::Whole { start, last: None };
        Frame::data(data)
    }

    fn is_anything_waiting(&self) -> bool {
        self.again.is_some() || self.rest.is_some() || self.is_end_held()
    }

    /// Leaves what was forwarded to another attempt.
    fn begin_again(&mut self, attempt: usize) {
        self.attempt = attempt;
        let kept = Kept::nothing(&self.body.memory);
        if let Kept::Whole { start, last } = std::mem::replace(&mut self.kept, kept) {
            if start.len() > 0 {
                self.again = Some(start.freeze());
            }
            self.rest = last.or(self.rest.take());
        }
    }
}

impl Kept {
    fn nothing(memory: &ClientMemory) -> Self {
        Kept::Whole { start: HeldContent::counted_by(memory), last: None }
    }
}

impl StreamedContent {
    /// `start`: the part that was read before.
    pub(super) fn new(
        incoming: Incoming,
        start: Option<Bytes>,
        version: Version,
        limits: UploadLimits,
    ) -> Self {
        let body = ClientBody {
            wait: None,
            start,
            incoming,
            is_ended: false,
            version,
            timeout: ProgressTimeout::with_min_rate(limits.timeout, limits.min_rate),
            judge_trailer: limits.judge_trailer,
            memory: limits.memory,
        };
        let shared = SharedContent {
            body,
            attempt: 0,
            again: None,
            rest: None,
            kept: Kept::Unasked,
            limit: 0,
            held_end: None,
        };
        Self { shared: Arc::new(Mutex::new(shared)), attempt: 0 }
    }

    /// Returns the content for another attempt, which may follow as long as this one has forwarded no more than `limit`.
    pub(super) fn replay(&self, limit: u64) -> Self {
        let mut shared = self.shared.lock();
        if matches!(shared.kept, Kept::Unasked) {
            shared.limit = limit;
            shared.kept = Kept::nothing(&shared.body.memory);
        }
        Self { shared: self.shared.clone(), attempt: self.attempt + 1 }
    }

    /// Returns whether all that was forwarded is kept.
    pub(super) fn can_begin_again(&self) -> bool {
        matches!(self.shared.lock().kept, Kept::Whole { .. })
    }

    /// Takes the content over from the attempt before.
    pub(super) fn begin_again(&self) {
        self.shared.lock().begin_again(self.attempt);
    }

    pub(super) fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let may_begin_again = Arc::strong_count(&self.shared) > 1;
        let mut shared = self.shared.lock();
        if shared.attempt != self.attempt {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        let frame = ready!(shared.poll_frame(cx));
        if !may_begin_again {
            shared.kept = Kept::Lost;
        }
        Poll::Ready(frame.map(|frame| frame.map(|frame| shared.keep(frame))))
    }

    /// Returns whether nothing but trailers is left to be forwarded.
    pub(super) fn is_complete(&self) -> bool {
        let shared = self.shared.lock();
        !shared.is_anything_waiting() && shared.body.is_complete()
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let shared = self.shared.lock();
        !shared.is_anything_waiting() && shared.body.is_end_stream()
    }

    /// The length of what is left to be forwarded.
    pub(super) fn size_hint(&self) -> SizeHint {
        let SharedContent { body, again, rest, held_end, .. } = &*self.shared.lock();
        let known = [again, rest, &body.start].into_iter().flatten().map(Bytes::len).sum::<usize>() as u64;
        let known = known + held_end.as_ref().map_or(0, HeldEnd::len);
        let mut hint = body.incoming.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + known);
        }
        hint.set_lower(hint.lower() + known);
        hint
    }

    pub(super) fn memory(&self) -> ClientMemory {
        self.shared.lock().body.memory.clone()
    }

    /// Holds the content back until the upstream wants it.
    pub(super) fn wait_for_continue(&self) {
        self.shared.lock().body.wait = Some(ContinueWait::new(ContinueGate::default()));
    }

    /// The gate of a content that is held back.
    pub(super) fn continue_gate(&self) -> Option<ContinueGate> {
        self.shared.lock().body.wait.as_ref().map(|wait| wait.gate().clone())
    }

    /// Holds the end back until it is allowed.
    pub(super) fn hold_end(&self) -> ContentEnd {
        let (end, held) = ContentEnd::new();
        self.shared.lock().held_end = Some(held);
        end
    }
}
