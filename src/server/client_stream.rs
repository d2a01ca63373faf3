//! A client's connection as the HTTP parser reads and writes it.
//!
//! Reads pass the framing validator, so that a request with two readings becomes one that the parser refuses, and bytes
//! of a target that it does not take are percent-encoded. Writes are bounded in time, and carry the interim responses
//! that hyper's server does not send. Dropping the stream with the parser that owns it gives its state to the
//! [`ReclaimHandle`]: an idle connection keeps no parser.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::activity::ConnectionActivity;
use super::framing::{FramingFault, FramingScanner};
use super::half_close::ClientEnd;
use super::slow_reader::SlowReaderTimeout;
use crate::config::Limits;
use crate::memory_budget::{ClientMemory, HEAD_WITHOUT_ROOM_BYTES, Reservation};
use crate::progress_timeout::ProgressTimeout;
use crate::proxy::InterimQueue;
use crate::raw_target::percent_encode;

/// The parser answers 400 to these bytes, and closes the connection after the responses before it.
const UNPARSABLE_HEAD: &[u8] = b"\0\0\0\0\0\0\0\0\r\n\r\n";

/// The end of a head whose request line is too long. Two `Host` fields are refused whatever the target is (RFC 9112
/// §3.2); where the target itself is too long, the refusal is 414.
const END_OF_LONG_LINE: &[u8] = b" HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n";

/// The bytes of a connection, encrypted or not.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Resolves when a byte can be read, or the peer has closed; reads nothing. Called only between requests.
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Bytes that the socket has taken since it was opened.
    fn bytes_written(&self) -> u64;
}

pub(super) struct ClientStream<S> {
    /// `None` only while it is dropped.
    state: Option<Box<ClientStreamState<S>>>,
    slot: ReclaimSlot<S>,
}

type ReclaimSlot<S> = Arc<Reclaimed<S>>;

/// The place that a dropped stream goes to.
struct Reclaimed<S> {
    state: Mutex<Option<Box<ClientStreamState<S>>>>,
    arrived: Notify,
}

struct ClientStreamState<S> {
    transport: S,
    scanner: FramingScanner,
    memory: ClientMemory,
    /// Counts a head that has not arrived whole, here and in the parser.
    head: Option<Reservation>,
    activity: Arc<ConnectionActivity>,
    write_timeout: SlowReaderTimeout,
    /// The transport's `bytes_written` at the last write.
    written: u64,
    /// The next input of the parser: validated bytes that had no room when they were read.
    encoded: Bytes,
    /// The input after `encoded`.
    refusal: Option<ParserRefusal>,
    /// The client has closed its sending side, and the parser is not told.
    end: Option<ClientEnd>,
    /// `limits.half_close`: a client that has closed its sending side cancels nothing.
    half_close: bool,
    interims: InterimQueue,
    /// The rest of an interim response whose first byte is written. It goes before anything else.
    partial: Bytes,
}

/// The input that the parser gets in place of the rest of the connection.
enum ParserRefusal {
    /// The rest of a head that it refuses, and then nothing: an end would make it drop the response.
    Head(&'static [u8]),
    /// One error, of the content that it reads; the response to its request goes out.
    Content,
}

/// Takes a stream back from the parser that dropped it.
pub(super) struct ReclaimHandle<S>(ReclaimSlot<S>);

impl<S> ReclaimHandle<S> {
    /// Returns the stream, or `None` while it is in use.
    pub(super) fn reclaim(self) -> Option<ClientStream<S>> {
        let state = self.0.state.lock().take();
        state.map(|state| ClientStream { state: Some(state), slot: self.0 })
    }

    /// Waits until the stream is dropped, by a tunnel or by its parser.
    pub(super) async fn wait(&self) {
        while self.0.state.lock().is_none() {
            self.0.arrived.notified().await;
        }
    }
}

impl<S> Drop for ClientStream<S> {
    fn drop(&mut self) {
        *self.slot.state.lock() = self.state.take();
        self.slot.arrived.notify_one();
    }
}

impl<S> ClientStream<S> {
    pub(super) fn new(
        transport: S,
        limits: &Limits,
        activity: Arc<ConnectionActivity>,
        interims: InterimQueue,
        memory: ClientMemory,
    ) -> Self {
        let min_rate = ProgressTimeout::with_min_rate(limits.body_timeout, limits.min_rate);
        let state = ClientStreamState {
            transport,
            scanner: FramingScanner::new(limits.header_bytes),
            write_timeout: SlowReaderTimeout::new(min_rate, memory.budget().clone()),
            memory,
            head: None,
            activity,
            written: 0,
            encoded: Bytes::new(),
            refusal: None,
            end: None,
            half_close: limits.half_close,
            interims,
            partial: Bytes::new(),
        };
        let slot = Reclaimed { state: Mutex::new(None), arrived: Notify::new() };
        Self { state: Some(Box::new(state)), slot: Arc::new(slot) }
    }

