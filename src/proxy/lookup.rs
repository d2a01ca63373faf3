//! Cache lookup: finds what is stored for a request, and decides whether it may be used.
//!
//! One test, [`CacheRequest::is_reusable`], decides for a response in flight as for a stored one.

use std::sync::Arc;

use http::header::ACCEPT_ENCODING;

use super::client_request::ClientHead;
use super::refresh_window::is_refresh_due;
use super::requester::CallerKind;
use super::single_flight::InFlightResponse;
use super::worker::Worker;
use crate::clock::Timestamp;
use crate::policy::accept_encoding::Negotiated;
use crate::policy::cache_status::{CacheOutcome, Detail, Fwd};
use crate::policy::caller_fields::CallerFields;
use crate::policy::classify::CacheLookup;
use crate::policy::compression::expected_variant;
use crate::policy::credentials::are_credentials_in_key;
use crate::policy::miss_reason::MissReason;
use crate::policy::not_stored::NotStored;
use crate::policy::reuse::{Reuse, assess};
use crate::policy::{CacheKey, Route};
use crate::purge::Validity;
use crate::store::{GetResult, Store, ValidEntry};
use crate::stored_response::{StoredEntry, StoredHead, StoredResponse, Variants};

/// A request on a route that caches.
#[derive(Clone, Copy)]
pub(super) struct CacheRequest<'a> {
    pub worker: &'a Worker,
    pub head: &'a ClientHead,
    pub lookup: &'a CacheLookup<'a>,
}

pub(super) enum LookupOutcome {
    Fresh(CacheHit),
    /// The hit may be served now; the miss is to be fetched in the background.
    Stale(CacheHit, Miss),
    Miss(Miss),
}

/// How far a lookup has come without waiting.
pub(super) enum LookupStep {
    Done(LookupOutcome),
    /// The store has been asked for the entry at the cursor.
    Pending(GetResult, Cursor),
}

/// The entry that a lookup has come to: the primary key's, then each kind of variant's, the latest kind first.
pub(super) struct Cursor {
    key: CacheKey,
    variants: Option<Arc<Variants>>,
    next: usize,
    /// The key of the most recent variant: a fetch goes under it.
    latest: Option<CacheKey>,
    /// The most recent response so far, and its key.
    found: Option<(CacheKey, Found)>,
}

/// A stored response that was found for the request.
struct Found {
    stored: StoredResponse,
    /// When a soft purge named it.
    soft_purged: Option<Timestamp>,
    /// It is not served stale any more.
    is_withdrawn: bool,
}

/// A stored response that answers the request.
pub(super) struct CacheHit {
    pub stored: StoredResponse,
    /// When it was evaluated.
    pub now: Timestamp,
    pub outcome: CacheOutcome,
}

/// A lookup that found nothing to serve: the key to fetch, and a stale response in case that fails.
pub(super) struct Miss {
    /// The key of the response, or of its variant.
    pub key: CacheKey,
    pub fwd: Fwd,
    /// Why there is nothing to serve; `None` where a stored response is to be validated.
    pub reason: Option<MissReason>,
    pub stale: Option<StaleResponse>,
}

/// A stored response that can be validated.
#[derive(Clone)]
pub(super) struct StaleResponse {
    pub response: StoredResponse,
    /// When a soft purge named it.
    pub soft_purged: Option<Timestamp>,
    /// It may be served if the upstream fails (RFC 5861 §4).
    pub if_error: bool,
}

