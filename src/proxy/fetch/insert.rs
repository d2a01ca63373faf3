//! Inserts a fetched response into the store, and announces the variants of its key.

use std::sync::Arc;

use super::super::single_flight::MAX_HIT_FOR_MISS;
use super::target::FetchTarget;
use crate::clock::Timestamp;
use crate::policy::accept_encoding::{Codings, Negotiated};
use crate::policy::compression::learn_codings;
use crate::policy::not_stored::NotStored;
use crate::policy::vary::Vary;
use crate::store::{FetchToken, LeaseOutcome, StoreError};
use crate::stored_response::{StoredEntry, StoredHead, StoredResponse, Variants};

/// How many different `Vary` fields are remembered for one key.
const MAX_VARY_KINDS: usize = 4;

/// Stores the response. The first tier has it when this returns; the future is the rest, and its result is for the other
/// replicas.
pub(super) fn insert(
    target: &FetchTarget,
    token: &FetchToken,
    response: StoredResponse,
) -> impl Future<Output = LeaseOutcome> + use<> {
    target.proxy().collapse_table.record_stored(&target.primary, &response.head.key, &target.head);
    let (metrics, route) = (target.proxy().metrics.clone(), target.route.index);
    let size = response.body.len() as u64;
    let (store, key) = (target.proxy().store.clone(), response.head.key);
    let token = token.for_variant(key);
    let inserting = (!is_outdated(target, &token, &response.head))
        .then(|| store.insert(token, StoredEntry::Response(response)));
    async move {
        let Some(inserting) = inserting else { return LeaseOutcome::Stored };
        match inserting.await {
            Ok(()) => {
                metrics.record_fill(route, Ok(size));
                LeaseOutcome::Stored
            }
            Err(error) => {
                tracing::debug!(%error, "response not stored");
                match error {
                    StoreError::Outdated => LeaseOutcome::Stored,
                    StoreError::TooLarge => {
                        // The first tier may have it all the same.
                        if store.get_local(&key).is_none() {
                            metrics.record_fill(route, Err(NotStored::TooLarge));
                        }
                        LeaseOutcome::FetchLocally(MAX_HIT_FOR_MISS)
                    }
                    _ => LeaseOutcome::FAILED,
                }
            }
        }
    }
}

/// Replaces a stored response by an amended one, unless another has taken its place meanwhile.
pub(super) fn replace(
    target: &FetchTarget,
    token: &FetchToken,
    amended: StoredResponse,
) -> impl Future<Output = ()> + use<> {
    let store = &target.proxy().store;
    let token = token.for_variant(amended.head.key);
    let inserting = (!is_outdated(target, &token, &amended.head))
        .then(|| store.insert(token, StoredEntry::Response(amended)));
    async move {
        if let Some(inserting) = inserting
            && let Err(error) = inserting.await
        {
            tracing::debug!(%error, "stored response of a resource that is gone not replaced");
        }
    }
}

/// Whether a response of a later fetch is stored already: the most recent one is used (RFC 9111 §4).
fn is_outdated(target: &FetchTarget, token: &FetchToken, head: &StoredHead) -> bool {
    let present = target.proxy().store.get_local(token.key());
    present.is_some_and(|present| match present.stored {
        StoredEntry::Response(stored) => {
            present.soft_purged.is_none() && stored.head.terms().requested_at > head.terms().requested_at
        }
        StoredEntry::Variants(_) => false,
    })
}

/// Where the responses of one key differ by request fields, makes the later requests look for their own variant.
pub(super) fn announce_variant(target: &FetchTarget, token: &FetchToken, head: &StoredHead) {
    let store = &target.proxy().store;
    let before = match store.get_local(&target.primary).map(|found| found.stored) {
        Some(StoredEntry::Variants(variants)) => Some(variants),
        _ => None,
    };
    // A response without Vary is stored as one of the kind that is known.
    let fields = match head.vary(&target.route.ignore_vary) {
        Vary::Fields(fields) => Some(fields),
        Vary::Nothing | Vary::Everything => None,
    };
    let known = before.iter().flat_map(|variants| variants.fields.iter()).cloned();
    let known = known.filter(|known| Some(known) != fields.as_ref());
    let fields = fields.clone().into_iter().chain(known).take(MAX_VARY_KINDS).collect();
    let latest = before.as_ref().map_or(head.terms().expires_at, |variants| variants.expires_at);
    let expires_at = latest.max(head.terms().expires_at);
    let request = &target.head.parts.headers;
    let codings = before.as_ref().map_or(Codings::default(), |variants| variants.codings);
    let response = head.fields.to_map();
    let received = Negotiated::received(request, &response);
    let codings = learn_codings(&target.route, request, codings, (received, &response));
    let withdrawn_at = before.as_ref().and_then(|variants| variants.withdrawn_at);
    insert_variants(target, token, Variants { fields, codings, expires_at, withdrawn_at });
}

/// The resource was found to be gone at `now`: no variant that was requested before is served stale.
pub(super) fn withdraw_variants(target: &FetchTarget, token: &FetchToken, now: Timestamp) {
    let found = target.proxy().store.get_local(&target.primary);
    if let Some(StoredEntry::Variants(variants)) = found.map(|found| found.stored)
        && variants.withdrawn_at < Some(now)
    {
        insert_variants(target, token, Variants { withdrawn_at: Some(now), ..(*variants).clone() });
    }
}

fn insert_variants(target: &FetchTarget, token: &FetchToken, variants: Variants) {
    let variants = StoredEntry::Variants(Arc::new(variants));
    let inserted = target.proxy().store.insert(token.for_variant(target.primary), variants);
    tokio::spawn(inserted);
}
