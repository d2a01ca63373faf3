//! A write whose response is still arriving when its head is passed on: it may take effect until its response ends, so it
//! is purged once more there, before the client sees the end. If nobody sees the end, it stays in doubt.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body as _, Frame};
use tokio::task::JoinHandle;

use super::body::{Body, ClientBodyError};
use super::buffered_body::buffer_body;
use super::pending_writes::PendingWrite;
use super::state::Proxy;
use crate::memory_budget::MemoryBudget;
use crate::metrics::PurgeSource;
use crate::policy::Route;
use crate::policy::invalidation::{WriteOutcome, WriteTargets};
use crate::purge::{Purge, PurgeCause, PurgeIntent, PurgeVersion};
use crate::purging::{PurgeContext, purge_targets};

/// How long a response of unknown length is waited for, and how much of it is buffered. One that was computed before its
/// head was sent is complete by then.
const END_TIMEOUT: Duration = Duration::from_millis(10);
const MAX_BUFFERED_BYTES: u64 = 64 << 10;

/// The purge of one write.
pub(super) struct WritePurge {
    pub proxy: Arc<Proxy>,
    pub route: Option<Arc<Route>>,
    pub cause: PurgeCause,
    pub written: WriteTargets,
    /// How long the write may take effect if nobody saw its end.
    pub in_doubt_for: Duration,
}

impl WritePurge {
    /// Purges what the write changed, or may have changed. A failure is counted and logged; the response goes on.
    pub(super) async fn record(
        &self,
        outcome: WriteOutcome,
        intent: Option<PurgeIntent>,
    ) -> Option<PurgeVersion> {
        let (proxy, cause) = (&self.proxy, self.cause.clone());
        if outcome == WriteOutcome::PurgeInDoubt {
            // Hard and at once, whatever the options of its targets: doubt does not wait.
            let targets = Purge::hard(self.written.targets.to_vec());
            let in_doubt_for = self.in_doubt_for;
            let doubted = Purge { in_doubt_for, resolves: intent, cause: Some(cause), ..targets };
            return proxy.purger().purge(doubted, PurgeSource::Write, self.route.as_ref()).await.ok();
        }
        let context = PurgeContext {
            purger: proxy.purger(),
            source: PurgeSource::Write,
            route: self.route.clone(),
            cause,
            settle: self.written.settle,
        };
        let targets = self.written.targets.clone();
        purge_targets(&context, targets, intent, proxy.events.throttle()).await.ok().flatten()
    }

    /// The response with the purge at its end.
    pub(super) fn at_end_of(self, response: Response<Body>, pending: PendingWrite) -> Response<Body> {
        let end = Some(WriteEnd { purge: self, pending });
        response.map(|body| Body::OfWrite(Box::new(WriteBody { body, end, purging: None, last: None })))
    }
}

/// Whether the response goes on arriving. One of unknown length is buffered if it ends soon.
pub(super) async fn is_streamed(response: &mut Response<Body>, memory: &Arc<MemoryBudget>) -> bool {
    let is_complete = |body: &Body| body.is_end_stream() || body.size_hint().exact().is_some();
    if !is_complete(response.body()) && matches!(response.body(), Body::Upstream(_)) {
        let body = match std::mem::replace(response.body_mut(), Body::empty()) {
            Body::Upstream(body) => {
                let (body, _) = buffer_body(body, MAX_BUFFERED_BYTES, END_TIMEOUT, memory).await;
                Body::Buffered(Box::new(body))
            }
            body => body,
        };
        *response.body_mut() = body;
    }
    !is_complete(response.body())
}

struct WriteEnd {
    purge: WritePurge,
    pending: PendingWrite,
}

impl WriteEnd {
    /// Purges on a task of its own: a client that goes away does not stop it.
    fn start(self, outcome: WriteOutcome) -> JoinHandle<()> {
        let tasks = self.purge.proxy.tasks.clone();
        tasks.spawn(async move {
            self.purge.record(outcome, None).await;
            self.pending.settle();
        })
    }
}

/// The content of a write's response. Its end waits for the purge.
pub(crate) struct WriteBody {
    body: Body,
    /// `None`: the end has been seen.
    end: Option<WriteEnd>,
    purging: Option<JoinHandle<()>>,
    /// What follows the purge.
    last: Option<Frame<Bytes>>,
}

impl WriteBody {
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientBodyError>>> {
        if self.end.is_some() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => Some(frame),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => None,
            };
            // Trailers are an end, and so is the last frame of a body that says so.
            match frame {
                Some(frame) if frame.is_data() && !self.body.is_end_stream() => {
                    return Poll::Ready(Some(Ok(frame)));
                }
                last => self.last = last,
            }
            self.purging = self.end.take().map(|end| end.start(WriteOutcome::Purge));
        }
        if let Some(purging) = &mut self.purging {
            // A purge that panicked has been logged, and is no reason to keep the response back.
            let _ = ready!(Pin::new(purging).poll(cx));
            self.purging = None;
        }
        Poll::Ready(self.last.take().map(Ok))
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.end.is_none() && self.purging.is_none() && self.last.is_none()
    }
}

impl Drop for WriteBody {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end.start(WriteOutcome::PurgeInDoubt);
        }
    }
}
