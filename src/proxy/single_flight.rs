//! Single-flight table: one fetch at a time for each key, which other requests join (RFC 9111 §4, "collapsed").
//!
//! A follower gets the response in flight iff it would be a hit were it stored now. So no request follows a fetch from before
//! a purge, and no private response reaches a second client. A fetch that began after the follower arrived needs no check
//! for purges, so requests are collapsed while a purge is pending, too.
//!
//! One client's fields may make the response uncacheable: its marker holds for requests with the same fields, until another
//! client's request finds the same.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::backoff::Backoff;
use super::client_request::ClientHead;
use super::error::ProxyError;
use super::fetch_start::FetchStart;
use super::refresh_failures::{RefreshFailure, RefreshFailures};
use super::requester::Requester;
use super::shared_body::SharedBody;
use crate::clock::Clock;
use crate::policy::CacheKey;
use crate::policy::not_stored::NotStored;
use crate::stored_response::{StoredHead, StoredResponse};

/// How long a key counts as uncacheable at first, and at most (hit-for-miss).
const MIN_HIT_FOR_MISS: Duration = Duration::from_secs(5);
pub(super) const MAX_HIT_FOR_MISS: Duration = Duration::from_secs(120);

/// How many requests that another request's error did not answer, twice, fetch at the same time.
const MAX_REFUSING_FETCHES: usize = 64;

/// The outcome of a fetch, which everyone who waits for it gets.
#[derive(Clone)]
pub(super) enum FetchOutcome {
    /// The header section is there, and the content is arriving.
    Streaming(Arc<InFlightResponse>),
    /// The response is complete: the upstream confirmed the stored one, or only the content told its lifetime.
    Complete(StoredResponse),
    /// Another replica has fetched and stored the response.
    StoredElsewhere(StoredResponse),
    /// The leader found it stored, or its fetch broke off: look it up again.
    Retry,
    /// The response is for the leader alone; the others fetch for themselves.
    Uncacheable,
    /// The upstream did not answer.
    Failed(ProxyError),
    /// The fetch ended without an outcome: larder ends, or it panicked.
    Interrupted,
}

/// A response in flight.
pub(super) struct InFlightResponse {
    pub head: Arc<StoredHead>,
    pub body: Arc<SharedBody>,
    /// Fields for the leader alone.
    pub dropped: HeaderMap,
    /// Set on an error that is shared with those who wait for it, and not stored.
    pub not_stored: Option<NotStored>,
    /// Whether the head has all its tags. If not, any purge since the fetch began may name it.
    pub has_all_tags: bool,
    /// Why the last response for this key was not stored once it was complete: this one will most likely not be, either.
    pub predicted_uncacheable: Option<NotStored>,
}

impl InFlightResponse {
    /// The status of an upstream error, which answers those who waited for it, and nobody later.
    pub(super) fn error_status(&self) -> Option<StatusCode> {
        self.not_stored.map(|_| self.head.status)
    }
}

/// The fetches in flight, and the keys that are known to be uncacheable or to fail.
pub(super) struct CollapseTable {
    by_key: Mutex<HashMap<CacheKey, Arc<InFlightFetch>>>,
    hit_for_miss: Backoff<(CacheKey, CallerKind), Marker>,
    /// The keys whose marker was cleared by a storable response.
    storable: Backoff<(CacheKey, CallerKind), ()>,
    withdrawals: Backoff<CacheKey, Withdrawn>,
    failures: RefreshFailures,
    refusing: Semaphore,
}

/// The kinds of callers that hit-for-miss markers keep apart: a response to one kind says nothing of the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum CallerKind {
    /// The request has no credentials, or all of them are in the key.
    InKey,
    /// The request has a credential that is not in the key.
    OutsideKey,
}

/// Why a key counts as uncacheable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Uncacheable {
    /// The header section of the last response said so.
    ByHeaders(NotStored),
    /// The last response said so only once it was complete.
    ByContent(NotStored),
    /// The last response has to be validated for each request.
    AlwaysStale,
    /// Another replica found it so.
    ByReplica,
}

/// A hit-for-miss marker.
#[derive(Clone, Copy)]
struct Marker {
    reason: Uncacheable,
    /// The only requests that it holds for. `None`: all.
    of: Option<Requester>,
}

/// How many requests are remembered that stored a response after the stale windows of its key were ended.
const MAX_RESTORING: usize = 4;

/// The stale windows of a key were ended.
#[derive(Clone, Copy, Default)]
struct Withdrawn {
    /// The fields of the requests whose responses were stored afterwards, the latest first.
    restored_by: [Option<CacheKey>; MAX_RESTORING],
}

