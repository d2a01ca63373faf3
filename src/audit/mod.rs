//! Audit of hits: a share of them is asked for again behind the client's back, and a difference is explained.
//!
//! This module keeps the samples, the writes that went through, and the findings, all bounded. `warming` sends the
//! requests, within the budget of background requests.

mod compare;
mod findings;
mod writes;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderMap, HeaderName, Uri, Version};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

pub(crate) use compare::{Comparison, Difference, Observed};
pub(crate) use findings::{AuditFinding, FindingKind};
pub(crate) use writes::AcknowledgedWrite;

use self::findings::{Findings, FoundChange};
use self::writes::WriteHistory;
use crate::clock::Timestamp;
use crate::config::AuditSettings;
use crate::policy::vary::Vary;
use crate::policy::{CacheKey, Route};
use crate::sampler::Sampler;
use crate::stored_response::StoredResponse;

/// Most hits that wait to be audited. More are not audited.
const MAX_QUEUED: usize = 16;

/// Most callers of shared responses that are remembered, for [`MAX_CALLER_AGE_SECS`].
const MAX_CALLERS: usize = 128;
const MAX_CALLER_AGE_SECS: u64 = 60;

/// Largest content that is compared. One audit holds the stored one and at most three answers, which count as bodies in
/// the memory budget.
pub(crate) const MAX_AUDITED_BYTES: usize = 1 << 20;

/// Largest header section that is kept with a sample.
const MAX_FIELD_BYTES: usize = 8 * 1024;

/// A served hit.
pub(crate) struct AuditSample {
    pub request: SampledRequest,
    pub route: Arc<Route>,
    pub key: CacheKey,
    pub stored: StoredResponse,
    pub served_at: Timestamp,
}

/// A request that can be sent again.
#[derive(Clone, Debug)]
pub(crate) struct SampledRequest {
    pub uri: Uri,
    pub version: Version,
    pub headers: HeaderMap,
    pub peer: Option<IpAddr>,
    pub is_tls: bool,
    /// The fields with credentials, if the key does not have them all.
    pub credentials: Vec<HeaderName>,
}

/// The upstream's answer to such a request.
#[derive(Clone, Debug)]
pub(crate) struct FreshAnswer {
    pub response: Observed,
    pub received_at: Timestamp,
}

pub(crate) struct Audit {
    pub settings: AuditSettings,
    sampler: Sampler,
    queue: Mutex<VecDeque<AuditSample>>,
    is_queued: Notify,
    /// The hits that wait or are being audited.
    pending: AtomicUsize,
    writes: Mutex<WriteHistory>,
    callers: Mutex<VecDeque<(CacheKey, Timestamp, HeaderMap)>>,
    findings: Mutex<Findings>,
    /// One comparison runs at a time: parsed, contents take many times their size.
    pub comparing: Semaphore,
}

impl Audit {
    pub(crate) fn new(settings: &AuditSettings) -> Arc<Self> {
        Arc::new(Self {
            settings: settings.clone(),
            sampler: Sampler::new(settings.sample),
            queue: Mutex::default(),
            is_queued: Notify::new(),
            pending: AtomicUsize::new(0),
            writes: Mutex::default(),
            callers: Mutex::default(),
            findings: Mutex::default(),
            comparing: Semaphore::new(1),
        })
    }

    /// Decides whether the hit at hand is audited.
    pub(crate) fn is_sampled(&self) -> bool {
        self.sampler.is_sampled()
    }

    /// Queues a hit, unless too many wait or it is too large. Returns whether it is queued.
    pub(crate) fn submit(&self, sample: AuditSample) -> bool {
        let field_bytes: usize =
            sample.request.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let mut queue = self.queue.lock();
        if queue.len() >= MAX_QUEUED
            || sample.stored.body.len() > MAX_AUDITED_BYTES
            || field_bytes > MAX_FIELD_BYTES
        {
            return false;
        }
        queue.push_back(sample);
        self.pending.fetch_add(1, Ordering::Relaxed);
        drop(queue);
        self.is_queued.notify_one();
        true
    }

    /// The next hit to audit; waits for one.
    pub(crate) async fn next_sample(&self) -> AuditSample {
        loop {
            let queued = self.is_queued.notified();
            if let Some(sample) = self.queue.lock().pop_front() {
                return sample;
            }
            queued.await;
        }
    }

    /// The number of hits whose audit has not ended.
    pub(crate) fn pending(&self) -> usize {
        self.pending.load(Ordering::Acquire)
    }

