//! The body of a response of server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::response::{AdminError, AdminResponse};

/// Maximum numbers of concurrent readers of purges, of decisions, and of the progress of runs.
const MAX_EVENT_READERS: usize = 32;
const MAX_DECISION_READERS: usize = 8;
const MAX_PROGRESS_READERS: usize = 8;

/// Interval of comment frames that keep idle connections open.
pub(super) const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The body of one reader's response.
struct EventStreamBody {
    frames: mpsc::Receiver<Bytes>,
    _slot: OwnedSemaphorePermit,
}

/// Slots for the readers of one admin listener.
#[derive(Clone)]
pub(crate) struct ReaderSlots {
    pub(super) events: Arc<Semaphore>,
    pub(super) decisions: Arc<Semaphore>,
    pub(super) progress: Arc<Semaphore>,
}

impl Default for ReaderSlots {
    fn default() -> Self {
        let slots = |count| Arc::new(Semaphore::new(count));
        Self {
            events: slots(MAX_EVENT_READERS),
            decisions: slots(MAX_DECISION_READERS),
            progress: slots(MAX_PROGRESS_READERS),
        }
    }
}

pub(super) fn acquire_slot(slots: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, AdminError> {
    slots.clone().try_acquire_owned().map_err(|_| {
        AdminError::unavailable("the maximum number of readers of this stream is connected".to_owned())
    })
}

/// The response that sends these frames until their sender is dropped.
pub(super) fn respond(frames: mpsc::Receiver<Bytes>, slot: OwnedSemaphorePermit) -> AdminResponse {
    let mut answer = Response::new(EventStreamBody { frames, _slot: slot }.boxed_unsync());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

impl Body for EventStreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.frames.poll_recv(cx).map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}
