//! Accepts connections for the admin endpoints, bounded in number and time, until told to stop.

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

use super::{AdminState, Peer, answer};
use crate::server::Listener;

/// Few speak to this listener; more than these wait until one of them has gone.
const MAX_CONNECTIONS: usize = 256;

/// For a request's header section, and for a connection that asks nothing.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

const MAX_HEADER_BYTES: usize = 32 * 1024;

/// What is under way when told to stop has so long.
const DRAIN: Duration = Duration::from_secs(5);

/// When accepting fails, the process is most likely out of file descriptors; some come back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, then lets requests under way end.
pub async fn serve(
    listener: Listener,
    state: Arc<ArcSwap<AdminState>>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = Accepting::of(listener)?;
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut reserve = Reserve::take();
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
                tracing::warn!(%error, "the admin listener could not accept a connection");
                if !reserve.give_up() {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                continue;
            }
        };
        reserve.take_again();
        let state = state.clone();
        let service = service_fn(move |request| {
            let state = state.clone();
            async move { Ok::<_, Infallible>(answer(&state.load_full(), peer, request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection of the admin listener ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests to the admin listener were cut off");
    }
    Ok(())
}

/// A file descriptor kept back for an operator, for when clients have taken all others.
struct Reserve(Option<File>);

impl Reserve {
    fn take() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// Whether there was one.
    fn give_up(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// If there is one to be had.
    fn take_again(&mut self) {
        if self.0.is_none() {
            *self = Self::take();
        }
    }
}

enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Accepting {
    fn of(listener: Listener) -> io::Result<Self> {
        match listener {
            Listener::Tcp(listener) => TcpListener::from_std(listener).map(Accepting::Tcp),
            Listener::Unix(listener) => UnixListener::from_std(listener).map(Accepting::Unix),
        }
    }

    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Peer)> {
        match self {
            Accepting::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Box::new(stream), Peer::Tcp(address)))
            }
            Accepting::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), Peer::Unix))
            }
        }
    }
}
