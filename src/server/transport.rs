//! The steps of a connection before HTTP, each bounded in time: first byte, PROXY protocol header, TLS handshake.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::{sleep, timeout};

use super::Server;
use super::acceptor::Socket;
use super::activity::ConnectionActivity;
use super::client_stream::Transport as _;
use super::connection::{self, ConnectionInfo};
use super::proxy_protocol;
use super::tls::ListenerTls;
use crate::config::ListenerSettings;
use crate::metrics::RefusedBy;
use crate::phase::{Phase, PhaseReceiver};

const TOO_MANY_CONNECTIONS: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n\
    Content-Type: text/plain\r\nContent-Length: 29\r\n\r\ntoo many connections of yours";

/// The PROXY protocol and TLS settings of one listener.
#[derive(Clone, Default)]
pub(crate) struct ListenerTransport {
    proxy_protocol: bool,
    /// `None`: plain text.
    pub tls: Option<Arc<ListenerTls>>,
}

impl ListenerTransport {
    /// # Errors
    /// If a certificate can't be read.
    pub(crate) fn from_settings(settings: &ListenerSettings) -> io::Result<Self> {
        let tls = if settings.tls.is_empty() { None } else { Some(ListenerTls::load(&settings.tls)?) };
        Ok(Self { proxy_protocol: settings.proxy_protocol, tls })
    }

    /// Prepares a connection for HTTP, and serves it to its end.
    pub(super) async fn serve_connection(
        &self,
        mut socket: Socket,
        peer: Option<IpAddr>,
        server: &Server,
        phase: PhaseReceiver,
    ) {
        let workers = server.workers.clone();
        let (limit, max_connections) = {
            let worker = workers.worker();
            (worker.limits().header_timeout, worker.limits().max_connections_per_client())
        };
        let refuse = |by: RefusedBy, error: &dyn Display| {
            server.metrics.record_connection_refusal(by);
            tracing::debug!(%error, by = by.as_str(), "connection refused");
        };
        let is_trusted = workers.worker().trusts(peer);
        if self.proxy_protocol && !is_trusted {
            return refuse(RefusedBy::ProxyProtocol, &"the peer is not in `trusted_proxies`");
        }
        let activity = ConnectionActivity::new();
        let register = |client: Option<IpAddr>| {
            // A trusted proxy carries the connections of its clients, unless it names them.
            let client = client.filter(|client| !is_trusted || Some(*client) != peer);
            server.clients.register(client, max_connections, activity.clone())
        };
        let too_many = &"the client has `limits.connections_per_client` connections";
        let mut info = ConnectionInfo { peer, is_tls: self.tls.is_some() };
        let mut registration = if self.proxy_protocol { None } else { register(peer) };
        if registration.is_none() && !self.proxy_protocol {
            if self.tls.is_none() {
                _ = with_timeout(limit, socket.write_all(TOO_MANY_CONNECTIONS)).await;
            }
            return refuse(RefusedBy::ClientLimit, too_many);
        }
        if !wait_for_first_byte(&socket, limit, &activity, phase.clone()).await {
            return;
        }
        if self.proxy_protocol {
            match with_timeout(limit, proxy_protocol::read_header(&mut socket)).await {
                Ok(client) => info.peer = client.or(peer),
                Err(error) => return refuse(RefusedBy::ProxyProtocol, &error),
            }
            registration = register(info.peer);
            if registration.is_none() {
                return refuse(RefusedBy::ClientLimit, too_many);
            }
        }
        let Some(tls) = &self.tls else {
            return connection::serve(socket, info, activity, workers, phase).await;
        };
        // Boxed, so that a plain connection's task has no room for it.
        let encrypted = Box::pin(async {
            let stream = tokio::select! {
                accepted = with_timeout(limit, tls.accept(socket)) => accepted?,
                () = activity.evicted() => return Ok(()),
            };
            connection::serve(stream, info, activity.clone(), workers, phase).await;
            Ok::<_, io::Error>(())
        });
        if let Err(error) = encrypted.await {
            refuse(RefusedBy::Tls, &error);
        }
    }
}

async fn with_timeout<T>(limit: Duration, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, step).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Waits for the first byte before anything else is allocated for the connection; `false` if none comes in time.
async fn wait_for_first_byte(
    socket: &Socket,
    limit: Duration,
    activity: &ConnectionActivity,
    mut phase: PhaseReceiver,
) -> bool {
    let drained = async {
        phase.reached(Phase::Draining).await;
        sleep(connection::IDLE_DRAIN_GRACE).await;
    };
    tokio::select! {
        first = timeout(limit, socket.readable()) => matches!(first, Ok(Ok(()))),
        () = activity.evicted() => false,
        () = drained => false,
    }
}
