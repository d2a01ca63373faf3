//! One HTTP/1.1 connection to the upstream. It has no task of its own: the task that waits for a response polls the
//! connection too, so an exchange needs no switch between tasks.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::connect::{ConnectionStats, HeaderLimits, UpstreamStream};
use super::request_body::RequestBody;

/// The connection and its user may wake each other this often before other tasks run.
const MAX_POLLS_PER_WAKE: usize = 8;

/// A connection that was idle for less is taken to be open. Under load the check would cost a system call a request.
const UNCHECKED_IDLE_TIME: Duration = Duration::from_millis(10);

pub(super) struct Http1Connection {
    /// `None` once it has ended. Boxed, because hyper does not name its type.
    connection: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    sender: SendRequest<RequestBody>,
    stats: ConnectionStats,
    wake_state: Arc<ConnectionWaker>,
    /// Wakes `wake_state`.
    waker: Waker,
    /// The `timeout` of the last `Keep-Alive` field.
    keep_alive: Option<Duration>,
    has_carried_content: bool,
}

impl Http1Connection {
    /// Performs the handshake. `idle` is notified of events while the connection has no user.
    pub(super) async fn new(
        stream: TokioIo<UpstreamStream>,
        limits: HeaderLimits,
        idle: Arc<Notify>,
    ) -> hyper::Result<Self> {
        let stats = stream.inner().stats();
        let (sender, connection) = Builder::new()
            .max_headers(limits.count)
            // Content is read in parts of this size, too: a response that waits for its reader keeps one.
            .max_buf_size(limits.bytes)
            // RFC 9112 §5.1: a proxy removes white space before the colon from a response.
            .allow_spaces_after_header_name_in_responses(true)
            .handshake(stream)
            .await?;
        let wake_state = Arc::new(ConnectionWaker {
            user: Mutex::new(None),
            is_polled: false.into(),
            is_woken: false.into(),
            idle,
        });
        let waker = Waker::from(wake_state.clone());
        let connection = Some(Box::pin(connection.with_upgrades()) as Pin<Box<_>>);
        Ok(Self {
            connection,
            sender,
            stats,
            wake_state,
            waker,
            keep_alive: None,
            has_carried_content: false,
        })
    }

    /// Records how long the upstream keeps the connection, if it says so.
    pub(super) fn set_keep_alive(&mut self, headers: &HeaderMap) {
        let announced = headers.get("keep-alive").and_then(|value| value.to_str().ok());
        self.keep_alive = announced.and_then(|parameters| {
            let timeout = parameters.split(',').find_map(|it| it.trim().strip_prefix("timeout="))?;
            timeout.parse().ok().map(Duration::from_secs)
        });
    }

    pub(super) fn keep_alive(&self) -> Option<Duration> {
        self.keep_alive
    }

    pub(super) fn stats(&self) -> &ConnectionStats {
        &self.stats
    }

    /// Whether a request with content went over it.
    pub(super) fn has_carried_content(&self) -> bool {
        self.has_carried_content
    }

