//! Holds the end of a content back: without it, the upstream has no whole request, and does not act on it (RFC 9112 §8).

use std::future::{Future as _, pending};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use tokio::sync::oneshot;

use super::body_error::BodyError;

/// The right to send the end of a content. Dropped without [`ContentEnd::allow`], the content fails.
pub(crate) struct ContentEnd {
    reached: oneshot::Receiver<()>,
    allow: oneshot::Sender<()>,
}

/// The end that a body holds back: its last frame, or what comes in place of one.
pub(super) struct HeldEnd {
    reached: Option<oneshot::Sender<()>>,
    allowed: oneshot::Receiver<()>,
    frame: Option<Option<Frame<Bytes>>>,
}

impl ContentEnd {
    pub(super) fn new() -> (Self, HeldEnd) {
        let ((reach, reached), (allow, allowed)) = (oneshot::channel(), oneshot::channel());
        (Self { reached, allow }, HeldEnd { reached: Some(reach), allowed, frame: None })
    }

    /// Resolves once the client has sent everything, and all but the end was forwarded.
    pub(crate) async fn reached(&mut self) {
        if (&mut self.reached).await.is_err() {
            pending().await
        }
    }

    pub(crate) fn allow(self) {
        // The body may have ended by an error.
        _ = self.allow.send(());
    }
}

impl HeldEnd {
    pub(super) fn is_reached(&self) -> bool {
        self.frame.is_some()
    }

    /// The length of the last frame.
    pub(super) fn len(&self) -> u64 {
        let last = self.frame.iter().flatten().filter_map(Frame::data_ref);
        last.map(|data| data.len() as u64).sum()
    }

    pub(super) fn hold(&mut self, last: Option<Frame<Bytes>>) {
        self.frame = Some(last);
        if let Some(reached) = self.reached.take() {
            // The receiver is gone if the response came before.
            _ = reached.send(());
        }
    }

    /// The last frame once it is allowed.
    pub(super) fn poll_allowed(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let allowed = ready!(Pin::new(&mut self.allowed).poll(cx));
        let last = self.frame.take().flatten();
        Poll::Ready(match allowed {
            Ok(()) => last.map(Ok),
            Err(_) => Some(Err(BodyError::EndWithheld)),
        })
    }
}