impl CallerKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            CallerKind::InKey => "collapse, callers in the key",
            CallerKind::OutsideKey => "collapse, callers outside the key",
        }
    }
}

impl Uncacheable {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Uncacheable::ByHeaders(reason) | Uncacheable::ByContent(reason) => reason.as_str(),
            Uncacheable::AlwaysStale => "always-validated",
            Uncacheable::ByReplica => "another-replica",
        }
    }
}

pub(super) struct InFlightFetch {
    /// The key under which others find it: the request's, then the variant's once that is known.
    key: Mutex<CacheKey>,
    started_at: Instant,
    /// Whether others may join.
    is_joinable: bool,
    pub caller: CallerKind,
    pub start: Arc<FetchStart>,
    /// The request that the leader forwards.
    head: OnceLock<Arc<ClientHead>>,
    outcome: watch::Sender<Option<FetchOutcome>>,
    /// The content, once the header section is there.
    content: OnceLock<Arc<SharedBody>>,
}

pub(super) enum Join {
    /// This request fetches. Dropping the [`Leader`] ends the fetch.
    Leader(Leader),
    /// Another request fetches already.
    Follower(Arc<InFlightFetch>),
}

impl CollapseTable {
    pub(super) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            by_key: Mutex::default(),
            hit_for_miss: Backoff::new(clock.clone(), MIN_HIT_FOR_MISS, MAX_HIT_FOR_MISS),
            storable: Backoff::new(clock.clone(), MAX_HIT_FOR_MISS, MAX_HIT_FOR_MISS),
            withdrawals: Backoff::new(clock.clone(), MIN_HIT_FOR_MISS, MAX_HIT_FOR_MISS),
            failures: RefreshFailures::new(clock),
            refusing: Semaphore::new(MAX_REFUSING_FETCHES),
        })
    }

    /// Whether the key is known to be uncacheable for requests with these fields: fetch alone.
    pub(super) fn is_uncacheable(
        &self,
        key: &CacheKey,
        caller: CallerKind,
        fields: impl FnOnce() -> CacheKey,
    ) -> bool {
        let marker = self.hit_for_miss.active(&(*key, caller));
        marker.is_some_and(|(marker, _)| marker.of.is_none_or(|of| of.fields == fields()))
    }

    /// Whether an uncacheable response to this request ends the stale windows of what is stored under `key`, the primary key
    /// for all variants: once in a back-off, unless one that was stored meanwhile answered a request with the same fields.
    pub(super) fn may_withdraw(&self, key: &CacheKey, head: &ClientHead) -> bool {
        let restored_by = self.withdrawals.active(key).map(|(withdrawn, _)| withdrawn.restored_by);
        let may = restored_by.is_none_or(|restored_by| {
            restored_by[0].is_none() || restored_by.contains(&Some(head.key_of_fields(key)))
        });
        if may {
            self.withdrawals.extend(*key, Withdrawn::default());
        }
        may
    }

    /// The response to this request is stored, under the key of its variant.
    pub(super) fn record_stored(&self, primary: &CacheKey, variant: &CacheKey, head: &ClientHead) {
        self.record_restored(primary, head);
        if variant != primary {
            self.record_restored(variant, head);
        }
    }

    fn record_restored(&self, key: &CacheKey, head: &ClientHead) {
        if let Some((Withdrawn { mut restored_by }, _)) = self.withdrawals.active(key) {
            let fields = Some(head.key_of_fields(key));
            let oldest = restored_by.iter().position(|known| *known == fields).unwrap_or(MAX_RESTORING - 1);
            restored_by[..=oldest].rotate_right(1);
            restored_by[0] = fields;
            self.withdrawals.amend(key, Withdrawn { restored_by });
        }
    }

    /// Joins the fetch of `key`, or starts it. `refused` is a fetch that did not serve this request: it is replaced, not
    /// joined again. `among`: a key of the requests among which it is shared, in place of all for `key`.
    pub(super) fn join(
        self: &Arc<Self>,
        key: &CacheKey,
        caller: CallerKind,
        refused: Option<&Arc<InFlightFetch>>,
        among: Option<CacheKey>,
    ) -> Join {
        let key = among.unwrap_or(*key);
        let mut fetches = self.lock();
        match fetches.entry(key) {
            Entry::Occupied(present)
                if !refused.is_some_and(|refused| Arc::ptr_eq(refused, present.get())) =>
            {
                Join::Follower(present.get().clone())
            }
            entry => {
                let fetch = InFlightFetch::new(key, caller, true);
                entry.insert_entry(fetch.clone());
                Join::Leader(Leader { table: self.clone(), fetch })
            }
        }
    }

    /// Leads the refresh of a stale response, also of an uncacheable key. `None`: another fetch is under way whose content
    /// has not stalled for `collapse_timeout`, or the last ones failed and the back-off is not over.
    pub(super) fn lead_refresh(
        self: &Arc<Self>,
        key: &CacheKey,
        caller: CallerKind,
        collapse_timeout: Duration,
        requester: impl FnOnce() -> Requester,
    ) -> Option<Leader> {
        if !self.failures.may_refresh(key, requester) {
            return None;
        }
        match self.lock().entry(*key) {
            Entry::Occupied(present) if !present.get().has_stalled(collapse_timeout) => None,
            entry => {
                let fetch = InFlightFetch::new(*key, caller, true);
                entry.insert_entry(fetch.clone());
                Some(Leader { table: self.clone(), fetch })
            }
        }
    }

    /// Leads a fetch that no request can join.
    pub(super) fn lead_unshared(self: &Arc<Self>, key: &CacheKey, caller: CallerKind) -> Leader {
        Leader { table: self.clone(), fetch: InFlightFetch::new(*key, caller, false) }
    }

    /// Waits until fewer than [`MAX_REFUSING_FETCHES`] such requests fetch, so that they are no crowd at an upstream that
    /// fails; but not longer than `timeout`, so that slow ones do not hold up others. Dropping the permit ends the turn.
    pub(super) async fn take_turn(&self, timeout: Duration) -> Option<SemaphorePermit<'_>> {
        tokio::time::timeout(timeout, self.refusing.acquire()).await.ok()?.ok()
    }

    /// Whether the last fetch of `key` timed out, and the back-off is not over for this request.
    pub(super) fn has_timed_out(&self, key: &CacheKey, requester: impl FnOnce() -> Requester) -> bool {
        let has_timed_out =
            || self.failures.last(key).is_some_and(|(failure, _)| failure == RefreshFailure::Timeout);
        has_timed_out() && !self.failures.may_refresh(key, requester)
    }

    /// Returns the kinds of callers held back for `key`, with reason and remaining time, for operators.
    pub(super) fn describe(&self, key: &CacheKey) -> Vec<(&'static str, &'static str, Duration)> {
        let uncacheable = |caller: CallerKind| {
            let (marker, left) = self.hit_for_miss.active(&(*key, caller))?;
            Some((caller.as_str(), marker.reason.as_str(), left))
        };
        let failing = self.failures.last(key).map(|(failure, left)| match failure {
            RefreshFailure::Timeout => ("refresh", "timeout", left),
            RefreshFailure::Other => ("refresh", "failed", left),
        });
        let kinds = [CallerKind::InKey, CallerKind::OutsideKey];
        kinds.into_iter().filter_map(uncacheable).chain(failing).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CacheKey, Arc<InFlightFetch>>> {
        self.by_key.lock()
    }
}

