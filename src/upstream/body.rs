//! Response bodies of the upstream, with their timeouts.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::body_error::{BodyError, is_stream_reset};
use super::pool::PooledConnection;
use super::request_progress::RequestProgress;
use super::slot::Slot;
use crate::progress_timeout::ProgressTimeout;

/// Counts response bodies that the upstream broke off, by the reason's label.
pub(crate) trait CountCutResponses: Send + Sync {
    fn count_cut_response(&self, reason: &'static str);
}

/// A response body of the upstream. It holds its slot until it has ended or is dropped, and fails if nothing arrives for
/// too long.
pub(crate) struct UpstreamBody {
    held: Arc<HeldResponse>,
    version: Version,
    timeout: ProgressTimeout,
    /// The error that is reported in the next turn, after the data before it was written.
    deferred_error: Option<BodyError>,
    size_hint: SizeHint,
    is_end_stream: bool,
    /// With the progress of the request: where the client has cut that, the response ends, too.
    counter: Option<(Arc<dyn CountCutResponses>, RequestProgress)>,
}

/// The part of a response body that holds a connection. It is cut when its client is too slow and others wait.
pub(super) struct HeldResponse {
    parts: Mutex<HeldParts>,
}

struct HeldParts {
    /// Dropped before `connection`.
    incoming: Option<Incoming>,
    connection: Option<PooledConnection>,
    slot: Option<Slot>,
    last_polled: Instant,
    /// The body was ready when it was polled last: it is its reader that is waited for.
    awaits_reader: bool,
    is_cut: bool,
}

impl HeldParts {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        match self.connection.as_mut().and_then(PooledConnection::http1) {
            Some(connection) => connection.poll_frame(incoming, cx),
            None => Pin::new(incoming).poll_frame(cx),
        }
    }

    /// Gives the connection and its slot back.
    fn release(&mut self) {
        let slot = self.slot.take();
        if let Some(connection) = self.connection.take() {
            connection.release(slot);
        }
    }
}

impl Drop for HeldParts {
    fn drop(&mut self) {
        self.incoming = None;
        self.release();
    }
}

impl HeldResponse {
    /// The time since the last poll, if a reader is waited for.
    pub(super) fn unread_for(&self) -> Option<Duration> {
        let parts = self.parts.lock();
        (parts.slot.is_some() && parts.awaits_reader).then(|| parts.last_polled.elapsed())
    }

    /// Frees the connection; the body fails when it is read on. Returns whether it held one.
    pub(super) fn cut(&self) -> bool {
        let (incoming, connection, slot) = {
            let mut parts = self.parts.lock();
            parts.is_cut = true;
            (parts.incoming.take(), parts.connection.take(), parts.slot.take())
        };
        drop(incoming);
        drop(connection);
        slot.is_some()
    }
}

impl UpstreamBody {
    pub(super) fn from_response(
        response: Response<Incoming>,
        connection: Option<PooledConnection>,
        slot: Slot,
        idle_timeout: Duration,
    ) -> Response<Self> {
        let version = response.version();
        let becomes_tunnel = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        response.map(|incoming| {
            let (size_hint, is_end_stream) = (incoming.size_hint(), incoming.is_end_stream());
            let mut parts = HeldParts {
                incoming: Some(incoming),
                connection,
                slot: Some(slot),
                last_polled: Instant::now(),
                awaits_reader: true,
                is_cut: false,
            };
            if becomes_tunnel {
                parts.connection.take().into_iter().for_each(PooledConnection::upgrade);
            } else if is_end_stream {
                parts.release();
            }
            Self {
                held: Arc::new(HeldResponse { parts: Mutex::new(parts) }),
                version,
                timeout: ProgressTimeout::new(idle_timeout),
                deferred_error: None,
                size_hint,
                is_end_stream,
                counter: None,
            }
        })
    }

    /// Sets what counts the body if the upstream breaks it off.
    pub(crate) fn count_cut_by(&mut self, counter: Arc<dyn CountCutResponses>, request: RequestProgress) {
        self.counter = Some((counter, request));
    }

    fn count_cut(&mut self, error: &BodyError) {
        let Some((counter, request)) = self.counter.take() else { return };
        let is_clients = request.is_cut() && !request.is_complete();
        if let Some(fault) = error.upstream_fault().filter(|_| !is_clients) {
            counter.count_cut_response(fault.as_str());
        }
    }

    pub(super) fn held(&self) -> &Arc<HeldResponse> {
        &self.held
    }

    /// Takes the slot for a connection that becomes a tunnel.
    pub(crate) fn take_slot(&mut self) -> Option<Slot> {
        self.held.parts.lock().slot.take()
    }

    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut parts = self.held.parts.lock();
        if parts.is_cut {
            return Poll::Ready(Some(Err(BodyError::ReaderStalled)));
        }
        parts.last_polled = Instant::now();
        let polled = parts.poll_frame(cx);
        parts.awaits_reader = polled.is_ready();
        let Poll::Ready(frame) = polled else {
            ready!(self.timeout.poll_expired(cx));
            // The connection, which waits for the upstream, notices only now that nobody reads.
            parts.incoming = None;
            parts.release();
            return Poll::Ready(Some(Err(BodyError::Stalled)));
        };
        self.timeout.reset();
        let incoming = parts.incoming.as_ref();
        self.size_hint = incoming.map_or_else(SizeHint::default, |incoming| incoming.size_hint());
        let was_reset =
            frame.is_none() && incoming.is_some_and(|incoming| is_stream_reset(incoming, self.version));
        let is_last = match &frame {
            None => !was_reset,
            Some(frame) => frame.as_ref().is_ok_and(Frame::is_trailers),
        };
        self.is_end_stream = is_last || incoming.is_none_or(|incoming| incoming.is_end_stream());
        if frame.as_ref().is_none_or(|frame| frame.is_err()) || self.is_end_stream {
            parts.release();
        }
        Poll::Ready(match frame {
            None if was_reset => Some(Err(BodyError::Reset)),
            frame => frame.map(|frame| frame.map_err(BodyError::Cut)),
        })
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.deferred_error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let frame = ready!(self.poll_held(cx));
        if let Some(Err(error)) = frame {
            self.count_cut(&error);
            // An error makes hyper drop what it has not written yet, the head included. Report it one turn later.
            self.deferred_error = Some(error);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.deferred_error.is_none() && self.is_end_stream
    }

    fn size_hint(&self) -> SizeHint {
        self.size_hint
    }
}
