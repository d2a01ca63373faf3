//! The distributed fetch lease (`collapse: replicas`): one replica fetches, and the others wait for what it stores.

use std::time::Duration;

use tokio::time::Instant;

use super::super::lookup::{CacheRequest, LookupOutcome, Miss, StaleResponse};
use super::super::single_flight::{Leader, MAX_HIT_FOR_MISS};
use super::target::FetchTarget;
use crate::policy::CacheKey;
use crate::policy::cache_status::Fwd;
use crate::policy::route::Collapse;
use crate::store::{FetchLease, LeaseDecision, LeaseOutcome};
use crate::stored_response::StoredResponse;

/// How many fetches of other replicas are waited for in a row. While a purge is pending, none of them is of use.
const MAX_LEASE_WAITS: usize = 3;

/// The lease of a fetch; empty if no other replica waits for it.
#[derive(Default)]
pub(super) struct HeldLease(Option<FetchLease>);

/// Whether this replica fetches.
pub(super) enum LeaseResult {
    /// No other replica is concerned.
    NotNeeded,
    /// It was waited for; this replica fetches now.
    Fetch(HeldLease),
    /// Another replica found the response uncacheable.
    Uncacheable(Duration),
    /// Another replica has stored the response.
    Stored(StoredResponse),
}

impl HeldLease {
    /// Tells the other replicas how the fetch ended; only the first outcome counts.
    pub(super) fn release(&mut self, outcome: LeaseOutcome) {
        if let Some(lease) = self.0.take() {
            lease.release(outcome);
        }
    }

    /// The response is uncacheable: for all requests, for so long, or `None`: for this one.
    pub(super) fn release_marked(&mut self, lasts: Option<Duration>) {
        self.release(lasts.map_or(LeaseOutcome::FAILED, LeaseOutcome::NotShareable));
    }
}

/// Waits for this replica's turn to fetch `key`, for at most the route's `collapse_wait`.
pub(super) async fn acquire(
    target: &FetchTarget,
    key: CacheKey,
    stale: Option<&StaleResponse>,
    leader: &Leader,
) -> LeaseResult {
    if target.route.collapse != Collapse::Replicas
        || !leader.is_joinable()
        || leader.fetch().start.is_beside_another()
    {
        return LeaseResult::NotNeeded;
    }
    let store = &target.proxy().store;
    let end = Instant::now() + target.route.collapse_wait;
    let mut has_looked = stale.is_some();
    for _ in 0..MAX_LEASE_WAITS {
        let left = end.duration_since(Instant::now());
        match store.acquire_fetch_lease(&key, has_looked, left).await {
            LeaseDecision::Acquired(lease) => return LeaseResult::Fetch(HeldLease(Some(lease))),
            LeaseDecision::FetchLocally => break,
            LeaseDecision::NotShareable(lasts) => {
                return LeaseResult::Uncacheable(lasts.min(MAX_HIT_FOR_MISS));
            }
            LeaseDecision::LookAgain => {
                if let Some(stored) = find_stored(target, key, stale).await {
                    return LeaseResult::Stored(stored);
                }
                has_looked = true;
            }
        }
    }
    LeaseResult::Fetch(HeldLease::default())
}

/// Looks for what another replica has stored, as any request would.
async fn find_stored(
    target: &FetchTarget,
    key: CacheKey,
    stale: Option<&StaleResponse>,
) -> Option<StoredResponse> {
    let query = target.query.clone();
    let lookup = target.worker.cache_lookup(&target.route, target.primary, query, target.caller);
    let request = CacheRequest { worker: &target.worker, head: &target.head, lookup: &lookup };
    let hit = match stale {
        None => match request.look_up().await {
            LookupOutcome::Fresh(hit) => Some(hit),
            _ => None,
        },
        // The first tier still has the response that is to be refreshed.
        Some(stale) => {
            request
                .find_remote(&Miss { key, fwd: Fwd::Stale, reason: None, stale: Some(stale.clone()) })
                .await
        }
    };
    hit.map(|hit| hit.stored)
}
