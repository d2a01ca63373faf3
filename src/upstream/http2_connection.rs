//! One HTTP/2 connection to the upstream, on a task of its own. Requests share it, each on a stream.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::UpstreamError;
use super::connect::{HeaderLimits, UpstreamStream};
use super::request_body::RequestBody;

/// The interval of PING frames, which find a connection that the network has dropped.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Requests at a time on one connection, if the upstream allows so many. It is the least that RFC 9113 §6.5.2 recommends
/// servers to allow.
const MAX_STREAMS: usize = 100;

/// hyper's limit on streams until the upstream has sent its own, which is smaller than 2^32 or has no bound.
const UNKNOWN_STREAMS: usize = usize::MAX - 1;

/// A header section of so many times its limit is decoded (RFC 9113 §6.5.2). h2 reports a longer one as if it were
/// malformed.
const DECODED_FACTOR: usize = 4;

#[derive(Clone)]
pub(super) struct Http2Connection {
    sender: SendRequest<RequestBody>,
    usage: Arc<StreamUsage>,
    limits: HeaderLimits,
}

struct StreamUsage {
    streams: AtomicUsize,
    /// The streams that the upstream allows at a time, up to [`MAX_STREAMS`]; 0 until it has said so.
    allowed: AtomicUsize,
    last_used: Mutex<Instant>,
}

/// A stream that counts as one of its connection's until it is dropped.
pub(super) struct StreamGuard(Arc<StreamUsage>);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        *self.0.last_used.lock() = Instant::now();
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs hyper's tasks, and notifies of each turn: only then the upstream's settings are known.
#[derive(Clone)]
struct ConnectionExecutor {
    polled: Arc<Notify>,
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for ConnectionExecutor {
    fn execute(&self, task: F) {
        let polled = self.polled.clone();
        tokio::spawn(async move {
            let mut task = pin!(task);
            poll_fn(|cx| {
                let result = task.as_mut().poll(cx);
                polled.notify_one();
                result
            })
            .await
        });
    }
}

impl Http2Connection {
    /// Performs the handshake. Drops `until_settings` when the upstream has said how many streams it allows, or the
    /// connection has ended.
    pub(super) async fn new<T: Send + 'static>(
        stream: TokioIo<UpstreamStream>,
        limits: HeaderLimits,
        until_settings: T,
    ) -> hyper::Result<Self> {
        let polled = Arc::new(Notify::new());
        let (sender, connection) = Builder::new(ConnectionExecutor { polled: polled.clone() })
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .adaptive_window(true)
            .initial_max_send_streams(UNKNOWN_STREAMS)
            .max_header_list_size(u32::try_from(limits.bytes * DECODED_FACTOR).unwrap_or(u32::MAX))
            .handshake(stream)
            .await?;
        let usage = Arc::new(StreamUsage {
            streams: AtomicUsize::new(0),
            allowed: AtomicUsize::new(0),
            last_used: Mutex::new(Instant::now()),
        });
        let this = Self { sender, usage: usage.clone(), limits };
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            while connection.current_max_send_streams() == UNKNOWN_STREAMS {
                tokio::select! {
                    _ = &mut connection => return,
                    () = polled.notified() => {}
                }
            }
            let note_limit = |limit: usize| usage.allowed.store(limit.min(MAX_STREAMS), Ordering::Relaxed);
            note_limit(connection.current_max_send_streams());
            drop(until_settings);
            // It is polled for each request at least.
            let ended = poll_fn(|cx| {
                let polled = connection.as_mut().poll(cx);
                note_limit(connection.current_max_send_streams());
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "HTTP/2 connection to the upstream failed");
            }
        });
        Ok(this)
    }

    /// Reserves the first stream of a new connection, before the upstream has said how many it allows.
    pub(super) fn reserve_first(&self) -> StreamGuard {
        self.usage.streams.fetch_add(1, Ordering::Relaxed);
        StreamGuard(self.usage.clone())
    }

    /// Reserves a stream, if the connection is open and the upstream allows one more (RFC 9113 §5.1.2). A connection
    /// without streams must have had one within `max_idle`.
    pub(super) fn reserve(&self, max_idle: Duration) -> Option<StreamGuard> {
        let allowed = self.usage.allowed.load(Ordering::Relaxed);
        let is_reusable = self.is_reusable(max_idle);
        if self.usage.streams.fetch_add(1, Ordering::Relaxed) >= allowed || !is_reusable {
            self.usage.streams.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(StreamGuard(self.usage.clone()))
    }

    /// Sends a request, and returns the head of its response.
    ///
    /// # Errors
    /// The error holds the request if nothing of it was sent.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        self.sender.try_send_request(request).await
    }

    /// # Errors
    /// The header section of a response is larger than one over HTTP/1.1 may be.
    pub(super) fn check_size(&self, headers: &HeaderMap) -> Result<(), UpstreamError> {
        let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        match headers.len() > self.limits.count || bytes.sum::<usize>() > self.limits.bytes {
            true => Err(UpstreamError::HeaderTooLarge),
            false => Ok(()),
        }
    }

    /// Returns whether the connection is open and had a stream within `idle_timeout`.
    pub(super) fn is_reusable(&self, idle_timeout: Duration) -> bool {
        let in_use = self.usage.streams.load(Ordering::Relaxed) > 0;
        !self.sender.is_closed() && (in_use || self.usage.last_used.lock().elapsed() < idle_timeout)
    }
}