impl CacheRequest<'_> {
    fn store(&self) -> &dyn Store {
        self.worker.proxy.store.as_ref()
    }

    /// The kind of caller that hit-for-miss markers tell apart.
    pub(super) fn caller_kind(&self) -> CallerKind {
        caller_kind(self.lookup.route, self.head, &self.worker.proxy.config.credentials)
    }

    pub(super) async fn look_up(&self) -> LookupOutcome {
        self.finish(self.look_up_sync()).await
    }

    /// Looks up as far as the store answers at once.
    pub(super) fn look_up_sync(&self) -> LookupStep {
        let key = self.lookup.key;
        self.advance(self.store().get(&key), Cursor::new(key))
    }

    /// Completes a lookup that the store did not answer at once.
    pub(super) async fn finish(&self, mut step: LookupStep) -> LookupOutcome {
        loop {
            match step {
                LookupStep::Done(outcome) => return outcome,
                LookupStep::Pending(result, cursor) => {
                    step = self.advance(GetResult::Ready(result.resolve().await), cursor);
                }
            }
        }
    }

    /// Moves the cursor on until a response is found, no variant is left, or the store has to be waited for.
    pub(super) fn advance(&self, mut result: GetResult, mut cursor: Cursor) -> LookupStep {
        loop {
            let entry = match result {
                GetResult::Ready(entry) => entry,
                pending => return LookupStep::Pending(pending, cursor),
            };
            match entry {
                Some(ValidEntry { stored: StoredEntry::Response(response), soft_purged }) => {
                    let found = Found { stored: response, soft_purged, is_withdrawn: false };
                    if cursor.variants.is_none() {
                        return LookupStep::Done(self.evaluate(found, cursor.key));
                    }
                    cursor.keep_latest(found);
                }
                Some(ValidEntry { stored: StoredEntry::Variants(variants), .. }) => {
                    cursor.variants.get_or_insert(variants);
                }
                None => {}
            }
            match cursor.select_next_variant(self) {
                Some(key) => result = self.store().get(&key),
                None => {
                    return LookupStep::Done(match cursor.found.take() {
                        Some((key, found)) => self.evaluate(found, key),
                        None => LookupOutcome::Miss(cursor.into_miss(self.store())),
                    });
                }
            }
        }
    }

    /// Looks in the first tier alone: a fetch that ended meanwhile may have stored the response.
    pub(super) fn find_local(&self, key: CacheKey) -> Option<CacheHit> {
        let found = self.store().get_local(&key)?;
        let StoredEntry::Response(response) = found.stored else { return None };
        self.evaluate(Found::fresh_only(response, found.soft_purged), key).fresh()
    }

    /// Looks past the first tier: another replica may have stored a newer response.
    pub(super) async fn find_remote(&self, miss: &Miss) -> Option<CacheHit> {
        let found = self.store().get_remote(&miss.key).await?;
        let StoredEntry::Response(response) = found.stored else { return None };
        let known = miss.stale.as_ref().map(|stale| stale.response.head.terms().requested_at);
        if known.is_some_and(|known| response.head.terms().requested_at <= known) {
            return None;
        }
        self.evaluate(Found::fresh_only(response, found.soft_purged), miss.key).fresh()
    }

    /// Decides what a stored response is to this request. `key` is the key that it was found under.
    fn evaluate(&self, found: Found, key: CacheKey) -> LookupOutcome {
        let CacheRequest { worker, head, lookup } = *self;
        let Found { stored, soft_purged, is_withdrawn } = found;
        let miss = |if_error| {
            let stale = Some(StaleResponse { response: stored.clone(), soft_purged, if_error });
            Miss { key, fwd: Fwd::Stale, reason: None, stale }
        };
        let now = worker.proxy.clock.now();
        let reuse = assess(&stored.head, &lookup.with_key(key), &head.as_policy(), soft_purged, now);
        match if is_withdrawn { reuse.without_stale_windows() } else { reuse } {
            Reuse::Fresh { ttl, .. } => {
                let is_due = is_refresh_due(&stored.head, ttl, lookup.route, head.refresh, now);
                let miss = is_due.then(|| miss(!is_withdrawn));
                let hit = CacheHit { stored, now, outcome: CacheOutcome::Hit { ttl, detail: None } };
                match miss {
                    Some(miss) => LookupOutcome::Stale(hit, miss),
                    None => LookupOutcome::Fresh(hit),
                }
            }
            Reuse::StaleWhileRevalidate { ttl, .. } => {
                let miss = miss(true);
                let outcome = CacheOutcome::Hit { ttl, detail: Some(Detail::StaleWhileRevalidate) };
                LookupOutcome::Stale(CacheHit { stored, now, outcome }, miss)
            }
            Reuse::StaleOnRequest { ttl, .. } => {
                let outcome = CacheOutcome::Hit { ttl, detail: Some(Detail::StaleOnRequest) };
                LookupOutcome::Fresh(CacheHit { stored, now, outcome })
            }
            Reuse::Validate { if_error, .. } => LookupOutcome::Miss(miss(if_error)),
            Reuse::ValidateOnRequest { .. } => LookupOutcome::Miss(Miss { fwd: Fwd::Request, ..miss(false) }),
            Reuse::No(reason) => {
                let fwd = reason.fwd_of_found();
                LookupOutcome::Miss(Miss { key, fwd, reason: Some(reason), stale: None })
            }
        }
    }

    /// Whether this response answers this request, stored or not yet stored.
    pub(super) fn is_hit(&self, response: &StoredHead, joined: CacheKey) -> bool {
        self.is_reusable(response, self.validity(response), joined)
    }

    fn validity(&self, response: &StoredHead) -> Validity {
        self.store().validity(&response.stamp, &response.targets)
    }

    /// The validity of a response in flight. Until all its tags are known, any purge may name it.
    pub(super) fn validity_in_flight(&self, shared: &InFlightResponse) -> Validity {
        match shared.has_all_tags {
            true => self.validity(&shared.head),
            false if self.store().is_unpurged_since(&shared.head.stamp) => Validity::Valid,
            false => Validity::Dead,
        }
    }

    /// Whether this response answers this request, given its validity. `joined`: the key of the fetch that brings it.
    pub(super) fn is_reusable(&self, response: &StoredHead, validity: Validity, joined: CacheKey) -> bool {
        let soft_purged = match validity {
            Validity::Dead => return false,
            validity => validity.soft_purged(),
        };
        let now = self.worker.proxy.clock.now();
        // A variant's key was made of this request's own fields.
        let key = if response.key == joined { joined } else { self.lookup.key };
        let lookup = self.lookup.with_key(key);
        let reuse = assess(response, &lookup, &self.head.as_policy(), soft_purged, now);
        match reuse {
            Reuse::Fresh { .. } => true,
            // It may be served stale at once, and was fetched for this very moment.
            Reuse::StaleWhileRevalidate { .. } => soft_purged.is_none(),
            _ => false,
        }
    }
}

