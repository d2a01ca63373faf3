//! A body that arrives once and is read by many clients, each at its own pace.
//!
//! While it may still be stored, all of it is kept: each new reader begins at the start, and no reader slows another.
//! Past that bound ([`SharedBody::overflow`]) only a window is kept: no reader is added, the upstream is read as fast as the
//! fastest reader reads, and a reader that falls out of the window is cut off.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use parking_lot::{Mutex, MutexGuard};

/// How far the upstream is read ahead of the fastest reader once the body is too large to be stored.
const READ_AHEAD: u64 = 256 * 1024;

/// The longest content that a follower waits for, before it begins to read it.
const MAX_AWAITED_BYTES: u64 = 64 * 1024;

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum SharedBodyError {
    #[error("{0}")]
    Upstream(String),
    #[error("this client read too slowly to share a response that is too large to be kept")]
    TooSlow,
}

pub(super) type OnUnsent = Box<dyn FnOnce(u64) + Send + Sync>;

pub(super) struct SharedBody {
    state: Mutex<State>,
    /// `Content-Length`, where the upstream gave one.
    length: Option<u64>,
    /// The bytes that readers were given, all together.
    given: AtomicU64,
    /// Called at the end with the bytes that arrived and no reader was given, if there are any.
    on_unsent: Option<OnUnsent>,
}

struct State {
    chunks: VecDeque<Bytes>,
    /// The number of the first chunk in `chunks`.
    first: u64,
    /// Bytes before the first chunk in `chunks`.
    dropped: u64,
    /// Bytes that have arrived.
    arrived: u64,
    /// When the last of them arrived, or the header section before them.
    progressed_at: Instant,
    end: Option<Result<Option<HeaderMap>, SharedBodyError>>,
    /// How many bytes are kept, once the body is too large to be stored.
    window: Option<u64>,
    readers: HashMap<u64, ReaderPosition>,
    next_reader: u64,
    /// The task that fills this body, while it waits for demand.
    producer: Option<Waker>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            chunks: VecDeque::new(),
            first: 0,
            dropped: 0,
            arrived: 0,
            progressed_at: Instant::now(),
            end: None,
            window: None,
            readers: HashMap::new(),
            next_reader: 0,
            producer: None,
        }
    }
}

/// How far a reader has read.
#[derive(Default)]
struct ReaderPosition {
    chunk: u64,
    bytes: u64,
    waker: Option<Waker>,
}

