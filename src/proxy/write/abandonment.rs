//! Writes whose client is answered before the upstream answers, at the end of their route's `timeout`, and writes whose
//! client leaves.

use std::future::{Future, pending};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::super::error::ProxyError;
use super::super::pending_writes::{ContentTargets, UnconfirmedWrite};
use super::{PlannedWrite, Write};
use crate::policy::RequestHead;
use crate::policy::content::Content;
use crate::policy::invalidation::{WriteExchange, WritePlan, WriteTargets};
use crate::policy::write_outcome::WriteOutcome;
use crate::purge::Purge;

/// The end of a client's patience: its route's `timeout`.
pub(super) struct ClientTimeout {
    pub deadline: Option<Instant>,
    /// The write ends when the client leaves.
    pub is_cancellable: bool,
    /// Has the client answered, while the write goes on.
    pub answer: oneshot::Sender<()>,
}

impl Write {
    /// Waits for the end of the client's patience, and then until the client may be answered without the upstream: what the
    /// write may change is in doubt, or it is not sent any more. A request that the upstream does not have whole by then is
    /// broken off, which ends the write. So does a client that leaves, if that cancels it.
    pub(super) async fn abandon(&self, client: &mut ClientTimeout, planned: &PlannedWrite<'_>) {
        let ClientTimeout { deadline, is_cancellable, answer } = client;
        let expired = async {
            match *deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = answer.closed(), if *is_cancellable => {
                self.cut.notify_one();
                return pending().await;
            }
            () = expired => {}
        }
        if answer.is_closed() {
            // The client has left: nobody is answered.
            return pending().await;
        }
        let Some(unconfirmed) = self.pending.abandon() else { return };
        let progress = &planned.progress;
        if !progress.is_complete() || !progress.is_handed_over() {
            self.cut.notify_one();
            return pending().await;
        }
        if !self.is_marked.load(Ordering::Acquire) {
            self.put_in_doubt(planned, unconfirmed).await;
        }
    }

    /// Puts in doubt what the whole request names; beyond its sender's budget, purges what it names one by one.
    async fn put_in_doubt(
        &self,
        planned: &PlannedWrite<'_>,
        UnconfirmedWrite { purge, route, .. }: UnconfirmedWrite,
    ) {
        let content = self.parse_request_content(planned.captured.as_ref()).await;
        let mut written = name_in_doubt(&planned.plan, &planned.request, content.as_ref());
        if written.targets.is_empty() {
            return;
        }
        let is_limited = self.limit_to_budget(WriteOutcome::PurgeInDoubt, &mut written);
        let in_doubt_for = if is_limited { Duration::ZERO } else { purge.in_doubt_for };
        let purge = Purge { in_doubt_for, targets: written.targets.to_vec(), ..purge };
        let unconfirmed = UnconfirmedWrite { purge, route, by_content: None };
        unconfirmed.purge(&self.worker.proxy.purger()).await;
    }

    /// Names by the content, once nobody waits for the write's end, what it may change. `None`: its content names nothing.
    pub(super) fn content_targets(self: &Arc<Self>, planned: &PlannedWrite<'_>) -> Option<ContentTargets> {
        let (write, captured) = (Arc::downgrade(self), planned.captured.clone()?);
        Some(Arc::new(move || {
            let (write, captured) = (write.upgrade(), captured.clone());
            Box::pin(async move {
                let Some(write) = write else { return Vec::new() };
                let content = write.parse_request_content(Some(&captured)).await;
                let writer = write.worker.name_writer(&write.head);
                let request = RequestHead { caller: writer.view(), ..write.head.as_policy() };
                name_in_doubt(&write.plan(&request), &request, content.as_ref()).targets.to_vec()
            })
        }))
    }

    pub(super) async fn until_cut<T>(
        &self,
        write: impl Future<Output = Result<T, ProxyError>>,
    ) -> Result<T, ProxyError> {
        tokio::select! {
            biased;
            sent = write => sent,
            () = self.cut.notified() => Err(ProxyError::RouteTimeout),
        }
    }
}

/// The targets of a write whose outcome is unknown, by its head and as much of its content as could be read.
fn name_in_doubt(plan: &WritePlan<'_>, request: &RequestHead<'_>, content: Option<&Content>) -> WriteTargets {
    let exchange = WriteExchange { request_content: content, ..WriteExchange::default() };
    plan.finish(request, plan.head_targets(request), WriteOutcome::PurgeInDoubt, &exchange).1
}
