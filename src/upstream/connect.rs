//! How a connection to the upstream is made: TCP, TLS or a unix socket.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tower_service::Service;

use crate::config::{UpstreamAddress, UpstreamSettings};

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone)]
pub struct Connector {
    way: Way,
    timeout: Duration,
}

#[derive(Clone)]
enum Way {
    Tcp(HttpsConnector<HttpConnector>),
    Unix(PathBuf),
}

impl Connector {
    pub fn new(settings: &UpstreamSettings) -> io::Result<Self> {
        let way = match &settings.address {
            UpstreamAddress::Unix(path) => Way::Unix(path.clone()),
            UpstreamAddress::Http { .. } => {
                Way::Tcp(tcp(settings, HttpsConnectorBuilder::new().with_tls_config(no_roots())))
            }
            UpstreamAddress::Https { .. } => {
                Way::Tcp(tcp(settings, HttpsConnectorBuilder::new().with_native_roots()?))
            }
        };
        Ok(Self { way, timeout: settings.connect_timeout })
    }
}

fn tcp(
    settings: &UpstreamSettings,
    builder: HttpsConnectorBuilder<hyper_rustls::builderstates::WantsSchemes>,
) -> HttpsConnector<HttpConnector> {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.enforce_http(false);
    http.set_connect_timeout(Some(settings.connect_timeout));
    let builder = builder.https_or_http();
    if settings.http2 {
        builder.enable_http2().wrap_connector(http)
    } else {
        builder.enable_http1().wrap_connector(http)
    }
}

/// For a plain upstream: reading the system's certificates would cost start-up time for nothing.
fn no_roots() -> rustls::ClientConfig {
    rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (way, limit) = (self.way.clone(), self.timeout);
        Box::pin(async move {
            let io = match way {
                Way::Tcp(mut connector) => Io::Tcp(TokioIo::new(within(limit, connector.call(uri)).await?)),
                Way::Unix(path) => Io::Unix(within(limit, UnixStream::connect(path)).await?),
            };
            Ok(TokioIo::new(Stream { io, wire: Wire::default() }))
        })
    }
}

async fn within<T, E: Into<BoxError>>(
    limit: Duration,
    connecting: impl Future<Output = Result<T, E>>,
) -> Result<T, BoxError> {
    match tokio::time::timeout(limit, connecting).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err("connecting took too long".into()),
    }
}

/// What was seen on a connection: enough to tell "closed while idle" from "closed in the middle of an answer".
#[derive(Clone, Default)]
pub struct Wire(Arc<Seen>);

#[derive(Default)]
struct Seen {
    /// An answer came over it before the last request.
    served: AtomicBool,
    /// A byte came since the last write.
    answering: AtomicBool,
}

impl Wire {
    pub fn of(connected: &Connected) -> Option<Wire> {
        let mut extensions = http::Extensions::new();
        connected.get_extras(&mut extensions);
        extensions.remove()
    }

    /// It had served, and nothing came after the last request was written.
    pub fn died_idle(&self) -> bool {
        self.0.served.load(Ordering::Acquire) && !self.0.answering.load(Ordering::Acquire)
    }

    fn wrote(&self) {
        if self.0.answering.swap(false, Ordering::AcqRel) {
            self.0.served.store(true, Ordering::Release);
        }
    }

    fn read(&self) {
        self.0.answering.store(true, Ordering::Release);
    }
}

/// A connection to the upstream that keeps an eye on itself.
pub struct Stream {
    io: Io,
    wire: Wire,
}

#[expect(clippy::large_enum_variant, reason = "nearly every connection is the large one")]
enum Io {
    Tcp(TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>),
    Unix(UnixStream),
}

/// Both kinds read and write alike.
macro_rules! on_io {
    ($self:ident, $method:ident, $($argument:expr),*) => {
        match &mut $self.io {
            Io::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Io::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl Stream {
    pub fn wire(&self) -> Wire {
        self.wire.clone()
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = match &self.io {
            Io::Tcp(stream) => stream.inner().connected(),
            Io::Unix(_) => Connected::new(),
        };
        connected.extra(self.wire.clone())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = on_io!(self, poll_read, cx, buf);
        if buf.filled().len() > before {
            self.wire.read();
        }
        result
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.wire.wrote();
        on_io!(self, poll_write, cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_io!(self, poll_flush, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_io!(self, poll_shutdown, cx)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Tcp(stream) => stream.is_write_vectored(),
            Io::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.wire.wrote();
        on_io!(self, poll_write_vectored, cx, bufs)
    }
}