impl SharedBody {
    pub(super) fn new(length: Option<u64>, on_unsent: Option<OnUnsent>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), length, given: AtomicU64::new(0), on_unsent })
    }

    /// A reader at the start. `None` if the start is not kept any more, or the body failed.
    pub(super) fn new_reader(self: &Arc<Self>) -> Option<BodyReader> {
        let mut state = self.state();
        if state.window.is_some() || matches!(state.end, Some(Err(_))) {
            return None;
        }
        let id = state.next_reader;
        state.next_reader += 1;
        state.readers.insert(id, ReaderPosition::default());
        Some(BodyReader { body: self.clone(), id, ended: false, range: None, takes_trailers: true })
    }

    /// Appends a chunk. Returns the number of bytes that have arrived.
    pub(super) fn append(&self, chunk: Bytes) -> u64 {
        let mut state = self.state();
        state.arrived += chunk.len() as u64;
        if !chunk.is_empty() {
            state.progressed_at = Instant::now();
        }
        state.chunks.push_back(chunk);
        state.trim();
        let arrived = state.arrived;
        wake_after(state);
        arrived
    }

    /// The body is too large to be stored: keeps at most `window` bytes from now on.
    pub(super) fn overflow(&self, window: u64) {
        let mut state = self.state();
        state.window = Some(window);
        state.trim();
    }

    /// Whether the body has not ended, and nothing of it has arrived for `timeout`.
    pub(super) fn has_stalled(&self, timeout: Duration) -> bool {
        let state = self.state();
        state.end.is_none() && state.progressed_at.elapsed() >= timeout
    }

    /// Waits until a short content is whole, or has stalled for `timeout`, and no longer than that. A long one, or one of
    /// unknown length, is not waited for.
    pub(super) async fn wait_for_short(self: &Arc<Self>, timeout: Duration) {
        let is_short = self.length.is_some_and(|length| length <= MAX_AWAITED_BYTES);
        let Some(reader) = self.new_reader().filter(|_| is_short) else { return };
        let ended = std::future::poll_fn(|cx| {
            let mut state = self.state();
            match state.readers.get_mut(&reader.id) {
                Some(place) => place.waker = Some(cx.waker().clone()),
                None => return Poll::Ready(()),
            }
            if state.end.is_some() { Poll::Ready(()) } else { Poll::Pending }
        });
        _ = tokio::time::timeout(timeout, ended).await;
    }

    pub(super) fn has_readers(&self) -> bool {
        !self.state().readers.is_empty()
    }

    /// Waits until a reader is within [`READ_AHEAD`] of the last chunk, or has read it where none is kept. `false`: no
    /// reader is left.
    pub(super) async fn wait_for_demand(&self) -> bool {
        std::future::poll_fn(|cx| {
            let mut state = self.state();
            let Some(furthest) = state.readers.values().map(|place| place.bytes).max() else {
                return Poll::Ready(false);
            };
            let read_ahead = if state.window == Some(0) { 1 } else { READ_AHEAD };
            if state.arrived - furthest < read_ahead {
                return Poll::Ready(true);
            }
            state.producer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Ends the body. `Err`: it was cut short. Only the first call counts.
    pub(super) fn finish(&self, end: Result<Option<HeaderMap>, SharedBodyError>) {
        let mut state = self.state();
        state.end.get_or_insert(end);
        wake_after(state);
    }

    /// The complete content in one allocation of its size. `None` if a part is not kept any more.
    pub(super) fn whole(&self) -> Option<Bytes> {
        let state = self.state();
        if state.window.is_some() {
            return None;
        }
        let (chunks, length) = (state.chunks.clone(), state.arrived);
        // Copy outside the lock, so that readers go on.
        drop(state);
        let mut whole = Vec::with_capacity(usize::try_from(length).ok()?);
        chunks.iter().for_each(|chunk| whole.extend_from_slice(chunk));
        Some(whole.into())
    }

    /// Lets readers read on out of the whole content, so that it is not held twice for a slow one.
    pub(super) fn read_from(&self, whole: &Bytes) {
        let mut state = self.state();
        let mut left = whole.clone();
        let parts = state.chunks.iter().map(|chunk| left.split_to(chunk.len().min(left.len()))).collect();
        let copies = std::mem::replace(&mut state.chunks, parts);
        drop(state);
        drop(copies);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Drop for SharedBody {
    fn drop(&mut self) {
        let unsent = self.state.get_mut().arrived.saturating_sub(*self.given.get_mut());
        if let Some(on_unsent) = self.on_unsent.take().filter(|_| unsent > 0) {
            on_unsent(unsent);
        }
    }
}

impl State {
    /// Drops the chunks that every reader has read, and those before the window. Chunks that no reader has read stay, so
    /// that the fastest reader is never cut off.
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

/// Wakes the waiting readers, after the lock is released.
fn wake_after(mut state: MutexGuard<'_, State>) {
    let wakers: Vec<Waker> = state.readers.values_mut().filter_map(|place| place.waker.take()).collect();
    drop(state);
    wakers.into_iter().for_each(Waker::wake);
}

/// One client's reader of a shared body.
pub(crate) struct BodyReader {
    body: Arc<SharedBody>,
    id: u64,
    ended: bool,
    /// The bytes to skip, and those to give after them. `None`: all.
    range: Option<(u64, u64)>,
    takes_trailers: bool,
}

impl BodyReader {
    /// The length of the whole body, where the upstream gave one.
    pub(crate) fn length(&self) -> Option<u64> {
        self.body.length
    }

    /// The reader of a part of the body: `first` to `last`, inclusive.
    #[must_use]
    pub(crate) fn with_range(mut self, first: u64, last: u64) -> Self {
        self.range = Some((first, last - first + 1));
        self
    }

    /// The reader of the content alone, for a follower: like a field of the head, a trailer may speak to one caller.
    #[must_use]
    pub(crate) fn without_trailers(mut self) -> Self {
        self.takes_trailers = false;
        self
    }

    /// The part of a chunk that lies within the range. `None`: the range is complete.
    fn cut(&mut self, mut chunk: Bytes) -> Option<Bytes> {
        let Some((skip, left)) = &mut self.range else { return Some(chunk) };
        if *left == 0 {
            return None;
        }
        let skipped = usize::try_from(*skip).unwrap_or(usize::MAX).min(chunk.len());
        *skip -= skipped as u64;
        let chunk_left = chunk.split_off(skipped);
        let given = usize::try_from(*left).unwrap_or(usize::MAX).min(chunk_left.len());
        *left -= given as u64;
        Some(chunk_left.slice(..given))
    }

    /// The next chunk of the body, whole.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, SharedBodyError>>> {
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
            let producer = state.producer.take();
            drop(guard);
            producer.into_iter().for_each(Waker::wake);
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
}

impl Body for BodyReader {
    type Data = Bytes;
    type Error = SharedBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SharedBodyError>>> {
        loop {
            if self.ended || self.range.is_some_and(|(_, left)| left == 0) {
                return Poll::Ready(None);
            }
            let chunk = match ready!(self.poll_chunk(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => chunk,
                    // The trailers describe the whole.
                    Err(_) if self.range.is_some() || !self.takes_trailers => continue,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            };
            match self.cut(chunk) {
                Some(part) if part.is_empty() && self.range.is_some() => {}
                Some(part) => {
                    self.body.given.fetch_add(part.len() as u64, Ordering::Relaxed);
                    return Poll::Ready(Some(Ok(Frame::data(part))));
                }
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.range.is_some_and(|(_, left)| left == 0)
    }

    fn size_hint(&self) -> SizeHint {
        if let Some((_, left)) = self.range {
            return SizeHint::with_exact(left);
        }
        let read = self.body.state().readers.get(&self.id).map_or(0, |place| place.bytes);
        self.body
            .length
            .map_or_else(SizeHint::default, |length| SizeHint::with_exact(length.saturating_sub(read)))
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        let mut state = self.body.state();
        state.readers.remove(&self.id);
        state.trim();
        let filler = state.producer.take();
        drop(state);
        filler.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
#[path = "shared_body_tests.rs"]
mod tests;
