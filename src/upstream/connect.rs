//! Connects to the upstream: TCP, TLS or a unix socket.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tower_service::Service as _;

use super::protocols::Protocols;
use super::tls::UpstreamTls;
use crate::config::{UpstreamAddress, UpstreamSettings};

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub(super) struct Connector {
    target: ConnectTarget,
    timeout: Duration,
    pub header_limits: HeaderLimits,
}

/// Limits on the header section of a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeaderLimits {
    pub count: usize,
    pub bytes: usize,
}

#[derive(Clone)]
enum ConnectTarget {
    Tcp { origin: Uri, address: Option<SocketAddr>, tls: Option<UpstreamTls> },
    Unix(PathBuf),
}

impl Connector {
    /// # Errors
    /// If the upstream wants TLS and its certificates can't be read.
    pub(super) fn new(settings: &UpstreamSettings, url: &UpstreamAddress, origin: Uri) -> io::Result<Self> {
        let target = match url {
            UpstreamAddress::Unix(path) => ConnectTarget::Unix(path.clone()),
            UpstreamAddress::Http { .. } => ConnectTarget::Tcp { origin, address: None, tls: None },
            UpstreamAddress::Https { authority } => {
                let tls = UpstreamTls::new(&settings.tls, authority)?;
                ConnectTarget::Tcp { origin, address: None, tls: Some(tls) }
            }
        };
        let header_limits = HeaderLimits { count: settings.header_count, bytes: settings.header_bytes };
        Ok(Self { target, timeout: settings.connect_timeout, header_limits })
    }

    /// The same, to this address of the name, or to the one that it has at the time.
    pub(super) fn to_address(&self, to: Option<SocketAddr>) -> Self {
        let mut target = self.target.clone();
        if let ConnectTarget::Tcp { address, .. } = &mut target {
            *address = to;
        }
        Self { target, timeout: self.timeout, header_limits: self.header_limits }
    }

    /// Connects, and returns the version of HTTP that the connection speaks.
    pub(super) async fn connect(
        &self,
        protocols: Protocols,
    ) -> Result<(TokioIo<UpstreamStream>, Protocols), BoxError> {
        match tokio::time::timeout(self.timeout, self.connect_within_timeout(protocols)).await {
            Ok(connected) => connected,
            Err(_) => Err(format!("no connection within {:?} (connect_timeout)", self.timeout).into()),
        }
    }

    async fn connect_within_timeout(
        &self,
        protocols: Protocols,
    ) -> Result<(TokioIo<UpstreamStream>, Protocols), BoxError> {
        let (io, protocol) = match &self.target {
            ConnectTarget::Unix(path) => {
                (Either::Right(Either::Right(UnixStream::connect(path).await?)), protocols)
            }
            ConnectTarget::Tcp { origin, address, tls } => {
                let stream = match address {
                    Some(address) => {
                        let stream = TcpStream::connect(address).await?;
                        stream.set_nodelay(true)?;
                        stream
                    }
                    None => self.connect_by_name(origin).await?,
                };
                match tls {
                    None => (Either::Left(stream), protocols),
                    Some(tls) => {
                        let stream = tls.connect(stream, protocols).await?;
                        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        let protocol = if is_http2 { Protocols::Http2 } else { Protocols::Http1 };
                        (Either::Right(Either::Left(Box::new(stream))), protocol)
                    }
                }
            }
        };
        Ok((
            TokioIo::new(UpstreamStream { io, stats: ConnectionStats::default(), refuses_writes: false }),
            protocol,
        ))
    }

    /// Connects to the first of the name's addresses that accepts.
    async fn connect_by_name(&self, origin: &Uri) -> Result<TcpStream, BoxError> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(self.timeout));
        Ok(tcp.call(origin.clone()).await?.into_inner())
    }
}

/// Tells a connection that was closed while idle from one that was closed in the middle of a response.
#[derive(Clone, Default)]
pub(super) struct ConnectionStats(Arc<ConnectionFlags>);

#[derive(Default)]
struct ConnectionFlags {
    /// A response arrived before the last request was written.
    served: AtomicBool,
    /// A byte arrived since the last write.
    answering: AtomicBool,
}

impl ConnectionStats {
    /// A response had arrived, and nothing arrived after the last request was written.
    pub(super) fn closed_while_idle(&self) -> bool {
        self.0.served.load(Ordering::Acquire) && !self.0.answering.load(Ordering::Acquire)
    }

    fn record_write(&self) {
        if self.0.answering.swap(false, Ordering::AcqRel) {
            self.0.served.store(true, Ordering::Release);
        }
    }

    fn record_read(&self) {
        self.0.answering.store(true, Ordering::Release);
    }
}

/// A connection to the upstream that records its reads and writes.
pub(super) struct UpstreamStream {
    io: Either<TcpStream, Either<Box<TlsStream<TcpStream>>, UnixStream>>,
    stats: ConnectionStats,
    /// The upstream accepts no more of the request. Further bytes are dropped, so that a response which came before is
    /// still read.
    refuses_writes: bool,
}

impl UpstreamStream {
    fn without_reset(&mut self, polled: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Err(error)) if is_reset(&error) => {
                self.refuses_writes = true;
                Poll::Ready(Ok(length))
            }
            polled => polled,
        }
    }

    pub(super) fn stats(&self) -> ConnectionStats {
        self.stats.clone()
    }
}

fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.stats.record_read();
        }
        polled
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.refuses_writes {
            return Poll::Ready(Ok(buf.len()));
        }
        self.stats.record_write();
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.without_reset(polled, buf.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if self.refuses_writes {
            return Poll::Ready(Ok(length));
        }
        self.stats.record_write();
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.without_reset(polled, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.refuses_writes {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
