//! A body that arrives once and is read by many, each at its own pace.
//!
//! While the whole of it may still be stored it is kept whole: whoever joins reads from the start, and no reader
//! slows another. Past that bound ([`SharedBody::overflow`]) only a window is kept: nobody joins any more, the
//! upstream is read as fast as the fastest reader reads, and a reader that falls out of the window is cut off.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

/// How far the upstream is read ahead of the fastest reader once the body is too large to be stored.
const READ_AHEAD: u64 = 256 * 1024;

#[derive(Clone, Debug, thiserror::Error)]
pub enum SharedBodyError {
    #[error("{0}")]
    Upstream(String),
    #[error("this client read too slowly to share a response that is too large to be kept")]
    TooSlow,
}

pub struct SharedBody {
    state: Mutex<State>,
    /// `Content-Length`, where the upstream gave one.
    length: Option<u64>,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Bytes>,
    /// The number of the first chunk in `chunks`.
    first: u64,
    /// Bytes before the first chunk in `chunks`.
    dropped: u64,
    /// Bytes that have arrived.
    arrived: u64,
    end: Option<Result<Option<HeaderMap>, SharedBodyError>>,
    /// Too large to be kept whole: how many bytes are kept at the most.
    window: Option<u64>,
    readers: HashMap<u64, Place>,
    next_reader: u64,
    /// Whoever fills this body, while it waits for a reader.
    filler: Option<Waker>,
}

/// Where a reader is.
#[derive(Default)]
struct Place {
    chunk: u64,
    bytes: u64,
    waker: Option<Waker>,
}

impl SharedBody {
    pub fn new(length: Option<u64>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), length })
    }

    /// A reader from the start; `None` if the start is not kept any more, or the end will never come.
    pub fn reader(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.state();
        if state.window.is_some() || matches!(state.end, Some(Err(_))) {
            return None;
        }
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, Place::default());
        Some(Reader { body: self.clone(), id, ended: false })
    }

    /// Adds what has arrived. Returns how much has arrived so far.
    pub fn append(&self, chunk: Bytes) -> u64 {
        let mut state = self.state();
        state.arrived += chunk.len() as u64;
        state.chunks.push_back(chunk);
        state.trim();
        let arrived = state.arrived;
        wake_after(state);
        arrived
    }

    /// The body is too large to be kept whole: from now on at most `window` bytes are kept.
    pub fn overflow(&self, window: u64) {
        let mut state = self.state();
        state.window = Some(window);
        state.trim();
    }

    pub fn is_read(&self) -> bool {
        !self.state().readers.is_empty()
    }

    /// Resolves when some reader is close enough to the end of what has arrived, or when none is left (`false`).
    pub async fn wanted(&self) -> bool {
        std::future::poll_fn(|cx| {
            let mut state = self.state();
            let Some(furthest) = state.readers.values().map(|place| place.bytes).max() else {
                return Poll::Ready(false);
            };
            if state.arrived - furthest < READ_AHEAD {
                return Poll::Ready(true);
            }
            state.filler = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// No more will come; `Err`: it was cut short.
    pub fn finish(&self, end: Result<Option<HeaderMap>, SharedBodyError>) {
        let mut state = self.state();
        state.end.get_or_insert(end);
        wake_after(state);
    }

    /// The whole, in one piece of memory of just its size; `None` if some of it is not kept any more.
    pub fn whole(&self) -> Option<Bytes> {
        let state = self.state();
        if state.window.is_some() {
            return None;
        }
        let (chunks, length) = (state.chunks.clone(), state.arrived);
        // Readers go on while this copies.
        drop(state);
        let mut whole = Vec::with_capacity(usize::try_from(length).ok()?);
        chunks.iter().for_each(|chunk| whole.extend_from_slice(chunk));
        Some(whole.into())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Drops what every reader has read, and what lies before the window; never what no reader has read yet, so that
    /// the fastest is not cut off, however small the window.
    fn trim(&mut self) {
        let Some(window) = self.window else { return };
        let places = || self.readers.values().map(|place| place.chunk);
        let (slowest, fastest) = (places().min().unwrap_or(u64::MAX), places().max().unwrap_or(u64::MAX));
        while let Some(chunk) = self.chunks.front() {
            let kept = self.arrived - self.dropped;
            if self.first >= fastest || (self.first >= slowest && kept <= window) {
                break;
            }
            self.dropped += chunk.len() as u64;
            self.first += 1;
            self.chunks.pop_front();
        }
    }
}

/// Wakes every reader that waits, outside the lock.
fn wake_after(mut state: MutexGuard<'_, State>) {
    let wakers: Vec<Waker> = state.readers.values_mut().filter_map(|place| place.waker.take()).collect();
    drop(state);
    wakers.into_iter().for_each(Waker::wake);
}

/// One client's place in a shared body.
pub struct Reader {
    body: Arc<SharedBody>,
    id: u64,
    ended: bool,
}

impl Body for Reader {
    type Data = Bytes;
    type Error = SharedBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SharedBodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let body = self.body.clone();
        let mut guard = body.state();
        let state = &mut *guard;
        let Some(place) = state.readers.get_mut(&self.id) else { return Poll::Ready(None) };
        if place.chunk < state.first {
            self.ended = true;
            return Poll::Ready(Some(Err(SharedBodyError::TooSlow)));
        }
        let index = usize::try_from(place.chunk - state.first).unwrap_or(usize::MAX);
        if let Some(chunk) = state.chunks.get(index).cloned() {
            place.chunk += 1;
            place.bytes += chunk.len() as u64;
            state.trim();
            let filler = state.filler.take();
            drop(guard);
            filler.into_iter().for_each(Waker::wake);
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        let Some(end) = &state.end else {
            place.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        self.ended = true;
        Poll::Ready(match end {
            Ok(None) => None,
            Ok(Some(trailers)) => Some(Ok(Frame::trailers(trailers.clone()))),
            Err(error) => Some(Err(error.clone())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.body.state().readers.get(&self.id).map_or(0, |place| place.bytes);
        self.body
            .length
            .map_or_else(SizeHint::default, |length| SizeHint::with_exact(length.saturating_sub(read)))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.body.state();
        state.readers.remove(&self.id);
        state.trim();
        let filler = state.filler.take();
        drop(state);
        filler.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
#[path = "shared_body_tests.rs"]
mod tests;
