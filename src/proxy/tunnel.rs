//! `Upgrade` (RFC 9110 §7.8): once both sides agree, copies bytes both ways until one side ends, neither sends anything
//! for `limits.tunnel_idle`, or larder stops. A WebSocket is closed with "going away" then.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::UPGRADE;
use http::{HeaderMap, HeaderValue, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy_bidirectional};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::body::Body;
use super::client_request::ClientHead;
use super::forwarding;
use super::reply::set_reason;
use super::websocket::{CLOSE_FROM_CLIENT, CLOSE_FROM_SERVER, FrameScanner};
use super::worker::Worker;
use crate::upstream::UpstreamBody;

/// The time for the farewell to a peer.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// The client's side of a connection that may become a tunnel.
pub(super) struct ClientUpgrade {
    connection: OnUpgrade,
    protocol: HeaderValue,
}

impl ClientUpgrade {
    /// `None`: the client does not ask for an upgrade.
    pub(super) fn take(head: &mut ClientHead) -> Option<Self> {
        if !head.is_upgrade() {
            return None;
        }
        let protocol = head.parts.headers.get(UPGRADE)?.clone();
        Some(Self { connection: head.parts.extensions.remove::<OnUpgrade>()?, protocol })
    }

    /// Asks the upstream for the upgrade.
    pub(super) fn add_fields(&self, headers: &mut HeaderMap) {
        forwarding::keep_upgrade(headers, &self.protocol);
    }
}

/// How long a tunnel may be idle, and the signal that closes it.
pub(super) struct TunnelLimits {
    idle: Duration,
    /// Turns true shortly before the process ends.
    closing: watch::Receiver<bool>,
}

impl TunnelLimits {
    pub(super) fn new(worker: &Worker) -> Self {
        Self { idle: worker.limits().tunnel_idle, closing: worker.proxy.tunnels.subscribe() }
    }
}

/// Answers 101, and connects the two sides as soon as both have switched.
pub(super) fn open(
    ClientUpgrade { connection: client, .. }: ClientUpgrade,
    mut response: Response<UpstreamBody>,
    limits: TunnelLimits,
) -> Response<Body> {
    let slot = response.body_mut().take_slot();
    let upstream = hyper::upgrade::on(&mut response);
    let protocol = response.headers().get(UPGRADE).map(HeaderValue::as_bytes);
    let is_websocket = protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"));
    tokio::spawn(async move {
        if let (Ok(client), Ok(upstream)) = (client.await, upstream.await) {
            relay(TokioIo::new(client), TokioIo::new(upstream), limits, is_websocket).await;
        }
        drop(slot);
    });
    let (mut parts, _) = response.into_parts();
    let mut switched = Response::new(Body::empty());
    *switched.status_mut() = parts.status;
    *switched.headers_mut() = switching_headers(parts.headers);
    set_reason(&mut switched, parts.extensions.remove());
    switched
}

/// Copies both ways until one side ends, both are idle, or the process ends.
async fn relay<S: AsyncRead + AsyncWrite + Unpin>(
    client: S,
    upstream: S,
    mut limits: TunnelLimits,
    is_websocket: bool,
) {
    let activity = LastActivity::now();
    let scanner = || is_websocket.then(FrameScanner::default);
    let mut client = TunnelIo { stream: client, activity: &activity, frames: scanner() };
    let mut upstream = TunnelIo { stream: upstream, activity: &activity, frames: scanner() };
    tokio::select! {
        joined = copy_bidirectional(&mut client, &mut upstream) => {
            tracing::debug!(?joined, "tunnel ended");
            return;
        }
        () = activity.wait_idle(limits.idle) => {
            tracing::debug!("tunnel closed: idle for `limits.tunnel_idle`");
        }
        _ = limits.closing.wait_for(|closing| *closing) => {
            tracing::debug!("tunnel closed: larder stops");
        }
    }
    // A peer that takes nothing has no room for a farewell either.
    let close = async {
        tokio::join!(client.close(CLOSE_FROM_SERVER), upstream.close(CLOSE_FROM_CLIENT));
    };
    _ = timeout(CLOSE_TIMEOUT, close).await;
}

fn switching_headers(mut headers: HeaderMap) -> HeaderMap {
    let protocol = headers.get(UPGRADE).cloned();
    forwarding::remove_hop_by_hop(&mut headers);
    if let Some(protocol) = protocol {
        forwarding::keep_upgrade(&mut headers, &protocol);
    }
    headers
}

/// When a byte arrived last, from either side.
struct LastActivity {
    opened: Instant,
    /// Milliseconds since `opened`.
    last: AtomicU64,
}

impl LastActivity {
    fn now() -> Self {
        Self { opened: Instant::now(), last: AtomicU64::new(0) }
    }

    fn touch(&self) {
        let since = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
    }

    async fn wait_idle(&self, limit: Duration) {
        loop {
            let end = self.opened + Duration::from_millis(self.last.load(Ordering::Relaxed)) + limit;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

/// One side of a tunnel.
struct TunnelIo<'h, S> {
    stream: S,
    activity: &'h LastActivity,
    /// The frames that were written, of a WebSocket.
    frames: Option<FrameScanner>,
}

impl<S: AsyncWrite + Unpin> TunnelIo<'_, S> {
    /// Sends a close frame, if the peer expects one now, and closes the stream.
    async fn close(&mut self, frame: &[u8]) {
        if self.frames.as_ref().is_some_and(FrameScanner::is_between_frames) {
            _ = self.stream.write_all(frame).await;
        }
        _ = self.stream.shutdown().await;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TunnelIo<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        self.activity.touch();
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TunnelIo<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.frames.iter_mut().for_each(|frames| frames.feed(&bytes[..written]));
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
