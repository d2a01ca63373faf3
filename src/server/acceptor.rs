//! A bound listener on one runtime, and the sockets that it accepts.

use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::Listener;
use super::client_stream::Transport;

pub(super) enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Acceptor {
    pub(super) fn from_listener(listener: Listener) -> io::Result<Self> {
        match listener {
            Listener::Tcp(listener) => TcpListener::from_std(listener).map(Acceptor::Tcp),
            Listener::Unix(listener) => UnixListener::from_std(listener).map(Acceptor::Unix),
        }
    }

    /// Accepts a connection, with the peer's address; `None` on a unix socket.
    pub(super) async fn accept(&self) -> io::Result<(Socket, Option<IpAddr>)> {
        let (io, peer) = match self {
            Acceptor::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Failure only costs latency.
                let _ = stream.set_nodelay(true);
                (Either::Left(stream), Some(address.ip().to_canonical()))
            }
            Acceptor::Unix(listener) => (Either::Right(listener.accept().await?.0), None),
        };
        Ok((Socket { io, written: 0 }, peer))
    }
}

/// A client's socket, which counts the bytes that it takes.
pub(super) struct Socket {
    io: Either<TcpStream, UnixStream>,
    written: u64,
}

impl Socket {
    fn count(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let written = ready!(polled)?;
        self.written += written as u64;
        Poll::Ready(Ok(written))
    }
}

impl Transport for Socket {
    async fn readable(&self) -> io::Result<()> {
        loop {
            let peeked = match &self.io {
                Either::Left(stream) => {
                    stream.readable().await?;
                    stream.try_io(Interest::READABLE, || peek(SockRef::from(stream)))
                }
                Either::Right(stream) => {
                    stream.readable().await?;
                    stream.try_io(Interest::READABLE, || peek(SockRef::from(stream)))
                }
            };
            // tokio reports a new socket readable before anything arrived.
            if !peeked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return peeked;
            }
        }
    }

    fn bytes_written(&self) -> u64 {
        self.written
    }
}

impl Transport for TlsStream<Socket> {
    /// Between requests rustls has no buffered plaintext, so socket readability is sufficient.
    async fn readable(&self) -> io::Result<()> {
        self.get_ref().0.readable().await
    }

    fn bytes_written(&self) -> u64 {
        self.get_ref().0.written
    }
}

/// Succeeds when a byte or the end of the stream is there, and leaves it there.
fn peek(socket: SockRef<'_>) -> io::Result<()> {
    socket.peek(&mut [MaybeUninit::uninit()]).map(drop)
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.count(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.count(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
