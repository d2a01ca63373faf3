//! `Upgrade` (RFC 9110 §7.8): once both sides agreed, bytes go both ways until one side ends, or neither says anything
//! for `limits.tunnel_idle`.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::UPGRADE;
use http::{HeaderMap, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::{Instant, sleep_until};

use super::body::Body;
use super::forwarding;
use super::intake::ClientHead;
use crate::upstream::UpstreamBody;

/// The client's side of a connection that may become a tunnel.
pub(super) fn client_side(head: &mut ClientHead) -> Option<OnUpgrade> {
    head.parts.extensions.remove::<OnUpgrade>()
}

/// Answers 101, and joins the two sides as soon as both have switched.
pub(super) fn open(
    client: OnUpgrade,
    mut response: Response<UpstreamBody>,
    idle: Duration,
) -> Response<Body> {
    let slot = response.body_mut().take_slot();
    let upstream = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        if let (Ok(client), Ok(upstream)) = (client.await, upstream.await) {
            let heard = Heard::now();
            let mut client = Side { stream: TokioIo::new(client), heard: &heard };
            let mut upstream = Side { stream: TokioIo::new(upstream), heard: &heard };
            tokio::select! {
                joined = copy_bidirectional(&mut client, &mut upstream) => {
                    tracing::debug!(?joined, "a tunnel ended");
                }
                () = heard.nothing_for(idle) => {
                    tracing::debug!("a tunnel was closed: nothing went through it for `limits.tunnel_idle`");
                }
            }
        }
        drop(slot);
    });
    let (parts, _) = response.into_parts();
    let mut switched = Response::new(Body::empty());
    *switched.status_mut() = parts.status;
    *switched.headers_mut() = end_to_end(parts.headers);
    switched
}

fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let protocol = headers.get(UPGRADE).cloned();
    forwarding::remove_hop_by_hop(&mut headers);
    if let Some(protocol) = protocol {
        forwarding::keep_upgrade(&mut headers, &protocol);
    }
    headers
}

/// When a byte came last, from either side.
struct Heard {
    opened: Instant,
    /// In milliseconds since then.
    last: AtomicU64,
}

impl Heard {
    fn now() -> Self {
        Self { opened: Instant::now(), last: AtomicU64::new(0) }
    }

    fn again(&self) {
        let since = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
    }

    async fn nothing_for(&self, limit: Duration) {
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
struct Side<'h, S> {
    stream: S,
    heard: &'h Heard,
}

impl<S: AsyncRead + Unpin> AsyncRead for Side<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        self.heard.again();
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Side<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
