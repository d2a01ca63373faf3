//! What a connection passes before it speaks HTTP: its first byte, a PROXY protocol header, a TLS handshake; each in
//! its time.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::accepting::Stream;
use super::connection::{self, Hello, Quiet as _};
use super::proxy_protocol;
use super::tls::Tls;
use crate::config::DoorSettings;
use crate::metrics::{Metrics, Refused};
use crate::proxy::Desk;

/// One listener's.
#[derive(Clone, Default)]
pub struct Door {
    proxy_protocol: bool,
    /// `None`: without TLS.
    pub tls: Option<Arc<Tls>>,
}

impl Door {
    pub fn open(settings: &DoorSettings) -> io::Result<Self> {
        let tls = if settings.tls.is_empty() { None } else { Some(Tls::load(&settings.tls)?) };
        Ok(Self { proxy_protocol: settings.proxy_protocol, tls })
    }

    /// Lets a connection through to HTTP, and returns when it has ended.
    pub(super) async fn enter(
        self,
        mut stream: Stream,
        peer: Option<IpAddr>,
        desk: Arc<Desk>,
        metrics: Arc<Metrics>,
        stopping: watch::Receiver<bool>,
    ) {
        let patience = desk.worker().limits().header_timeout;
        let refuse = |by: Refused, error: &dyn Display| {
            metrics.connection_refused(by);
            tracing::debug!(%error, by = by.as_str(), "a connection was refused");
        };
        let mut hello = Hello { peer, is_tls: self.tls.is_some() };
        if self.proxy_protocol && !desk.worker().trusts(peer) {
            return refuse(Refused::ProxyProtocol, &"its peer is none of `trusted_proxies`");
        }
        if !speaks(&stream, patience, stopping.clone()).await {
            return;
        }
        if self.proxy_protocol {
            match within(patience, proxy_protocol::read(&mut stream)).await {
                Ok(client) => hello.peer = client.or(peer),
                Err(error) => return refuse(Refused::ProxyProtocol, &error),
            }
        }
        let Some(tls) = self.tls else { return connection::serve(stream, hello, desk, stopping).await };
        // In a box: connections without TLS have no room for it.
        let encrypted = Box::pin(async move {
            let stream = within(patience, tls.accept(stream)).await?;
            connection::serve(stream, hello, desk, stopping).await;
            Ok::<_, io::Error>(())
        });
        if let Err(error) = encrypted.await {
            refuse(Refused::Tls, &error);
        }
    }
}

async fn within<T>(patience: Duration, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(patience, step).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Waits for a connection's first byte: until then it costs no more than its socket.
async fn speaks(stream: &Stream, patience: Duration, mut stopping: watch::Receiver<bool>) -> bool {
    let goodbye = async {
        drop(stopping.wait_for(|stop| *stop).await);
        sleep(connection::FAREWELL).await;
    };
    tokio::select! {
        first = timeout(patience, stream.readable()) => matches!(first, Ok(Ok(()))),
        () = goodbye => false,
    }
}