    /// Ends the audit of a hit whose result is recorded.
    pub(crate) fn finish_sample(&self) {
        self.pending.fetch_sub(1, Ordering::Release);
    }

    /// Keeps a write whose response goes back now.
    pub(crate) fn record_write(&self, write: AcknowledgedWrite) {
        self.writes.lock().add(write);
    }

    /// The credentials of another recent caller of the same key. Those of this caller are kept for the next one.
    pub(crate) fn exchange_caller(&self, sample: &AuditSample) -> Option<HeaderMap> {
        let own = sample.request.credentials();
        if own.is_empty() {
            return None;
        }
        self.forget_callers(sample.served_at);
        let mut callers = self.callers.lock();
        let other = callers.iter().rev().find(|(key, _, known)| *key == sample.key && *known != own);
        let other = other.map(|(_, _, known)| known.clone());
        callers.retain(|(key, _, known)| *key != sample.key || *known != own);
        if callers.len() >= MAX_CALLERS {
            callers.pop_front();
        }
        callers.push_back((sample.key, sample.served_at, own));
        other
    }

    /// Forgets the callers that were seen too long ago.
    pub(crate) fn forget_callers(&self, now: Timestamp) {
        self.callers.lock().retain(|(_, at, _)| now.since(*at).as_secs() < MAX_CALLER_AGE_SECS);
    }

    /// Counts an audit without a difference, as evidence against the writes that lie between.
    pub(crate) fn record_same(&self, sample: &AuditSample, fresh: &FreshAnswer) {
        self.writes.lock().record(&sample.window(fresh), false, self.settings.sees_all_writes);
    }

    /// Explains a difference that no purge explains: by a write whose purge is missing, or not at all.
    pub(crate) fn record_change(
        &self,
        sample: &AuditSample,
        fresh: &FreshAnswer,
        differences: &[Difference],
    ) -> FindingKind {
        let mut writes = self.writes.lock();
        let causes = writes.record(&sample.window(fresh), true, self.settings.sees_all_writes);
        drop(writes);
        let kind = match causes.iter().any(|cause| cause.is_likely) {
            true => FindingKind::PurgeMissing,
            false => FindingKind::ChangedWithinTtl,
        };
        let causes =
            causes.into_iter().filter(|cause| cause.is_likely || kind == FindingKind::ChangedWithinTtl);
        self.record_finding(sample, kind, differences, causes.take(findings::MAX_CAUSES).collect());
        kind
    }

    /// Keeps a finding, or counts it if it is known.
    pub(crate) fn record_finding(
        &self,
        sample: &AuditSample,
        kind: FindingKind,
        differences: &[Difference],
        causes: Vec<writes::Cause>,
    ) {
        let change = FoundChange { sample, differences, causes };
        self.findings.lock().add(kind, change);
    }

    /// The findings, the latest first.
    pub(crate) fn findings(&self) -> Vec<AuditFinding> {
        self.findings.lock().list()
    }
}

impl SampledRequest {
    fn credentials(&self) -> HeaderMap {
        let is_credential = |(name, _): &(&HeaderName, _)| self.credentials.contains(name);
        let fields = self.headers.iter().filter(is_credential);
        fields.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

impl AuditSample {
    /// The request with the credentials of another caller, or with none. Fields that `Vary` names stay: they selected the
    /// response. `None`: no credential is left to replace.
    pub(crate) fn request_of_other(&self, credentials: &HeaderMap) -> Option<SampledRequest> {
        let vary = Vary::parse_ignoring(&self.stored.head.fields.to_map(), &self.route.ignore_vary);
        let is_replaced = |name: &HeaderName| match &vary {
            Vary::Nothing => true,
            Vary::Fields(fields) => !fields.names().contains(name),
            Vary::Everything => false,
        };
        let mut request = self.request.clone();
        let own: Vec<_> = request.credentials.iter().filter(|name| is_replaced(name)).cloned().collect();
        for name in &own {
            request.headers.remove(name);
        }
        for (name, value) in credentials.iter().filter(|(name, _)| is_replaced(name)) {
            request.headers.append(name, value.clone());
        }
        (!own.is_empty()).then_some(request)
    }

    /// Writes that may have changed the response since it was fetched.
    fn window(&self, fresh: &FreshAnswer) -> writes::ChangeWindow<'_> {
        writes::ChangeWindow {
            route: &self.route,
            path: self.request.uri.path(),
            from: self.stored.head.terms().requested_at,
            to: fresh.received_at,
        }
    }
}

#[cfg(test)]
mod tests;
