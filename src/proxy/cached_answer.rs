//! Answers from stored responses: hits, and stale responses in place of an error.

use http::StatusCode;

use super::answer::Answer;
use super::audit::sample_hit;
use super::error::ProxyError;
use super::lookup::{CacheHit, CacheRequest, Miss};
use super::reply;
use super::use_sample::record_use;
use crate::clock::Timestamp;
use crate::policy::cache_status::{CacheOutcome, Detail};
use crate::stored_response::StoredResponse;

impl CacheHit {
    pub(super) fn into_answer(self, request: &CacheRequest<'_>) -> Answer {
        let CacheRequest { worker, head, lookup } = *request;
        if worker.proxy.store.has_local_tier() {
            record_use(head, lookup, &self.stored.head, &worker.proxy.config.credentials);
        }
        if let Some(audit) = &worker.proxy.audit
            && audit.is_sampled()
        {
            sample_hit(audit, request, &self);
        }
        let response = reply::from_stored(self.stored, head, self.now);
        Answer::new(response, self.outcome, Some(lookup.route))
    }
}

impl Miss {
    /// The stale response if it may stand in for the error, and the error otherwise.
    pub(super) fn answer_error(&self, request: &CacheRequest<'_>, error: &ProxyError) -> Answer {
        self.stale_if_error(request, None)
            .unwrap_or_else(|| Answer::from_error(error, Some(request.lookup.route)))
    }

    /// The stale response without asking the upstream, which has just failed.
    pub(super) fn stale_hit(&self, request: &CacheRequest<'_>) -> Option<CacheHit> {
        let (stored, now) = self.stale_in_place_of_error(request)?;
        let outcome =
            CacheOutcome::Hit { ttl: stored.head.terms().ttl(now), detail: Some(Detail::StaleIfError) };
        Some(CacheHit { stored, now, outcome })
    }

    /// The stale response, since the upstream failed (RFC 5861 §4). `None` if its terms do not allow that, or it was
    /// purged meanwhile. `status`: the upstream's.
    pub(super) fn stale_if_error(
        &self,
        request: &CacheRequest<'_>,
        status: Option<StatusCode>,
    ) -> Option<Answer> {
        let (stored, now) = self.stale_in_place_of_error(request)?;
        let outcome = CacheOutcome::stale_if_error(status, stored.head.terms().ttl(now));
        Some(CacheHit { stored, now, outcome }.into_answer(request))
    }

    fn stale_in_place_of_error(&self, request: &CacheRequest<'_>) -> Option<(StoredResponse, Timestamp)> {
        let proxy = &request.worker.proxy;
        let stale = self.stale.as_ref().filter(|stale| stale.if_error)?;
        let now = proxy.clock.now();
        // Time has passed since the lookup.
        let stale = stale.recheck(proxy.store.as_ref()).filter(|stale| stale.is_usable(now))?;
        if request.lookup.caller.has_expired(now) {
            return None;
        }
        Some((stale.response, now))
    }
}
