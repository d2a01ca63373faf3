//! Bodies on their way to the upstream and back, with the clocks that bound them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::pool::Loan;
use crate::stall::Stall;

/// What went wrong in the middle of a body.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the upstream stopped sending in the middle of its answer")]
    Stalled,
    #[error("the upstream's answer was cut short: {0}")]
    Cut(#[source] hyper::Error),
    #[error("the upstream reset its answer")]
    Reset,
    #[error("the client stopped sending in the middle of its request: {0}")]
    RequestCut(#[source] hyper::Error),
    #[error("the client reset its request")]
    RequestReset,
    #[error("the client did not go on with its request")]
    RequestStalled,
}

/// RFC 9113 §8.1: only END_STREAM ends a body, and hyper also ends it at a reset without an error (`NO_ERROR`).
fn is_reset(incoming: &Incoming, version: Version) -> bool {
    version == Version::HTTP_2 && !incoming.is_end_stream()
}

/// The client's body on its way to the upstream, or none.
pub struct RequestBody {
    incoming: Option<Incoming>,
    version: Version,
    progress: Progress,
    /// How long the client may send nothing while the upstream waits; also after an early answer.
    stall: Option<Stall>,
    copy: Option<BodyCopy>,
}

/// The content of a request as it went by, up to a bound.
#[derive(Clone)]
pub struct BodyCopy {
    content: Arc<Mutex<Option<Vec<u8>>>>,
    limit: u64,
    progress: Progress,
}

impl BodyCopy {
    /// `None` if not all of it has gone by, or it was too large.
    pub fn whole(&self) -> Option<Vec<u8>> {
        if !self.progress.is_complete() {
            return None;
        }
        self.content.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn add(&self, data: &[u8]) {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        match content.as_mut() {
            Some(before) if (before.len() + data.len()) as u64 <= self.limit => {
                before.extend_from_slice(data)
            }
            _ => *content = None,
        }
    }
}

/// How far a request has got; shared with whoever waits for the answer. `None`: there is no content, and it is complete.
#[derive(Clone)]
pub struct Progress(Option<Arc<Mutex<State>>>);

struct State {
    last: Instant,
    complete: bool,
    cut: bool,
}

impl Progress {
    fn started() -> Self {
        let state = State { last: Instant::now(), complete: false, cut: false };
        Self(Some(Arc::new(Mutex::new(state))))
    }

    fn state(&self) -> Option<MutexGuard<'_, State>> {
        self.0.as_ref().map(|state| state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, change: impl FnOnce(&mut State)) {
        if let Some(mut state) = self.state() {
            state.last = Instant::now();
            change(&mut state);
        }
    }

    /// What is left of `limit`, which began at `since`, or with the last sign of progress after that.
    pub fn patience(&self, limit: Duration, since: Instant) -> Duration {
        let last = self.state().map_or(since, |state| state.last.max(since));
        limit.saturating_sub(last.elapsed())
    }

    pub fn is_complete(&self) -> bool {
        self.state().is_none_or(|state| state.complete)
    }

    pub fn is_cut(&self) -> bool {
        self.state().is_some_and(|state| state.cut)
    }
}

impl RequestBody {
    pub fn empty() -> Self {
        Self { incoming: None, version: Version::HTTP_11, progress: Progress(None), stall: None, copy: None }
    }

    /// `timeout`: between two parts of it.
    pub fn from_client(incoming: Option<Incoming>, version: Version, timeout: Duration) -> Self {
        let Some(incoming) = incoming.filter(|incoming| !incoming.is_end_stream()) else {
            return Self::empty();
        };
        Self {
            incoming: Some(incoming),
            version,
            progress: Progress::started(),
            stall: Some(Stall::new(timeout)),
            copy: None,
        }
    }

    /// A copy of what goes by from now on.
    pub fn copied(&mut self, limit: u64) -> BodyCopy {
        let content = Arc::new(Mutex::new(Some(Vec::new())));
        self.copy.insert(BodyCopy { content, limit, progress: self.progress() }).clone()
    }

    pub fn is_empty(&self) -> bool {
        self.incoming.is_none()
    }

    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { incoming, version, stall, .. } = &mut *self;
        let Some(incoming) = incoming else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(cx) else {
            if let Some(stall) = stall {
                ready!(stall.poll_too_long(cx));
                self.progress.note(|state| state.cut = true);
                return Poll::Ready(Some(Err(BodyError::RequestStalled)));
            }
            return Poll::Pending;
        };
        stall.iter_mut().for_each(Stall::over);
        let ended = incoming.is_end_stream() || incoming.size_hint().exact() == Some(0);
        let is_reset = frame.is_none() && is_reset(incoming, *version);
        match frame {
            Some(Ok(frame)) => {
                if let (Some(copy), Some(data)) = (&self.copy, frame.data_ref()) {
                    copy.add(data);
                }
                self.progress.note(|state| state.complete = ended);
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.progress.note(|state| state.cut = true);
                Poll::Ready(Some(Err(BodyError::RequestCut(error))))
            }
            None if is_reset => {
                self.progress.note(|state| state.cut = true);
                Poll::Ready(Some(Err(BodyError::RequestReset)))
            }
            None => {
                self.progress.note(|state| state.complete = true);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(|incoming| incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or(SizeHint::with_exact(0), |incoming| incoming.size_hint())
    }
}

/// The upstream's body. It keeps its slot until it ends or is dropped, and fails if nothing comes for too long.
pub struct UpstreamBody {
    incoming: Incoming,
    version: Version,
    stall: Stall,
    /// What it comes over, if that is its own. It is given back after `incoming` has gone.
    loan: Option<Loan>,
    slot: Option<OwnedSemaphorePermit>,
    /// How it ended, when what came before that has had its turn to go on to the client.
    failed: Option<BodyError>,
}

impl UpstreamBody {
    pub(super) fn of(
        response: Response<Incoming>,
        loan: Option<Loan>,
        slot: OwnedSemaphorePermit,
        limit: Duration,
    ) -> Response<Self> {
        let (version, becomes_tunnel) =
            (response.version(), response.status() == StatusCode::SWITCHING_PROTOCOLS);
        response.map(|incoming| {
            let mut body =
                Self { incoming, version, stall: Stall::new(limit), loan, slot: Some(slot), failed: None };
            if becomes_tunnel {
                body.loan.take().into_iter().for_each(Loan::upgrade);
            } else if body.incoming.is_end_stream() {
                body.end();
            }
            body
        })
    }

    fn end(&mut self) {
        self.loan = None;
        self.slot = None;
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        match self.loan.as_mut().and_then(Loan::lane) {
            Some(lane) => lane.poll_frame(&mut self.incoming, cx),
            None => Pin::new(&mut self.incoming).poll_frame(cx),
        }
    }

    /// The slot, for a connection that becomes a tunnel.
    pub fn take_slot(&mut self) -> Option<OwnedSemaphorePermit> {
        self.slot.take()
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match self.poll_incoming(cx) {
            Poll::Ready(frame) => {
                self.stall.over();
                if frame.as_ref().is_none_or(|frame| frame.is_err()) || self.incoming.is_end_stream() {
                    self.end();
                }
                let frame = match frame {
                    None if is_reset(&self.incoming, self.version) => Some(Err(BodyError::Reset)),
                    frame => frame.map(|frame| frame.map_err(BodyError::Cut)),
                };
                if let Some(Err(error)) = frame {
                    // hyper would drop what it has not written yet, and be it the head.
                    self.failed = Some(error);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(frame)
            }
            Poll::Pending => {
                ready!(self.stall.poll_too_long(cx));
                self.end();
                Poll::Ready(Some(Err(BodyError::Stalled)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failed.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
