//! One HTTP/1.1 connection to the upstream. It has no task of its own: whoever waits for something that comes over it
//! drives it, so that an exchange takes no switch between tasks. Knows nothing of time.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;

use super::body::RequestBody;
use super::connect::{Stream, Wire};

/// The connection and who waits for it may ring for each other so often before others have their turn.
const TURNS: usize = 8;

pub struct Lane {
    /// `None` once it has ended. Its type has no name outside of hyper.
    connection: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    sender: SendRequest<RequestBody>,
    wire: Wire,
    bell: Arc<Bell>,
    /// Rings the bell.
    waker: Waker,
}

impl Lane {
    /// `idle` is told when something happens on it while nobody uses it.
    pub async fn new(stream: TokioIo<Stream>, idle: Arc<Notify>) -> hyper::Result<Self> {
        let wire = stream.inner().wire();
        let (sender, connection) = Builder::new().handshake(stream).await?;
        let bell = Arc::new(Bell { user: Mutex::new(None), driven: false.into(), rang: false.into(), idle });
        let waker = Waker::from(bell.clone());
        Ok(Self { connection: Some(Box::pin(connection.with_upgrades())), sender, wire, bell, waker })
    }

    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// One request, up to the head of its answer. What was never sent comes back with the error.
    pub async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        // Nobody has to be woken: it is driven next.
        self.bell.driven.store(true, Ordering::Release);
        let mut answer = pin!(self.sender.try_send_request(request));
        poll_fn(|cx| self.drive(cx, |_, cx| answer.as_mut().poll(cx))).await
    }

    /// The next part of the body of an answer that came over it.
    pub fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        self.drive(cx, |_, cx| Pin::new(&mut *body).poll_frame(cx))
    }

    /// Whether it is ready for the next request at once: open, and nothing of the last one is left.
    pub fn rests(&mut self) -> bool {
        self.bell.driven.store(true, Ordering::Release);
        self.turn();
        let rests = self.connection.is_some() && self.sender.is_ready();
        self.bell.listen(None);
        self.bell.driven.store(false, Ordering::Release);
        rests
    }

    /// Once it is ready for the next request, or will never be.
    pub async fn rested(&mut self) {
        poll_fn(|cx| {
            self.drive(cx, |sender, _| match sender.is_ready() || sender.is_closed() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
        })
        .await;
    }

    /// Drives it until it has become something else, or has ended.
    pub async fn upgraded(mut self) {
        if let Some(connection) = self.connection.take() {
            _ = connection.await;
        }
    }

    /// Lets it go on, and looks then: whatever `look` waits for comes over this connection.
    fn drive<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut look: impl FnMut(&SendRequest<RequestBody>, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.bell.listen(Some(cx.waker()));
        self.bell.driven.store(true, Ordering::Release);
        let mut seen = Poll::Pending;
        for _ in 0..TURNS {
            // What made it ring before is seen in this turn.
            self.bell.rang.swap(false, Ordering::AcqRel);
            self.turn();
            seen = look(&self.sender, &mut Context::from_waker(Waker::noop()));
            if seen.is_ready() || !self.bell.rang.load(Ordering::Acquire) {
                break;
            }
        }
        self.bell.driven.store(false, Ordering::SeqCst);
        if seen.is_pending() && self.bell.rang.load(Ordering::SeqCst) {
            cx.waker().wake_by_ref();
        }
        seen
    }

    fn turn(&mut self) {
        if let Some(connection) = &mut self.connection
            && connection.as_mut().poll(&mut Context::from_waker(&self.waker)).is_ready()
        {
            // What still waits for something from it learns that nothing comes.
            self.connection = None;
        }
    }
}

/// What the connection wakes.
struct Bell {
    /// Who drives it.
    user: Mutex<Option<Waker>>,
    /// It is being driven: nobody has to be woken for what rings now.
    driven: AtomicBool,
    rang: AtomicBool,
    idle: Arc<Notify>,
}

impl Bell {
    fn listen(&self, user: Option<&Waker>) {
        let mut listening = self.user.lock().unwrap_or_else(PoisonError::into_inner);
        match (listening.as_mut(), user) {
            (Some(known), Some(user)) => known.clone_from(user),
            _ => *listening = user.cloned(),
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // In one order with the two in `drive`, which come the other way round: one of both sees the other.
        self.rang.store(true, Ordering::SeqCst);
        if self.driven.load(Ordering::SeqCst) {
            return;
        }
        match &*self.user.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(user) => user.wake_by_ref(),
            None => self.idle.notify_one(),
        }
    }
}
