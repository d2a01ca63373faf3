//! One HTTP/2 connection to the upstream, on a task of its own. Requests share it, each on a stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::connect::UpstreamStream;
use super::request_body::RequestBody;

/// The interval of PING frames, which find a connection that the network has dropped.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Requests at a time on one connection. It is the least that RFC 9113 §6.5.2 recommends servers to allow.
const MAX_STREAMS: usize = 100;

#[derive(Clone)]
pub(super) struct Http2Connection {
    sender: SendRequest<RequestBody>,
    usage: Arc<StreamUsage>,
}

struct StreamUsage {
    streams: AtomicUsize,
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

impl Http2Connection {
    pub(super) async fn new(stream: TokioIo<UpstreamStream>) -> hyper::Result<Self> {
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .adaptive_window(true)
            .handshake(stream)
            .await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "HTTP/2 connection to the upstream failed");
            }
        });
        let usage = StreamUsage { streams: AtomicUsize::new(0), last_used: Mutex::new(Instant::now()) };
        Ok(Self { sender, usage: Arc::new(usage) })
    }

    /// Reserves a stream, if the connection is open and has one.
    pub(super) fn reserve(&self) -> Option<StreamGuard> {
        if self.sender.is_closed() || self.usage.streams.fetch_add(1, Ordering::Relaxed) >= MAX_STREAMS {
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

    /// Returns whether the connection is open and had a stream within `idle_timeout`.
    pub(super) fn is_reusable(&self, idle_timeout: Duration) -> bool {
        let in_use = self.usage.streams.load(Ordering::Relaxed) > 0;
        !self.sender.is_closed() && (in_use || self.usage.last_used.lock().elapsed() < idle_timeout)
    }
}