pub(super) fn caller_kind(route: &Route, head: &ClientHead, caller_fields: &CallerFields) -> CallerKind {
    match are_credentials_in_key(route, &head.parts.headers, caller_fields) {
        true => CallerKind::InKey,
        false => CallerKind::OutsideKey,
    }
}

impl Miss {
    /// Whether what is stored answers other queries than the one that the client sent.
    pub(super) fn is_of_other_query(&self) -> bool {
        self.reason == Some(MissReason::OtherQuery)
    }

    /// The outcome of a request whose response was not stored. Where something is stored for others, that is the reason.
    pub(super) fn not_stored(&self, reason: NotStored) -> CacheOutcome {
        let detail = match self.reason {
            Some(MissReason::OtherCaller) if reason == NotStored::Credentials => {
                Detail::Miss(MissReason::OtherCaller)
            }
            _ => Detail::NotStored(reason),
        };
        CacheOutcome::forwarded(self.fwd, Some(detail))
    }
}

impl Found {
    /// A response that is used only if it is fresh.
    fn fresh_only(stored: StoredResponse, soft_purged: Option<Timestamp>) -> Self {
        Self { stored, soft_purged, is_withdrawn: false }
    }
}

impl LookupOutcome {
    /// The response that a fetch would replace, also if it is fresh.
    pub(super) fn into_miss(self) -> Miss {
        match self {
            LookupOutcome::Stale(_, miss) | LookupOutcome::Miss(miss) => miss,
            LookupOutcome::Fresh(CacheHit { stored, .. }) => {
                let key = stored.head.key;
                let stale = Some(StaleResponse { response: stored, soft_purged: None, if_error: false });
                Miss { key, fwd: Fwd::Request, reason: None, stale }
            }
        }
    }

    fn fresh(self) -> Option<CacheHit> {
        match self {
            LookupOutcome::Fresh(hit) => Some(hit),
            _ => None,
        }
    }
}

impl Cursor {
    fn new(key: CacheKey) -> Self {
        Self { key, variants: None, next: 0, latest: None, found: None }
    }

    /// Keeps the most recent response of all kinds that match the request (RFC 9111 §4).
    fn keep_latest(&mut self, found: Found) {
        let requested_at = |found: &Found| found.stored.head.terms().requested_at;
        if self.found.as_ref().is_some_and(|(_, kept)| requested_at(kept) >= requested_at(&found)) {
            return;
        }
        let variants = self.variants.as_ref();
        let is_withdrawn = variants.is_some_and(|variants| variants.have_withdrawn(&found.stored.head));
        self.found = Some((self.key, Found { is_withdrawn, ..found }));
    }

    fn select_next_variant(&mut self, request: &CacheRequest<'_>) -> Option<CacheKey> {
        let variants = self.variants.as_ref()?;
        let fields = variants.fields.get(self.next)?;
        self.next += 1;
        let request_head = request.head.as_policy();
        let negotiated = match fields.names().contains(&ACCEPT_ENCODING) {
            true => expected_variant(request.lookup.route, request_head.headers, variants.codings),
            // The key has no part for it.
            false => Negotiated::Verbatim,
        };
        self.key = request.lookup.key.variant_key(fields, &request_head, negotiated);
        self.latest.get_or_insert(self.key);
        Some(self.key)
    }

    fn into_miss(self, store: &dyn Store) -> Miss {
        let key = self.latest.unwrap_or(self.key);
        let (fwd, otherwise) = match self.variants {
            Some(_) => (Fwd::VaryMiss, MissReason::OtherVariant),
            None => (Fwd::UriMiss, MissReason::NeverStored),
        };
        let reason = store.find_absence(&key).unwrap_or(otherwise);
        let fwd = if reason == MissReason::StoreUnavailable { reason.fwd_of_found() } else { fwd };
        Miss { key, fwd, reason: Some(reason), stale: None }
    }
}

impl StaleResponse {
    /// Whether it may still be served or validated at `now`.
    pub(super) fn is_usable(&self, now: Timestamp) -> bool {
        now < self.response.head.terms().expires_at
    }

    /// The same with its present validity; `None` if it was purged since it was found.
    pub(super) fn recheck(&self, store: &dyn Store) -> Option<Self> {
        let head = &self.response.head;
        match store.validity(&head.stamp, &head.targets) {
            Validity::Dead => None,
            validity => Some(Self { soft_purged: validity.soft_purged(), ..self.clone() }),
        }
    }
}
