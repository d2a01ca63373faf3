//! Bodies on their way to the upstream and back, with the clocks that bound them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};

/// What went wrong in the middle of a body.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the upstream stopped sending in the middle of its answer")]
    Stalled,
    #[error("the upstream's answer was cut short: {0}")]
    Cut(#[source] hyper::Error),
    #[error("the client stopped sending in the middle of its request: {0}")]
    RequestCut(#[source] hyper::Error),
}

/// The client's body on its way to the upstream, or none.
pub struct RequestBody {
    incoming: Option<Incoming>,
    progress: Progress,
}

/// How far a request has got; shared with whoever waits for the answer.
#[derive(Clone)]
pub struct Progress(Arc<Mutex<State>>);

struct State {
    last: Instant,
    complete: bool,
    cut: bool,
    /// The upstream would take more, and the client has sent no more.
    waits_for_client: bool,
    /// How long it may wait so.
    body_timeout: Duration,
}

impl Progress {
    fn new(complete: bool, body_timeout: Duration) -> Self {
        let state =
            State { last: Instant::now(), complete, cut: false, waits_for_client: false, body_timeout };
        Self(Arc::new(Mutex::new(state)))
    }

    fn note(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        state.last = Instant::now();
        state.waits_for_client = false;
        change(&mut state);
    }

    fn waits_for_client(&self) {
        self.state().waits_for_client = true;
    }

    /// After so long somebody's time may be up.
    pub fn look_after(&self, response_timeout: Duration) -> Duration {
        let patience = self.patience(response_timeout);
        let state = self.state();
        if state.complete { patience } else { patience.min(state.body_timeout) }
    }

    /// What is left, since the last sign of progress, of the time of whoever is to act: the client, or the upstream,
    /// which has `response_timeout`.
    pub fn patience(&self, response_timeout: Duration) -> Duration {
        let state = self.state();
        let limit = if state.waits_for_client { state.body_timeout } else { response_timeout };
        limit.saturating_sub(state.last.elapsed())
    }

    pub fn is_complete(&self) -> bool {
        self.state().complete
    }

    /// It is the client's turn, or it has gone.
    pub fn is_clients_turn(&self) -> bool {
        self.state().waits_for_client
    }

    pub fn is_cut(&self) -> bool {
        self.state().cut
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RequestBody {
    pub fn empty() -> Self {
        Self { incoming: None, progress: Progress::new(true, Duration::ZERO) }
    }

    /// `timeout`: between two parts of it.
    pub fn from_client(incoming: Incoming, timeout: Duration) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        Self { incoming: Some(incoming), progress: Progress::new(false, timeout) }
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
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(cx) else {
            self.progress.waits_for_client();
            return Poll::Pending;
        };
        let ended = incoming.is_end_stream();
        match frame {
            Some(Ok(frame)) => {
                self.progress.note(|state| state.complete = ended);
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.progress.note(|state| state.cut = true);
                Poll::Ready(Some(Err(BodyError::RequestCut(error))))
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
    limit: Duration,
    /// Armed only while nothing comes.
    stall: Option<Pin<Box<Sleep>>>,
    slot: Option<OwnedSemaphorePermit>,
}

impl UpstreamBody {
    pub(super) fn new(incoming: Incoming, slot: OwnedSemaphorePermit, limit: Duration) -> Self {
        let slot = (!incoming.is_end_stream()).then_some(slot);
        Self { incoming, limit, stall: None, slot }
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
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.stall = None;
                if frame.as_ref().is_none_or(|frame| frame.is_err()) || self.incoming.is_end_stream() {
                    self.slot = None;
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Cut)))
            }
            Poll::Pending => {
                let limit = self.limit;
                let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(limit)));
                ready!(stall.as_mut().poll(cx));
                self.slot = None;
                Poll::Ready(Some(Err(BodyError::Stalled)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