    pub(super) fn reclaim_handle(&self) -> ReclaimHandle<S> {
        ReclaimHandle(self.slot.clone())
    }

    pub(super) fn transport(&self) -> Option<&S> {
        self.state.as_ref().map(|state| &state.transport)
    }

    pub(super) fn into_transport(mut self) -> Option<S> {
        self.state.take().map(|state| state.transport)
    }

    fn state(self: Pin<&mut Self>) -> io::Result<&mut ClientStreamState<S>> {
        self.get_mut().state.as_deref_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<S> ClientStreamState<S> {
    /// Gives the parser as much of the refusal as `buf` has room for.
    fn refuse(&mut self, refusal: &'static [u8], buf: &mut ReadBuf<'_>) {
        let room = if self.encoded.is_empty() { buf.remaining() } else { 0 };
        let (now, later) = refusal.split_at(refusal.len().min(room));
        buf.put_slice(now);
        self.refusal = Some(ParserRefusal::Head(later));
    }

    /// The parser reads nothing after this error.
    fn refuse_content(&mut self) -> io::Error {
        self.refusal = Some(ParserRefusal::Head(&[]));
        io::Error::new(io::ErrorKind::InvalidData, "malformed chunked framing in a request")
    }

    /// Validates what was read after the first `before` bytes of `buf`, and withholds a head that is ambiguous.
    fn validate(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        if self.activity.is_tunnel() && !self.scanner.is_opaque() {
            self.scanner.become_opaque();
        }
        let fed = self.scanner.feed(&buf.filled()[before..]);
        if let Err(
            FramingFault::Head { begins: valid }
            | FramingFault::RequestLine { ends: valid }
            | FramingFault::Body { ends: valid },
        ) = fed
        {
            buf.set_filled(before + valid);
        }
        self.activity.set_within_content(self.scanner.request_within_body().filter(|_| fed.is_ok()));
        if !self.scanner.raw_bytes().is_empty() {
            self.edit_request_lines(buf, before);
        }
        match fed {
            Ok(()) => {
                self.activity.set_within_head(self.scanner.is_within_head());
                if self.scanner.is_http2() {
                    self.activity.set_http2();
                }
                self.count_head()
            }
            Err(FramingFault::Head { .. }) => {
                self.activity.set_within_head(false);
                // Without encoded bytes the buffer has room, since at least one byte is withheld.
                self.refuse(UNPARSABLE_HEAD, buf);
                Ok(())
            }
            Err(FramingFault::RequestLine { .. }) => {
                self.activity.set_within_head(false);
                self.activity.set_unread();
                self.refuse(END_OF_LONG_LINE, buf);
                Ok(())
            }
            Err(FramingFault::Body { .. }) if buf.filled().len() == before => Err(self.refuse_content()),
            Err(FramingFault::Body { .. }) => {
                self.refusal = Some(ParserRefusal::Content);
                Ok(())
            }
            Err(FramingFault::Flood) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the client resets most of its streams, or sends empty frames",
            )),
        }
    }

    /// Reads later minor versions as 1, and percent-encodes the raw bytes of the targets, in what was read after the first
    /// `before` bytes of `buf`. At most three times as many bytes as were read wait for the parser.
    fn edit_request_lines(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let input = &mut buf.filled_mut()[before..];
        let is_minor = |at: &usize| input.get(*at).is_some_and(u8::is_ascii_digit);
        let (minors, raw): (Vec<usize>, Vec<usize>) =
            self.scanner.raw_bytes().iter().copied().partition(is_minor);
        minors.into_iter().for_each(|at| input[at] = b'1');
        if raw.is_empty() {
            return;
        }
        let encoded = percent_encode(&buf.filled()[before..], raw);
        buf.set_filled(before);
        self.encoded = encoded.into();
        self.give_encoded(buf);
    }

