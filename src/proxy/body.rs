//! What the client is sent: from memory, straight from the upstream, or from a response that others read too.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::Full;
use tokio::time::{Instant, Sleep, sleep_until};

use super::gathering::Gathered;
use super::shared_body::{Reader, SharedBodyError};
use crate::access_log::Entry;
use crate::upstream::{BodyError, UpstreamBody};

/// One body path for all kinds of answers.
pub enum Body {
    Full(Full<Bytes>),
    Upstream(UpstreamBody),
    Gathered(Box<Gathered>),
    Shared(Reader),
    /// It must be over by then.
    Bounded(Box<Body>, Pin<Box<Sleep>>),
    /// Its line in the access log is due when it has gone.
    Logged(Box<Logged>),
}

pub struct Logged {
    body: Body,
    entry: Entry,
    failed: bool,
}

/// Ends the client's connection in the middle of an answer, so that a part never looks like the whole.
#[derive(Debug, thiserror::Error)]
pub enum ClientBodyError {
    #[error(transparent)]
    Upstream(#[from] BodyError),
    #[error("the request took too long")]
    TooLong,
    #[error(transparent)]
    Shared(#[from] SharedBodyError),
}

impl Body {
    /// Breaks off at `end`, if it is not over by then.
    pub fn until(self, end: Instant) -> Self {
        match self {
            Body::Full(_) => self,
            body => Body::Bounded(Box::new(body), Box::pin(sleep_until(end))),
        }
    }

    pub fn logged(self, entry: Entry) -> Self {
        Body::Logged(Box::new(Logged { body: self, entry, failed: false }))
    }

    pub fn empty() -> Self {
        Body::Full(Full::default())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Body::Full(Full::new(bytes))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = ClientBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        match self.get_mut() {
            Body::Full(full) => Pin::new(full)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Body::Upstream(body) => Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| Ok(frame?))),
            Body::Gathered(body) => {
                Pin::new(body.as_mut()).poll_frame(cx).map(|frame| frame.map(|frame| Ok(frame?)))
            }
            Body::Bounded(body, end) => match Pin::new(body.as_mut()).poll_frame(cx) {
                Poll::Pending => end.as_mut().poll(cx).map(|()| Some(Err(ClientBodyError::TooLong))),
                ready => ready,
            },
            Body::Logged(logged) => logged.poll_frame(cx),
            Body::Shared(reader) => {
                Pin::new(reader).poll_frame(cx).map(|frame| frame.map(|frame| Ok(frame?)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Full(full) => full.is_end_stream(),
            Body::Upstream(body) => body.is_end_stream(),
            Body::Gathered(body) => body.is_end_stream(),
            Body::Bounded(body, _) => body.is_end_stream(),
            Body::Logged(logged) => logged.body.is_end_stream(),
            Body::Shared(reader) => reader.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Full(full) => full.size_hint(),
            Body::Upstream(body) => body.size_hint(),
            Body::Gathered(body) => body.size_hint(),
            Body::Bounded(body, _) => body.size_hint(),
            Body::Logged(logged) => logged.body.size_hint(),
            Body::Shared(reader) => reader.size_hint(),
        }
    }
}

impl Logged {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.entry.sent(frame.data_ref().map_or(0, Bytes::len)),
            Poll::Ready(Some(Err(_))) => self.failed = true,
            _ => {}
        }
        polled
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        // What has a length is not asked again once that is reached.
        let nothing_left = self.body.is_end_stream() || self.body.size_hint().exact() == Some(0);
        self.entry.ended(nothing_left && !self.failed);
    }
}
