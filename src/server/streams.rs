//! HTTP/2 streams side by side: each answer goes out in small parts, as its client takes them, and a client that takes
//! nothing for too long loses that stream and not its connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::rt::Executor;

use super::pace::UnderWay;
use crate::stall::Stall;

/// Of an answer, handed out at a time. The next is asked for when the client has room for it: until then it stays where
/// it is, and the request is under way.
const PART: usize = 16 * 1024;

tokio::task_local! {
    static STREAM: Arc<Handed>;
}

/// How many parts were handed out, and whether the last of them still waits for room.
#[derive(Debug, Default)]
struct Handed(AtomicU64);

/// Set while nothing more was asked for.
const WAITS: u64 = 1;

impl Handed {
    fn out(&self) {
        let parts = self.0.load(Ordering::Relaxed) >> 1;
        self.0.store((parts + 1) << 1 | WAITS, Ordering::Relaxed);
    }

    fn asked_for_more(&self) {
        self.0.fetch_and(!WAITS, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs each stream on a task of its own, and drops it when its client takes nothing for `patience`: it is reset then.
#[derive(Clone, Copy, Debug)]
pub struct Streams {
    pub patience: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        let handed = Arc::new(Handed::default());
        let stream = Box::pin(STREAM.scope(handed.clone(), stream));
        tokio::spawn(Guarded { stream, handed, last: 0, stall: Stall::new(self.patience) });
    }
}

struct Guarded<F> {
    stream: Pin<Box<F>>,
    handed: Arc<Handed>,
    last: u64,
    stall: Stall,
}

impl<F: Future> Future for Guarded<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let handed = self.handed.get();
        if handed != self.last || handed & WAITS == 0 {
            self.stall.over();
            self.last = handed;
        }
        if handed & WAITS != 0 {
            ready!(self.stall.poll_too_long(cx));
            tracing::debug!("a stream was reset: its client does not take its answer");
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

/// A response's content; the request is under way until it is sent.
pub struct Tracked<B> {
    body: B,
    /// `None` where connections are not shared.
    stream: Option<Box<InStream>>,
    _under_way: UnderWay,
}

struct InStream {
    handed: Arc<Handed>,
    /// Of what the body gave, not handed out yet.
    rest: Bytes,
}

impl<B> Tracked<B> {
    pub fn new(body: B, under_way: UnderWay) -> Self {
        Self { body, stream: None, _under_way: under_way }
    }

    /// To be called on the stream's own task, if it has one.
    pub fn in_its_stream(mut self) -> Self {
        if let Ok(handed) = STREAM.try_with(Arc::clone) {
            // The first part may wait for room before it is asked for.
            handed.out();
            self.stream = Some(Box::new(InStream { handed, rest: Bytes::new() }));
        }
        self
    }
}

impl<B> Tracked<B> {
    fn rest(&self) -> u64 {
        self.stream.as_ref().map_or(0, |stream| stream.rest.len() as u64)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Tracked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Self { body, stream, .. } = &mut *self;
        let Some(stream) = stream else { return Pin::new(body).poll_frame(cx) };
        let InStream { handed, rest } = &mut **stream;
        handed.asked_for_more();
        if rest.is_empty() {
            match ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => *rest = data,
                Some(Ok(Err(trailers))) => return Poll::Ready(Some(Ok(trailers))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let part = rest.split_to(PART.min(rest.len()));
        handed.out();
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest() == 0 && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), self.rest());
        if rest == 0 {
            return hint;
        }
        let mut with_rest = SizeHint::new();
        with_rest.set_lower(hint.lower() + rest);
        if let Some(upper) = hint.upper() {
            with_rest.set_upper(upper + rest);
        }
        with_rest
    }
}
