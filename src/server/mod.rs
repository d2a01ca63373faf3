//! LISTENS. Accepts, bounds and drains client connections; never looks inside a request.

mod acceptor;
mod activity;
mod certificate_expiry;
mod client_registry;
mod client_stream;
mod connection;
pub(crate) mod fd_limit;
pub mod framing;
mod half_close;
mod http2_streams;
mod linger;
pub mod listener;
mod proxy_protocol;
mod slow_reader;
pub mod tls;
mod transport;
mod watchdog;

use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use acceptor::{Acceptor, Socket};
pub(crate) use client_registry::ClientRegistry;
pub use listener::{Listener, Listeners};
pub(crate) use transport::ListenerTransport;

use crate::metrics::Metrics;
use crate::phase::{Phase, PhaseReceiver};
use crate::proxy::WorkerHandle;

/// The pause after a failed accept: most likely the process is out of file descriptors, and some come back.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// A connection that was idle for this long is closed when another one waits for its slot.
const EVICTABLE_IDLE: Duration = Duration::from_secs(1);

/// The interval at which a connection that waits for a slot looks for idle ones.
const EVICTION_INTERVAL: Duration = Duration::from_millis(250);

/// The last part of `limits.drain`, in which tunnels are told to close.
const MAX_TUNNEL_CLOSE: Duration = Duration::from_secs(1);

/// One listener on one thread.
#[derive(Clone)]
pub(crate) struct Server {
    pub transport: ListenerTransport,
    pub workers: Arc<WorkerHandle>,
    /// Bounds the connections of all threads together.
    pub slots: Arc<Semaphore>,
    pub clients: Arc<ClientRegistry>,
    pub metrics: Arc<Metrics>,
    /// The listening socket stays open after this process, and another one accepts what waits in its backlog.
    pub outlives_process: bool,
}

impl Server {
    /// Accepts connections until the process stops; then lets those in flight end within `limits.drain`.
    ///
    /// # Errors
    /// If the listener can't be used on this runtime.
    pub(crate) async fn serve(&self, listener: Listener, mut phase: PhaseReceiver) -> io::Result<()> {
        let acceptor = Acceptor::from_listener(listener)?;
        let connections = TaskTracker::new();
        let observer = phase.clone();
        loop {
            let accepted = tokio::select! {
                accepted = acceptor.accept() => accepted,
                () = phase.reached(Phase::Stopping) => break,
            };
            match accepted {
                Ok(accepted) => {
                    let slot = tokio::select! {
                        slot = self.acquire_slot() => slot,
                        () = phase.reached(Phase::Stopping) => None,
                    };
                    self.spawn_connection(&connections, slot, accepted, &observer);
                }
                Err(error) if is_per_connection_error(&error) => {}
                Err(error) => {
                    self.metrics.record_accept_failure();
                    tracing::warn!(%error, "accept failed");
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
        // Connections in the backlog are served, unless another process accepts them.
        if !self.outlives_process {
            while let Some(accepted) = accept_if_pending(&acceptor).await {
                self.spawn_connection(&connections, None, accepted, &observer);
            }
        }
        drop(acceptor);
        connections.close();
        let drain = self.workers.worker().limits().drain;
        let closing = MAX_TUNNEL_CLOSE.min(drain / 10);
        if timeout(drain - closing, connections.wait()).await.is_err() {
            self.workers.worker().close_tunnels();
            if timeout(closing, connections.wait()).await.is_err() {
                tracing::warn!("connections were closed at the end of `limits.drain`");
            }
        }
        Ok(())
    }

    /// Waits for a slot. When all are in use, idle connections make room.
    async fn acquire_slot(&self) -> Option<OwnedSemaphorePermit> {
        let mut acquiring = pin!(self.slots.clone().acquire_owned());
        loop {
            if let Ok(acquired) = timeout(Duration::ZERO, &mut acquiring).await {
                return acquired.ok();
            }
            self.clients.evict_idle(EVICTABLE_IDLE);
            if let Ok(acquired) = timeout(EVICTION_INTERVAL, &mut acquiring).await {
                return acquired.ok();
            }
        }
    }

    fn spawn_connection(
        &self,
        connections: &TaskTracker,
        slot: Option<OwnedSemaphorePermit>,
        (socket, peer): (Socket, Option<IpAddr>),
        phase: &PhaseReceiver,
    ) {
        let guard = ConnectionGuard::new(slot, self.metrics.clone());
        let (server, phase) = (self.clone(), phase.clone());
        connections.spawn(async move {
            server.transport.serve_connection(socket, peer, &server, phase).await;
            drop(guard);
        });
    }
}

/// Accepts a connection that is in the backlog already.
async fn accept_if_pending(acceptor: &Acceptor) -> Option<(Socket, Option<IpAddr>)> {
    let mut next = pin!(acceptor.accept());
    poll_fn(|cx| match next.as_mut().poll(cx) {
        Poll::Ready(accepted) => Poll::Ready(accepted.ok()),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// The client closed the connection before it was accepted. The listener has not failed.
fn is_per_connection_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Counts a connection while it is open.
struct ConnectionGuard {
    _slot: Option<OwnedSemaphorePermit>,
    metrics: Arc<Metrics>,
}

impl ConnectionGuard {
    fn new(slot: Option<OwnedSemaphorePermit>, metrics: Arc<Metrics>) -> Self {
        metrics.connection_opened();
        Self { _slot: slot, metrics }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.metrics.connection_closed();
    }
}
