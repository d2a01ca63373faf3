//! Fetching anew what is still good, or may still be served: nobody waits for it, one fetch does for all, and what another
//! replica has renewed already is taken from the shared store. What comes back takes the place of what is stored only if
//! it may be stored itself.

use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use super::collapsing::{Landing, Seat};
use super::errand::Errand;
use super::fetching::Fetch;
use super::finding::{Finding, Miss, Usable};
use super::intake::ClientHead;
use crate::clock::Timestamp;
use crate::policy::Route;
use crate::policy::classify::Lookup;
use crate::stored_response::{Stored, StoredHead, Terms};

/// Between two attempts to renew the same, however little is left.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

impl Worker {
    /// Whether what is fresh for `ttl` more seconds is to be fetched anew already.
    pub(super) fn is_due(&self, stored: &StoredHead, ttl: i64, route: &Route, head: &ClientHead) -> bool {
        let left = Duration::from_secs(u64::try_from(ttl).unwrap_or_default());
        match head.errand {
            Some(Errand::Renew(window)) => left <= window,
            Some(Errand::Keep(window)) => is_within(window, left, &stored.terms()),
            None if route.refresh_ahead.is_zero() => false,
            None => {
                is_within(route.refresh_ahead, left, &stored.terms())
                    && stored.usage.may_be_renewed(self.proxy.clock.now())
            }
        }
    }

    /// Fetches what was just served from the store, unless that is under way.
    pub(super) fn fetch_behind(&self, head: &Arc<ClientHead>, lookup: &Lookup<'_>, miss: Miss) {
        let now = self.proxy.clock.now();
        let ahead = miss.stale.as_ref().filter(|stale| stale.response.head.terms().is_fresh(now));
        if ahead.is_some_and(|stale| !claims(&stale.response.head, now)) {
            return;
        }
        let Seat::Leader(leader) = self.proxy.flights.join(&miss.key, None) else { return };
        if ahead.is_some() {
            self.proxy.metrics.refreshed_ahead();
        }
        if self.proxy.store.remote().is_none() {
            Fetch::new(self, head, lookup, &miss).start(leader);
            return;
        }
        let (worker, head, route) = (self.clone(), head.clone(), lookup.route.clone());
        let Lookup { key, caller, fallback_ttl, .. } = *lookup;
        let query = lookup.query.clone();
        self.proxy.tasks.spawn(async move {
            let lookup = Lookup { route: &route, key, query, caller, fallback_ttl };
            if worker.find_beyond(&lookup, &head, &miss).await.is_some() {
                leader.close();
                leader.land(Landing::LookAgain);
            } else {
                Fetch::new(&worker, &head, &lookup, &miss).start(leader);
            }
        });
    }

    /// A look past the first tier, by the one who has just been given the lead: another replica may have stored a newer
    /// one.
    pub(super) async fn find_beyond(
        &self,
        lookup: &Lookup<'_>,
        head: &ClientHead,
        miss: &Miss,
    ) -> Option<Usable> {
        let found = self.proxy.store.recall_shared(&miss.key).await?;
        let Stored::Response(response) = found.stored else { return None };
        let known = miss.stale.as_ref().map(|stale| stale.response.head.terms().requested_at);
        if known.is_some_and(|known| response.head.terms().requested_at <= known) {
            return None;
        }
        match self.weigh(response, found.soft_purged, lookup, miss.key, head) {
            Finding::Fresh(usable) => Some(usable),
            _ => None,
        }
    }
}

/// Never more than half of what it had when it came: however long the window, it is not fetched again and again.
fn is_within(window: Duration, left: Duration, terms: &Terms) -> bool {
    let had = terms.freshness_lifetime.saturating_sub(terms.initial_age);
    left <= window.min(had / 2)
}

/// Once, and should that bring nothing, again when half of what is left has passed.
fn claims(stored: &StoredHead, now: Timestamp) -> bool {
    let left = stored.terms().freshness_lifetime.saturating_sub(stored.terms().age(now));
    stored.usage.claim_renewal(now, now.plus((left / 2).max(SHORTEST_PAUSE)))
}
