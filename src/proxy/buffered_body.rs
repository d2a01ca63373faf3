//! A response that is buffered so that its content can be parsed: until it is complete, too large or too slow. It is then
//! forwarded as it came.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use crate::memory_budget::{MemoryBudget, Reservation};
use crate::upstream::{BodyError, UpstreamBody};

/// The frames that have arrived, and the rest of the body.
pub(crate) struct BufferedBody {
    buffered: VecDeque<Result<Frame<Bytes>, BodyError>>,
    rest: UpstreamBody,
    /// Counts the buffered frames, and the copy of their content.
    reservation: Reservation,
    /// Nothing follows the buffered frames.
    is_ended: bool,
    /// The error that is the last buffered frame was held back for a turn.
    is_error_deferred: bool,
}

impl BufferedBody {
    /// Whether all of it has arrived.
    pub(super) fn is_whole(&self) -> bool {
        let is_cut = self.buffered.back().is_some_and(Result::is_err);
        !is_cut && (self.is_ended || self.rest.is_end_stream())
    }
}

/// Buffers the body. Returns its content if that is complete within `limit` bytes and `timeout`, and there is room.
pub(super) async fn buffer_body(
    body: UpstreamBody,
    limit: u64,
    timeout: Duration,
    memory: &Arc<MemoryBudget>,
) -> (BufferedBody, Option<Bytes>) {
    let end = Instant::now() + timeout;
    let reservation = memory.reserve();
    let mut gathered = BufferedBody {
        buffered: VecDeque::new(),
        rest: body,
        reservation,
        is_ended: false,
        is_error_deferred: false,
    };
    let mut content = BytesMut::new();
    while let Ok(frame) = timeout_at(end, gathered.rest.frame()).await {
        let Some(frame) = frame else {
            gathered.is_ended = true;
            return (gathered, Some(content.freeze()));
        };
        let data = frame.as_ref().ok().and_then(Frame::data_ref).cloned();
        gathered.is_ended = frame.is_err();
        gathered.buffered.push_back(frame);
        let data = data.unwrap_or_default();
        gathered.reservation.grow(2 * data.len() as u64);
        content.extend_from_slice(&data);
        if gathered.is_ended || content.len() as u64 > limit || !memory.has_room() {
            break;
        }
    }
    (gathered, None)
}

impl Body for BufferedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if matches!(self.buffered.front(), Some(Err(_))) && !self.is_error_deferred {
            // An error makes hyper drop what it has not written yet, the head included.
            self.is_error_deferred = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.buffered.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None if self.is_ended => Poll::Ready(None),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.buffered.is_empty() && (self.is_ended || self.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let here: u64 =
            self.buffered.iter().flatten().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        let is_data = |frame: &Result<Frame<Bytes>, _>| frame.as_ref().is_ok_and(Frame::is_data);
        match (self.is_ended, self.rest.size_hint().exact()) {
            // hyper frames content of a known length by Content-Length, and drops the trailers behind it.
            (true, _) if !self.buffered.iter().all(is_data) => SizeHint::default(),
            (true, _) => SizeHint::with_exact(here),
            (false, Some(rest)) => SizeHint::with_exact(here + rest),
            (false, None) => SizeHint::default(),
        }
    }
}