impl InFlightFetch {
    fn new(key: CacheKey, caller: CallerKind, is_joinable: bool) -> Arc<Self> {
        Arc::new(Self {
            key: Mutex::new(key),
            started_at: Instant::now(),
            is_joinable,
            caller,
            start: Arc::default(),
            head: OnceLock::new(),
            outcome: watch::Sender::new(None),
            content: OnceLock::new(),
        })
    }

    pub(super) fn started_at(&self) -> Instant {
        self.started_at
    }

    /// Whether the content has begun, and nothing more of it has arrived for `timeout`.
    pub(super) fn has_stalled(&self, timeout: Duration) -> bool {
        self.content.get().is_some_and(|content| content.has_stalled(timeout))
    }

    /// Whether the leader forwards the same fields as this request would, so that its error is this request's, too.
    pub(super) fn forwards_same_fields(&self, head: &ClientHead) -> bool {
        let key = self.key();
        let fields = |head: &ClientHead| head.key_of_fields(&key);
        self.head.get().is_none_or(|leader| fields(leader) == fields(head))
    }

    fn key(&self) -> CacheKey {
        *self.key.lock()
    }

    /// Waits for the outcome of the fetch.
    pub(super) async fn outcome(&self) -> FetchOutcome {
        let mut outcome = self.outcome.subscribe();
        match outcome.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            _ => FetchOutcome::Interrupted,
        }
    }
}

/// The right to fetch. Dropping it ends the fetch for everyone who waits, also when it panics.
pub(super) struct Leader {
    table: Arc<CollapseTable>,
    fetch: Arc<InFlightFetch>,
}

impl Leader {
    pub(super) fn fetch(&self) -> &Arc<InFlightFetch> {
        &self.fetch
    }

