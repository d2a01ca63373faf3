//! Accept loop of the admin listener, bounded in connections and time.

use std::convert::Infallible;
use std::fs::File;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::{AdminState, Peer, handle};
use crate::server::Listener;

/// Maximum number of connections; more wait in the listen queue.
const MAX_CONNECTIONS: usize = 256;

/// Timeout for a request head, and for an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

const MAX_HEADER_BYTES: usize = 32 * 1024;

/// Grace period for requests in flight at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Delay before accepting again after a failure, which is mostly a lack of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Serves until `shutdown` resolves, then drains.
pub(crate) async fn serve(
    listener: Listener,
    state: Arc<ArcSwap<AdminState>>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = AdminListener::from_listener(listener)?;
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut reserve = ReservedFd::acquire();
    tokio::pin!(shutdown);
    loop {
        let next = async {
            let permit = connections.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = next => accepted,
            () = &mut shutdown => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "admin listener failed to accept a connection");
                if !reserve.release() {
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
                continue;
            }
        };
        reserve.reacquire();
        let state = state.clone();
        let service = service_fn(move |request| {
            let state = state.clone();
            async move { Ok::<_, Infallible>(handle(&state.load_full(), peer, request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "admin connection failed");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("admin requests were cut off at shutdown");
    }
    Ok(())
}

/// A file descriptor held in reserve, so that operators get in when clients have taken all others.
struct ReservedFd(Option<File>);

impl ReservedFd {
    fn acquire() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// Returns whether there was one to release.
    fn release(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// Opens it again if possible.
    fn reacquire(&mut self) {
        if self.0.is_none() {
            *self = Self::acquire();
        }
    }
}

enum AdminListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

trait AdminStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> AdminStream for S {}

impl AdminListener {
    fn from_listener(listener: Listener) -> io::Result<Self> {
        match listener {
            Listener::Tcp(listener) => TcpListener::from_std(listener).map(AdminListener::Tcp),
            Listener::Unix(listener) => UnixListener::from_std(listener).map(AdminListener::Unix),
        }
    }

    async fn accept(&self) -> io::Result<(Box<dyn AdminStream>, Peer)> {
        match self {
            AdminListener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Box::new(stream), Peer::Tcp(address)))
            }
            AdminListener::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), Peer::Unix))
            }
        }
    }
}
