//! Scripted answers of the upstream: right or wrong, whole or partial, at once or bit by bit.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Received;

#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) content: Content,
    pub(super) trailers: Vec<(String, String)>,
    pub(super) end: End,
    /// Whether the request wants no content: HEAD, or a status that has none.
    pub(super) head_only: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// With `Content-Length`.
    Whole(Bytes),
    /// With `Transfer-Encoding: chunked`.
    Chunked(Vec<Bytes>),
    /// Without a length; it ends when the connection does.
    UntilClose(Bytes),
    /// Chunked, as a [`Feed`] says.
    Fed(Arc<Mutex<Option<mpsc::Receiver<Fed>>>>),
    /// Chunked, this many bytes.
    Generated(u64),
    /// The whole answer, byte for byte.
    Raw(Bytes),
}

/// How the answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Whole, and the connection stays.
    Proper,
    /// The connection is closed after this many bytes of content.
    CutAfter(usize),
    /// Like `CutAfter`, by a reset.
    ResetAfter(usize),
    /// Silence after this many bytes of content; the connection stays.
    SilentAfter(usize),
    /// Not one byte; the connection is closed.
    HangUp,
    /// Not one byte; the connection stays.
    Silent,
}

impl Answer {
    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self::status(200).body(body)
    }

    pub fn json(body: impl Into<Bytes>) -> Self {
        Self::ok(body).header("content-type", "application/json")
    }

    pub fn status(status: u16) -> Self {
        let content = Content::Whole(Bytes::new());
        Self { status, headers: vec![], content, trailers: vec![], end: End::Proper, head_only: false }
    }

    /// The default answer where nothing is scripted.
    pub fn numbered(request: &Received) -> Self {
        Self::ok(format!("{} {} #{}", request.method, request.target, request.nth))
    }

    /// Chunked content that the test hands out itself.
    pub fn fed() -> (Self, Feed) {
        let (sender, receiver) = mpsc::channel(1);
        let content = Content::Fed(Arc::new(Mutex::new(Some(receiver))));
        (Self { content, ..Self::status(200) }, Feed(sender))
    }

    /// `length` bytes that say where they stand (see [`Answer::generated_byte`]), of a length nobody announces.
    pub fn generated(length: u64) -> Self {
        Self { content: Content::Generated(length), ..Self::status(200) }
    }

    /// A prime, so that no two pieces of a usual size look the same.
    pub const GENERATED_PERIOD: u64 = 251;

    /// The byte at a place of a generated body.
    pub fn generated_byte(at: u64) -> u8 {
        (at % Self::GENERATED_PERIOD) as u8
    }

    /// These bytes instead of a response; then the connection is closed.
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self { content: Content::Raw(bytes.into()), ..Self::status(200) }
    }

    pub fn hang_up() -> Self {
        Self { end: End::HangUp, ..Self::status(200) }
    }

    pub fn silence() -> Self {
        Self { end: End::Silent, ..Self::status(200) }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.content = Content::Whole(body.into());
        self
    }

    pub fn chunks<C: Into<Bytes>>(mut self, chunks: impl IntoIterator<Item = C>) -> Self {
        self.content = Content::Chunked(chunks.into_iter().map(Into::into).collect());
        self
    }

    pub fn until_close(mut self, body: impl Into<Bytes>) -> Self {
        self.content = Content::UntilClose(body.into());
        self
    }

    /// Needs chunked content.
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.end = End::CutAfter(bytes);
        self
    }

    pub fn reset_after(mut self, bytes: usize) -> Self {
        self.end = End::ResetAfter(bytes);
        self
    }

    pub fn silent_after(mut self, bytes: usize) -> Self {
        self.end = End::SilentAfter(bytes);
        self
    }

    /// RFC 9110 §6.4.1: which answers have no content.
    pub(super) fn to(mut self, request: &Received) -> Self {
        self.head_only = request.method == "HEAD" || matches!(self.status, 204 | 304);
        self
    }
}

#[derive(Debug)]
pub(super) enum Fed {
    Part(Bytes),
    Trailer(String, String),
    End,
}

/// Hands out the content of an answer, part by part. Dropped before its end, it cuts the answer short.
pub struct Feed(mpsc::Sender<Fed>);

impl Feed {
    pub async fn send(&self, part: impl Into<Bytes>) {
        self.pass_on(Fed::Part(part.into())).await;
    }

    pub async fn end(self) {
        self.pass_on(Fed::End).await;
    }

    pub async fn end_with_trailer(self, name: &str, value: &str) {
        self.pass_on(Fed::Trailer(name.to_owned(), value.to_owned())).await;
        self.end().await;
    }

    /// The connection ends before the content does.
    pub fn cut(self) {}

    /// Waits until whoever asked has gone away.
    pub async fn abandoned(&self) {
        super::super::with_deadline("the answer's connection is closed", self.0.closed()).await;
    }

    async fn pass_on(&self, fed: Fed) {
        let sent = super::super::with_deadline("the upstream takes a part", self.0.send(fed)).await;
        assert!(sent.is_ok(), "the connection of this answer is gone");
    }
}
