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
use super::requester::{CallerKind, Requester};
use super::shared_body::SharedBody;
use super::withdrawals::Withdrawals;
use crate::clock::{Clock, Timestamp};
use crate::policy::not_stored::NotStored;
use crate::policy::route::Collapse;
use crate::policy::{CacheKey, Route};
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
    withdrawals: Withdrawals,
    failures: RefreshFailures,
    refusing: Semaphore,
    clock: Clock,
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

/// How long a fetch may take to the header section before another request goes to the upstream.
pub(super) fn collapse_patience(route: &Route) -> Duration {
    let lease_wait = match route.collapse {
        Collapse::Replicas => route.collapse_wait,
        Collapse::No | Collapse::Local => Duration::ZERO,
    };
    route.collapse_timeout + lease_wait
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
    /// The same by the clock of responses.
    began: Timestamp,
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
            withdrawals: Withdrawals::new(clock.clone(), MIN_HIT_FOR_MISS, MAX_HIT_FOR_MISS),
            failures: RefreshFailures::new(clock.clone()),
            refusing: Semaphore::new(MAX_REFUSING_FETCHES),
            clock,
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
    /// for all variants.
    pub(super) fn may_withdraw(&self, key: &CacheKey, head: &ClientHead) -> bool {
        self.withdrawals.may_withdraw(key, &Requester::new(key, head))
    }

    /// The response to this request is stored, under the key of its variant.
    pub(super) fn record_stored(&self, primary: &CacheKey, variant: &CacheKey, head: &ClientHead) {
        self.withdrawals.record_stored(primary, || head.key_of_fields(primary));
        if variant != primary {
            self.withdrawals.record_stored(variant, || head.key_of_fields(variant));
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
                let fetch = InFlightFetch::new(key, caller, true, self.clock.now());
                entry.insert_entry(fetch.clone());
                Join::Leader(Leader { table: self.clone(), fetch })
            }
        }
    }

    /// Leads the refresh of a stale response, also of an uncacheable key. `None`: another fetch is under way that may store
    /// it and has not stalled, or the last ones failed and the back-off is not over. The response to a caller
    /// outside the key may be for that caller alone, so one in the key does not wait for it.
    pub(super) fn lead_refresh(
        self: &Arc<Self>,
        key: &CacheKey,
        caller: CallerKind,
        route: &Route,
        requester: impl FnOnce() -> Requester,
    ) -> Option<Leader> {
        if !self.failures.may_refresh(&(*key, caller), requester) {
            return None;
        }
        let holds_back = |present: &InFlightFetch| {
            (caller == CallerKind::OutsideKey || present.caller == CallerKind::InKey)
                && !present.has_stalled(route)
        };
        match self.lock().entry(*key) {
            Entry::Occupied(present) if holds_back(present.get()) => None,
            entry => {
                let fetch = InFlightFetch::new(*key, caller, true, self.clock.now());
                entry.insert_entry(fetch.clone());
                Some(Leader { table: self.clone(), fetch })
            }
        }
    }

    /// Leads a fetch that no request can join.
    pub(super) fn lead_unshared(self: &Arc<Self>, key: &CacheKey, caller: CallerKind) -> Leader {
        let fetch = InFlightFetch::new(*key, caller, false, self.clock.now());
        Leader { table: self.clone(), fetch }
    }

    /// Waits until fewer than [`MAX_REFUSING_FETCHES`] such requests fetch, so that they are no crowd at an upstream that
    /// fails; but not longer than `timeout`, so that slow ones do not hold up others. Dropping the permit ends the turn.
    pub(super) async fn take_turn(&self, timeout: Duration) -> Option<SemaphorePermit<'_>> {
        tokio::time::timeout(timeout, self.refusing.acquire()).await.ok()?.ok()
    }

    /// Whether the upstream failed when `key` was last fetched, and the back-off is not over for this request.
    pub(super) fn is_failing(
        &self,
        key: &CacheKey,
        caller: CallerKind,
        requester: impl FnOnce() -> Requester,
    ) -> bool {
        let key = &(*key, caller);
        self.failures.last(key).is_some_and(|(failure, _)| failure.is_error())
            && !self.failures.may_refresh(key, requester)
    }

    /// Returns the kinds of callers held back for `key`, with reason and remaining time, for operators.
    pub(super) fn describe(&self, key: &CacheKey) -> Vec<(&'static str, &'static str, Duration)> {
        let uncacheable = |caller: CallerKind| {
            let (marker, left) = self.hit_for_miss.active(&(*key, caller))?;
            Some((caller.collapse_as_str(), marker.reason.as_str(), left))
        };
        let failing = |caller: CallerKind| {
            let (failure, left) = self.failures.last(&(*key, caller))?;
            Some((caller.refresh_as_str(), failure.as_str(), left))
        };
        let kinds = [CallerKind::InKey, CallerKind::OutsideKey].into_iter();
        kinds.clone().filter_map(uncacheable).chain(kinds.filter_map(failing)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CacheKey, Arc<InFlightFetch>>> {
        self.by_key.lock()
    }
}

impl InFlightFetch {
    fn new(key: CacheKey, caller: CallerKind, is_joinable: bool, began: Timestamp) -> Arc<Self> {
        Arc::new(Self {
            key: Mutex::new(key),
            started_at: Instant::now(),
            began,
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

    /// Whether nothing has arrived for the time that the route allows: no header section, or nothing more of the content.
    pub(super) fn has_stalled(&self, route: &Route) -> bool {
        match self.content.get() {
            Some(content) => content.has_stalled(route.collapse_timeout),
            None => self.outcome.borrow().is_none() && self.started_at.elapsed() >= collapse_patience(route),
        }
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
        let lasts = self.table.hit_for_miss.extend(key, self.fetch.began, Marker { reason, of });
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

    /// The fetch for this request that was to replace a stale response has failed.
    pub(super) fn record_refresh_failure(&self, head: &ClientHead, failure: RefreshFailure) {
        let (key, fetch) = (self.marker(), &self.fetch);
        self.table.failures.record(key, fetch.began, Requester::new(&key.0, head), failure);
    }

    /// The fetch has stored, freshened or withdrawn the response under `key`.
    pub(super) fn clear_refresh_failures(&self, key: CacheKey) {
        self.table.failures.clear(&(key, self.fetch.caller));
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