    /// Sends a request, and returns the head of its response.
    ///
    /// # Errors
    /// The error holds the request if nothing of it was sent.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        self.has_carried_content |= !request.body().is_empty();
        // This task polls the connection next, so nobody has to be woken.
        self.wake_state.is_polled.store(true, Ordering::Release);
        let mut answer = pin!(self.sender.try_send_request(request));
        poll_fn(|cx| self.poll_with(cx, |_, cx| answer.as_mut().poll(cx))).await
    }

    /// Polls the body of a response that arrives over this connection.
    pub(super) fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        self.poll_with(cx, |_, cx| Pin::new(&mut *body).poll_frame(cx))
    }

    /// Returns whether the next request can be sent at once: it is open, and the last exchange has ended.
    pub(super) fn is_reusable(&mut self) -> bool {
        self.wake_state.is_polled.store(true, Ordering::Release);
        self.poll_connection();
        let rests = self.connection.is_some() && self.sender.is_ready();
        self.wake_state.set_user(None);
        self.wake_state.is_polled.store(false, Ordering::Release);
        rests
    }

    /// Returns whether the upstream has not closed the connection, by what the system knows now: a close that has arrived
    /// may not have been read yet. `idle`: how long it had no user.
    pub(super) async fn is_still_open(&mut self, idle: Option<Duration>) -> bool {
        if idle.is_none_or(|idle| idle < UNCHECKED_IDLE_TIME) {
            return true;
        }
        // The runtime asks the system for events before it returns.
        tokio::task::yield_now().await;
        self.is_reusable()
    }

    /// Returns whether more came with a response without content, so that the connection ended although the upstream did
    /// not say that it closes it.
    pub(super) fn has_stray_content(&mut self, response: &Response<Incoming>) -> bool {
        let options = response.headers().get_all(CONNECTION).iter().map(HeaderValue::as_bytes);
        let is_close = |option: &[u8]| option.trim_ascii().eq_ignore_ascii_case(b"close");
        let mut options = options.flat_map(|line| line.split(|byte| *byte == b','));
        if response.version() != Version::HTTP_11 || options.any(is_close) {
            return false;
        }
        self.wake_state.is_polled.store(true, Ordering::Release);
        self.poll_connection();
        self.wake_state.is_polled.store(false, Ordering::Release);
        self.connection.is_none()
    }

    /// Resolves once the last exchange has ended, or the connection has.
    pub(super) async fn wait_until_reusable(&mut self) {
        poll_fn(|cx| {
            self.poll_with(cx, |sender, _| match sender.is_ready() || sender.is_closed() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
        })
        .await;
    }

    /// Polls the connection until it is upgraded or has ended.
    pub(super) async fn run_upgraded(mut self) {
        if let Some(connection) = self.connection.take() {
            _ = connection.await;
        }
    }

    /// Polls the connection, and then `poll`, which waits for something that arrives over it.
    fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&SendRequest<RequestBody>, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.wake_state.set_user(Some(cx.waker()));
        self.wake_state.is_polled.store(true, Ordering::Release);
        let mut result = Poll::Pending;
        for _ in 0..MAX_POLLS_PER_WAKE {
            // This turn handles all earlier wake-ups.
            self.wake_state.is_woken.swap(false, Ordering::AcqRel);
            self.poll_connection();
            result = poll(&self.sender, &mut Context::from_waker(Waker::noop()));
            if result.is_ready() || !self.wake_state.is_woken.load(Ordering::Acquire) {
                break;
            }
        }
        self.wake_state.is_polled.store(false, Ordering::SeqCst);
        if result.is_pending() && self.wake_state.is_woken.load(Ordering::SeqCst) {
            cx.waker().wake_by_ref();
        }
        result
    }

    fn poll_connection(&mut self) {
        if let Some(connection) = &mut self.connection
            && connection.as_mut().poll(&mut Context::from_waker(&self.waker)).is_ready()
        {
            // Dropping it fails whatever still waits for it.
            self.connection = None;
        }
    }
}

/// The waker that the connection is polled with.
struct ConnectionWaker {
    /// The task that waits for the connection.
    user: Mutex<Option<Waker>>,
    /// The connection is being polled, so a wake-up need not reach a task.
    is_polled: AtomicBool,
    is_woken: AtomicBool,
    idle: Arc<Notify>,
}

impl ConnectionWaker {
    fn set_user(&self, user: Option<&Waker>) {
        let mut listening = self.user.lock();
        match (listening.as_mut(), user) {
            (Some(known), Some(user)) => known.clone_from(user),
            _ => *listening = user.cloned(),
        }
    }
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Sequentially consistent with the store and load in `poll_with`: one of the two sees the other.
        self.is_woken.store(true, Ordering::SeqCst);
        if self.is_polled.load(Ordering::SeqCst) {
            return;
        }
        match &*self.user.lock() {
            Some(user) => user.wake_by_ref(),
            None => self.idle.notify_one(),
        }
    }
}
