//! The answer to a write whose content tells what it has changed: it is held back until it is whole, or too large, or
//! too slow, and then goes on as it came.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use crate::upstream::{BodyError, UpstreamBody};

/// What has come already, and the rest.
pub struct Gathered {
    before: VecDeque<Result<Frame<Bytes>, BodyError>>,
    rest: UpstreamBody,
    /// Nothing comes after what is here.
    is_over: bool,
}

/// The content comes with it if it is whole within `limit` bytes and `patience`.
pub(super) async fn gather(body: UpstreamBody, limit: u64, patience: Duration) -> (Gathered, Option<Bytes>) {
    let end = Instant::now() + patience;
    let mut gathered = Gathered { before: VecDeque::new(), rest: body, is_over: false };
    let mut content = BytesMut::new();
    while let Ok(frame) = timeout_at(end, gathered.rest.frame()).await {
        let Some(frame) = frame else {
            gathered.is_over = true;
            return (gathered, Some(content.freeze()));
        };
        let data = frame.as_ref().ok().and_then(Frame::data_ref).cloned();
        gathered.is_over = frame.is_err();
        gathered.before.push_back(frame);
        content.extend_from_slice(&data.unwrap_or_default());
        if gathered.is_over || content.len() as u64 > limit {
            break;
        }
    }
    (gathered, None)
}

impl Body for Gathered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.before.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None if self.is_over => Poll::Ready(None),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.before.is_empty() && (self.is_over || self.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let here: u64 =
            self.before.iter().flatten().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        match (self.is_over, self.rest.size_hint().exact()) {
            (true, _) if self.before.iter().any(Result::is_err) => SizeHint::default(),
            (true, _) => SizeHint::with_exact(here),
            (false, Some(rest)) => SizeHint::with_exact(here + rest),
            (false, None) => SizeHint::default(),
        }
    }
}