    fn give_encoded(&mut self, buf: &mut ReadBuf<'_>) {
        let now = self.encoded.len().min(buf.remaining());
        buf.put_slice(&self.encoded.split_to(now));
    }
}

impl<S> ClientStreamState<S> {
    /// Counts the HTTP/1.1 head that has arrived in part, if there is one. Fails if it is long, and there is no room for it.
    fn count_head(&mut self) -> io::Result<()> {
        // The parser has it, too.
        let bytes = (2 * self.scanner.partial_head_bytes() + self.encoded.len()) as u64;
        if bytes == 0 {
            self.head = None;
            return Ok(());
        }
        // It may follow another one whose end came in the same read.
        let counted = self.head.take_if(|head| head.bytes() <= bytes);
        let mut head = counted.unwrap_or_else(|| self.memory.reserve());
        let more = bytes - head.bytes();
        if bytes > 2 * HEAD_WITHOUT_ROOM_BYTES && !self.memory.has_room_for(more) {
            return Err(io::Error::other("no memory for another long request head that arrives in parts"));
        }
        head.grow(more);
        self.head = Some(head);
        Ok(())
    }
}

impl<S: Transport> ClientStreamState<S> {
    /// Withholds the client's end from the parser while a request is answered. The end of a content that is not whole, and
    /// that of an HTTP/2 connection, is told at once.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_whole = !self.scanner.is_http2() && self.scanner.request_within_body().is_none();
        if is_whole {
            if self.half_close {
                self.activity.set_cancelled_by_end(false);
            }
            let sent = self.transport.bytes_written();
            let end = self.end.get_or_insert_with(|| ClientEnd::new(sent));
            ready!(end.poll_told(cx, &self.activity, sent));
        }
        Poll::Ready(Ok(()))
    }

    /// Fails a write once the client has read too little during `limits.body_timeout` of waiting.
    fn bound_write<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.activity.set_write_blocked(polled.is_pending());
        let written = self.transport.bytes_written();
        if written != self.written {
            self.write_timeout.record(written - self.written);
            self.written = written;
        }
        if polled.is_pending() {
            ready!(self.write_timeout.poll_expired(cx));
            let error = "the client reads a response more slowly than `limits.min_rate` allows";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, error)));
        }
        polled
    }

    fn poll_write_partial(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.partial.is_empty() {
            let polled = Pin::new(&mut self.transport).poll_write(cx, &self.partial);
            match ready!(self.bound_write(cx, polled))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.partial.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Transport> AsyncRead for ClientStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let state = self.state()?;
        if !state.encoded.is_empty() {
            state.give_encoded(buf);
            return Poll::Ready(state.count_head());
        }
        match state.refusal {
            Some(ParserRefusal::Head([])) => return Poll::Pending,
            Some(ParserRefusal::Head(rest)) => {
                state.refuse(rest, buf);
                return Poll::Ready(Ok(()));
            }
            Some(ParserRefusal::Content) => return Poll::Ready(Err(state.refuse_content())),
            None => {}
        }
        if state.end.is_some() {
            return state.poll_end(cx);
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut state.transport).poll_read(cx, buf))?;
        if buf.filled().len() == before && buf.remaining() > 0 {
            return state.poll_end(cx);
        }
        Poll::Ready(state.validate(buf, before))
    }
}

impl<S: Transport> AsyncWrite for ClientStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let state = self.state()?;
        ready!(state.poll_write_partial(cx))?;
        let polled = Pin::new(&mut state.transport).poll_write(cx, buf);
        state.bound_write(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let state = self.state()?;
        ready!(state.poll_write_partial(cx))?;
        let polled = Pin::new(&mut state.transport).poll_write_vectored(cx, bufs);
        state.bound_write(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport().is_some_and(AsyncWrite::is_write_vectored)
    }

    /// hyper flushes at the end of each turn, when it has written all that it has: interim responses fit there.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = self.state()?;
        loop {
            ready!(state.poll_write_partial(cx))?;
            match state.interims.next() {
                Some(next) => state.partial = next,
                None => break,
            }
        }
        let polled = Pin::new(&mut state.transport).poll_flush(cx);
        let polled = state.bound_write(cx, polled);
        if polled.is_ready() {
            // Nothing is left that the client would have to read.
            state.write_timeout.reset();
        }
        polled
    }

    /// Never fails: the parser would report this failure in place of the head that it could not read.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.state()?.transport).poll_shutdown(cx).map(|_| Ok(()))
    }
}
