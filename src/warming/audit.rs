//! Audits sampled hits: asks for each again, and explains a difference. The order of the steps decides about races.
//!
//! 1. A response that is not valid or not fresh any more is not judged.
//! 2. A difference may be a write whose purge is under way. So its purge gets `settle` to arrive, and if a write that
//!    began before the answer is still under way then, nothing is said.
//! 3. A response that was purged meanwhile was right when it was served. So was one that is purged before the last answer.
//! 4. An answer that differs from the next one says nothing about the stored response.
//! 5. The answer for another caller shows whether the response may be shared at all.
//! 6. Any other response changed since its fetch, and no purge said so.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{TICK, Warming};
use crate::audit::{
    Audit, AuditSample, Comparison, Difference, FindingKind, FreshAnswer, Observed, SampledRequest,
};
use crate::metrics::BackgroundKind;
use crate::proxy::{ask_again, compare_responses};
use crate::purge::Validity;

/// Most audits under way; those that wait for `settle` hold no budget.
const MAX_UNDER_WAY: usize = 8;

impl Warming {
    /// Audits hits while the configuration says so, for ever.
    pub(super) async fn run_audits(self: Arc<Self>) {
        let mut under_way = JoinSet::new();
        loop {
            while under_way.try_join_next().is_some() {}
            let proxy = self.live.load_full();
            let Some(audit) = proxy.audit.clone() else {
                drop(proxy);
                sleep(TICK).await;
                continue;
            };
            audit.forget_callers(proxy.clock.now());
            drop(proxy);
            if under_way.len() >= MAX_UNDER_WAY {
                let _ended = timeout(TICK, under_way.join_next()).await;
                continue;
            }
            // The configuration may change meanwhile.
            if let Ok(sample) = timeout(TICK, audit.next_sample()).await {
                let warming = self.clone();
                under_way.spawn(async move {
                    let result = warming.audit(&audit, &sample).await.unwrap_or_else(|reason| reason);
                    warming.live.load().metrics.record_background(BackgroundKind::Audit, result);
                    audit.finish_sample();
                });
            }
        }
    }

    /// Audits one hit, and returns the result. The error is the reason why nothing is known.
    async fn audit(&self, audit: &Arc<Audit>, sample: &AuditSample) -> Result<&'static str, &'static str> {
        let other = audit.exchange_caller(sample);
        if self.validity(sample) != Validity::Valid {
            return Ok("superseded");
        }
        let fresh = self.ask(sample, &sample.request).await?;
        if !sample.stored.head.terms().is_fresh(fresh.received_at) {
            return Ok("superseded");
        }
        let stored = Observed {
            status: sample.stored.head.status,
            headers: sample.stored.head.fields.to_map(),
            body: sample.stored.body.clone(),
        };
        let differences = match self.compare(audit, &stored, &fresh.response).await? {
            Comparison::Same => {
                audit.record_same(sample, &fresh);
                return Ok("same");
            }
            Comparison::Incomparable => return Ok("incomparable"),
            Comparison::Different(differences) => differences,
        };
        if !self.is_settled(audit).await {
            return Ok("undecided");
        }
        if self.validity(sample) != Validity::Valid {
            return Ok("purged");
        }
        let other_reason = self.find_other_reason(audit, sample, &fresh, other).await?;
        if self.validity(sample) != Validity::Valid {
            return Ok("purged");
        }
        let Some((kind, differences)) = other_reason else {
            return Ok(audit.record_change(sample, &fresh, &differences).as_str());
        };
        audit.record_finding(sample, kind, &differences, Vec::new());
        Ok(kind.as_str())
    }

    /// Asks whether answers differ by themselves, or by their callers.
    async fn find_other_reason(
        &self,
        audit: &Arc<Audit>,
        sample: &AuditSample,
        fresh: &FreshAnswer,
        other: Option<HeaderMap>,
    ) -> Result<Option<(FindingKind, Vec<Difference>)>, &'static str> {
        let again = self.ask(sample, &sample.request).await?;
        if let Comparison::Different(varying) = self.compare(audit, &fresh.response, &again.response).await? {
            return Ok(Some((FindingKind::Varies, varying)));
        }
        let Some(theirs) = self.ask_for_other(sample, other).await? else { return Ok(None) };
        match self.compare(audit, &again.response, &theirs.response).await? {
            Comparison::Different(differences) => Ok(Some((FindingKind::SharedWrongly, differences))),
            Comparison::Same | Comparison::Incomparable => Ok(None),
        }
    }

    /// Waits until the purge of a change that an answer has shown must have arrived. `false`: that can't be known.
    async fn is_settled(&self, audit: &Audit) -> bool {
        let proxy = self.live.load_full();
        let writes = proxy.writes_so_far();
        sleep(audit.settings.settle).await;
        !proxy.has_pending_write(writes) && proxy.store.sync().await
    }

    fn validity(&self, sample: &AuditSample) -> Validity {
        let head = &sample.stored.head;
        self.live.load().store.validity(&head.stamp, &head.targets)
    }

    /// Asks the upstream, within the budget. An answer that refuses the request says nothing about the stored response,
    /// unless that is one, too.
    async fn ask(&self, sample: &AuditSample, request: &SampledRequest) -> Result<FreshAnswer, &'static str> {
        let _permit = self.budget.acquire(&self.handle, &self.live).await;
        let worker = self.handle.worker().clone();
        let fresh = ask_again(&worker, request, sample.key).await?;
        let status = fresh.response.status;
        let is_refusal = status.is_server_error()
            || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS);
        if is_refusal && status != sample.stored.head.status { Err("failed") } else { Ok(fresh) }
    }

    async fn compare(
        &self,
        audit: &Arc<Audit>,
        stored: &Observed,
        fresh: &Observed,
    ) -> Result<Comparison, &'static str> {
        compare_responses(&self.live.load_full(), audit, stored, fresh).await
    }

    /// The answer for another caller; without one, that for nobody if it is a success.
    async fn ask_for_other(
        &self,
        sample: &AuditSample,
        other: Option<HeaderMap>,
    ) -> Result<Option<FreshAnswer>, &'static str> {
        let Some(request) = sample.request_of_other(other.as_ref().unwrap_or(&HeaderMap::new())) else {
            return Ok(None);
        };
        let theirs = self.ask(sample, &request).await;
        match (other.is_some(), theirs) {
            // A session may have ended since.
            (true, Ok(theirs)) if theirs.response.status == StatusCode::FORBIDDEN => Err("failed"),
            (true, theirs) => theirs.map(Some),
            (false, theirs) => Ok(theirs.ok().filter(|theirs| theirs.response.status.is_success())),
        }
    }
}
