//! A bound socket on one runtime: connections come out of it, whatever kind it is.

use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::server::TlsStream;

use super::Listener;
use super::connection::Quiet;
use crate::stall::Stall;

pub(super) enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection; writing to it fails if its client takes nothing for too long.
pub(super) struct Stream {
    io: Io,
    stall: Stall,
}

enum Io {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Accepting {
    pub fn of(listener: Listener) -> io::Result<Self> {
        match listener {
            Listener::Tcp(listener) => TcpListener::from_std(listener).map(Accepting::Tcp),
            Listener::Unix(listener) => UnixListener::from_std(listener).map(Accepting::Unix),
        }
    }

    /// The peer's address; `None` on a unix socket. `limit`: how long the client may take nothing of what is written.
    pub async fn accept(&self, limit: Duration) -> io::Result<(Stream, Option<IpAddr>)> {
        let (io, peer) = match self {
            Accepting::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Without it there is only some delay.
                let _ = stream.set_nodelay(true);
                (Io::Tcp(stream), Some(address.ip().to_canonical()))
            }
            Accepting::Unix(listener) => (Io::Unix(listener.accept().await?.0), None),
        };
        Ok((Stream { io, stall: Stall::new(limit) }, peer))
    }
}

impl Quiet for Stream {
    /// Resolves when the first byte can be read, or the peer has gone.
    async fn readable(&self) -> io::Result<()> {
        loop {
            let seen = match &self.io {
                Io::Tcp(stream) => {
                    stream.readable().await?;
                    stream.try_io(Interest::READABLE, || peek(SockRef::from(stream)))
                }
                Io::Unix(stream) => {
                    stream.readable().await?;
                    stream.try_io(Interest::READABLE, || peek(SockRef::from(stream)))
                }
            };
            // A new socket is said to be readable before anything came.
            if !seen.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return seen;
            }
        }
    }
}

/// Whether a byte, or the end, is there; it stays there.
fn peek(socket: SockRef<'_>) -> io::Result<()> {
    socket.peek(&mut [MaybeUninit::uninit()]).map(drop)
}

/// Idle, nothing of what was decrypted is left to be read: what comes next comes from the socket.
impl Quiet for TlsStream<Stream> {
    async fn readable(&self) -> io::Result<()> {
        self.get_ref().0.readable().await
    }
}

impl Stream {
    fn within_limit(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stall.over();
            return written;
        }
        ready!(self.stall.poll_too_long(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take its answer")))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        let written = match &mut stream.io {
            Io::Tcp(io) => Pin::new(io).poll_write(cx, buf),
            Io::Unix(io) => Pin::new(io).poll_write(cx, buf),
        };
        stream.within_limit(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        let written = match &mut stream.io {
            Io::Tcp(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Io::Unix(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        };
        stream.within_limit(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