    /// Gives the outcome to everyone who waits; only the first one counts.
    pub(super) fn complete(&self, outcome: FetchOutcome) {
        self.fetch.start.end();
        self.fetch.outcome.send_if_modified(|present| {
            let first = present.is_none();
            present.get_or_insert(outcome);
            first
        });
    }

    /// Ends the fetch: nobody joins any more, and everyone who waits gets the outcome.
    pub(super) fn finish(&self, outcome: FetchOutcome) {
        self.close();
        self.complete(outcome);
    }

    /// Lets no further request join.
    pub(super) fn close(&self) {
        self.unregister(&mut self.table.lock());
    }

    /// The response is one of several variants: others find this fetch under `key` from now on.
    pub(super) fn rekey(&self, key: CacheKey) {
        let mut fetches = self.table.lock();
        if self.unregister(&mut fetches) {
            fetches.entry(key).or_insert_with(|| self.fetch.clone());
            *self.fetch.key.lock() = key;
        }
    }

    pub(super) fn is_joinable(&self) -> bool {
        self.fetch.is_joinable
    }

    /// Names the content that is arriving.
    pub(super) fn set_content(&self, content: &Arc<SharedBody>) {
        _ = self.fetch.content.set(content.clone());
    }

    /// Names the request that is forwarded.
    pub(super) fn set_head(&self, head: &Arc<ClientHead>) {
        _ = self.fetch.head.set(head.clone());
    }

    /// Requests of the same kind of callers are not collapsed for a while, and longer if that was so before: those with the
    /// same fields, or all. Returns for how long, if it is for all.
    pub(super) fn mark_hit_for_miss(&self, reason: Uncacheable) -> Option<Duration> {
        let key = self.marker();
        let was_storable = self.table.storable.active(&key).is_some();
        let requester = self.fetch.head.get().map(|head| Requester::new(&key.0, head));
        let of = match (self.table.hit_for_miss.active(&key), requester) {
            (None, requester) => requester,
            (Some((Marker { of: Some(first), .. }, _)), Some(now)) => {
                let is_found_again =
                    first.fields != now.fields && (!was_storable || first.is_of_other_client(&now));
                (!is_found_again).then_some(now)
            }
            _ => None,
        };
        let lasts = self.table.hit_for_miss.extend(key, Marker { reason, of });
        of.is_none().then_some(lasts)
    }

    /// Like [`Leader::mark_hit_for_miss`], for as long as another replica says.
    pub(super) fn mark_hit_for_miss_for(&self, lasts: Duration) {
        let marker = Marker { reason: Uncacheable::ByReplica, of: None };
        self.table.hit_for_miss.hold(self.marker(), lasts, marker);
    }

    /// Why the last complete response was not stored, if it is marked so.
    pub(super) fn predict_uncacheable(&self) -> Option<NotStored> {
        match self.table.hit_for_miss.active(&self.marker())? {
            (Marker { reason: Uncacheable::ByContent(reason), .. }, _) => Some(reason),
            _ => None,
        }
    }

    /// The response turned out to be storable. A marker for requests with other fields stays.
    pub(super) fn clear_hit_for_miss(&self) {
        let key = self.marker();
        let Some((marker, _)) = self.table.hit_for_miss.active(&key) else {
            return self.table.hit_for_miss.clear(&key);
        };
        self.table.storable.hold(key, MAX_HIT_FOR_MISS, ());
        let fields = self.fetch.head.get().map(|head| head.key_of_fields(&key.0));
        if marker.of.is_none_or(|of| fields == Some(of.fields)) {
            self.table.hit_for_miss.clear(&key);
        }
    }

    /// The fetch for this request that was to replace a stale response failed, or did not.
    pub(super) fn record_refresh(&self, head: &ClientHead, failure: Option<RefreshFailure>) {
        let key = self.fetch.key();
        self.table.failures.record(key, Requester::new(&key, head), failure);
    }

    fn marker(&self) -> (CacheKey, CallerKind) {
        (self.fetch.key(), self.fetch.caller)
    }

    /// Removes the fetch from the table. Whether it was there.
    fn unregister(&self, fetches: &mut HashMap<CacheKey, Arc<InFlightFetch>>) -> bool {
        let key = self.fetch.key();
        let present = fetches.get(&key).is_some_and(|present| Arc::ptr_eq(present, &self.fetch));
        if present {
            fetches.remove(&key);
        }
        present
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.close();
        self.complete(FetchOutcome::Interrupted);
    }
}

#[cfg(test)]
#[path = "single_flight_tests.rs"]
mod tests;
