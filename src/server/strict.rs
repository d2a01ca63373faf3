//! The bytes of a connection on their way to the parser. A request with two readings becomes one that the parser
//! refuses; and the [`Pace`] is told what comes and goes.

#[cfg(test)]
mod reading_tests;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framing::{Fault, Scanner};
use super::pace::Pace;

/// No head has it: the parser answers 400, and ends the connection after what came before.
const REFUSED: &[u8] = b"\0\0\0\0\0\0\0\0\r\n\r\n";

pub struct Strict<S> {
    stream: S,
    scanner: Scanner,
    pace: Arc<Pace>,
    /// What is left to be said of a request that is refused.
    refused: Option<&'static [u8]>,
}

impl<S> Strict<S> {
    pub fn new(stream: S, header_bytes: usize, pace: Arc<Pace>) -> Self {
        Self { stream, scanner: Scanner::new(header_bytes), pace, refused: None }
    }

    /// Says as much of the refusal as there is room for.
    fn refuse(&mut self, refusal: &'static [u8], buf: &mut ReadBuf<'_>) {
        let (now, later) = refusal.split_at(refusal.len().min(buf.remaining()));
        buf.put_slice(now);
        self.refused = Some(later);
    }

    /// Whoever waits for its next byte waits for this.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Lets on what came, as far as it has one reading.
    fn judge(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        if self.pace.is_tunnel() && !self.scanner.is_opaque() {
            self.scanner.become_opaque();
        }
        match self.scanner.feed(&buf.filled()[before..]) {
            Ok(()) => {
                self.pace.within_head(self.scanner.is_within_head());
                if self.scanner.is_http2() {
                    self.pace.speaks_http2();
                }
            }
            Err(Fault::Head { begins }) => {
                self.pace.within_head(false);
                // There is room: at least one byte is taken away.
                buf.set_filled(before + begins);
                self.refuse(REFUSED, buf);
            }
            Err(Fault::Body) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the content's framing is broken"));
            }
            Err(Fault::Flood) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "most requests are taken back"));
            }
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(refusal) = self.refused {
            self.refuse(refusal, buf);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        Poll::Ready(self.judge(buf, before))
    }
}

impl<S: AsyncWrite + Unpin> Strict<S> {
    fn wrote<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.pace.stuck(written.is_pending());
        written
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.wrote(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
