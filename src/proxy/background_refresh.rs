//! Background refresh: fetches a response again that was just served stale, or is soon due (`refresh_ahead`).
//!
//! No client waits for it. One fetch serves all, and a newer response of another replica is taken from the shared store.

use std::sync::Arc;

use super::client_request::ClientHead;
use super::fetch::{CostBearer, Fetch};
use super::lookup::{CacheRequest, Miss};
use super::refresh_window::claim_refresh;
use super::requester::Requester;
use super::single_flight::FetchOutcome;
use super::worker::Worker;
use crate::policy::classify::CacheLookup;

/// Starts the fetch, unless one is under way or the last ones failed. A key that is marked as uncacheable is refreshed, too
/// (RFC 5861 §3).
pub(super) fn refresh_in_background(
    worker: &Worker,
    head: &Arc<ClientHead>,
    lookup: &CacheLookup<'_>,
    miss: Miss,
) {
    let proxy = &worker.proxy;
    let now = proxy.clock.now();
    let fresh = miss.stale.as_ref().filter(|stale| stale.response.head.terms().is_fresh(now));
    if fresh.is_some_and(|stale| !claim_refresh(&stale.response.head, now)) {
        return;
    }
    let caller = CacheRequest { worker, head, lookup }.caller_kind();
    let requester = || Requester::new(&miss.key, head);
    let lead = proxy.collapse_table.lead_refresh(&miss.key, caller, lookup.route, requester);
    let Some(leader) = lead else { return };
    let request = CacheRequest { worker, head, lookup };
    if fresh.is_none() && request.find_local(miss.key).is_some() {
        // A refresh has ended since the lookup.
        return leader.finish(FetchOutcome::Retry);
    }
    if fresh.is_some() {
        proxy.metrics.record_refresh_ahead();
    }
    if proxy.store.remote_status().is_none() {
        Fetch::new(worker, head, lookup, &miss, CostBearer::Larder).start(leader);
        return;
    }
    let (worker, head, route) = (worker.clone(), head.clone(), lookup.route.clone());
    let (key, query, caller) = (lookup.key, lookup.query.clone(), lookup.caller);
    proxy.tasks.spawn(async move {
        let lookup = worker.cache_lookup(&route, key, query, caller);
        let request = CacheRequest { worker: &worker, head: &head, lookup: &lookup };
        if miss.key != key {
            // Another replica may have found that all variants are gone.
            worker.proxy.store.get_remote(&key).await;
        }
        if request.find_remote(&miss).await.is_some() {
            leader.finish(FetchOutcome::Retry);
        } else {
            Fetch::new(&worker, &head, &lookup, &miss, CostBearer::Larder).start(leader);
        }
    });
}
