//! A write whose response is still arriving when its head is passed on: it may take effect until its response ends, so it
//! is purged once more there, before the client sees the end. If nobody sees the end, it stays in doubt.

use std::sync::Arc;
use std::time::Duration;

use http::Response;

use super::body::Body;
use super::pending_writes::PendingWrite;
use super::state::Proxy;
use crate::memory_budget::MemoryBudget;
use crate::metrics::PurgeSource;
use crate::policy::Route;
use crate::policy::invalidation::WriteTargets;
use crate::policy::write_outcome::WriteOutcome;
use crate::purge::{Purge, PurgeCause, PurgeIntent, PurgeVersion};
use crate::purging::{PurgeContext, purge_targets};

/// How long the end of a response is waited for, and how much of it is buffered. One that was computed before its head was
/// sent is complete by then.
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
        purge_targets(&context, targets, intent, proxy.events.throttle())
            .await
            .ok()
            .and_then(|purged| purged.version)
    }

    /// Purges at the end of the response, too, and resolves `intent`. A client that goes away does not stop that; `unseen`
    /// is the outcome if nobody sees the end.
    pub(super) fn repeat_at_end(
        self,
        response: Response<Body>,
        pending: PendingWrite,
        (unseen, intent): (WriteOutcome, Option<PurgeIntent>),
    ) -> Response<Body> {
        let tasks = self.proxy.tasks.clone();
        let record = move |is_seen| {
            tasks.spawn(async move {
                let outcome = if is_seen { WriteOutcome::Purge } else { unseen };
                self.record(outcome, intent).await;
                pending.settle();
            })
        };
        response.map(|body| body.with_end(Box::new(record)))
    }
}

/// Whether the response goes on arriving, whatever length it announced. It is buffered if it ends soon.
pub(super) async fn is_streamed(response: &mut Response<Body>, memory: &Arc<MemoryBudget>) -> bool {
    if !response.body().is_whole() {
        response.body_mut().buffer(MAX_BUFFERED_BYTES, END_TIMEOUT, memory).await;
    }
    !response.body().is_whole()
}
