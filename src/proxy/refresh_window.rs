//! Decides when a fresh response is due to be fetched again, ahead of its expiry.

use std::time::Duration;

use super::client_request::RefreshPolicy;
use crate::clock::Timestamp;
use crate::policy::Route;
use crate::stored_response::{StoredHead, Terms};

/// Minimum time between two attempts to refresh the same response ahead of its expiry.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Whether a response that is fresh for `ttl` more seconds is to be fetched again already.
pub(super) fn is_refresh_due(
    stored: &StoredHead,
    ttl: i64,
    route: &Route,
    policy: Option<RefreshPolicy>,
    now: Timestamp,
) -> bool {
    if policy.is_none() && route.refresh_ahead.is_zero() {
        return false;
    }
    let left = Duration::from_secs(u64::try_from(ttl).unwrap_or_default());
    match policy {
        Some(RefreshPolicy::Renew(window)) => left <= window,
        Some(RefreshPolicy::Keep(window)) => is_within_window(window, left, &stored.terms()),
        None => {
            is_within_window(route.refresh_ahead, left, &stored.terms()) && stored.usage.is_refresh_due(now)
        }
    }
}

/// Whether `left` is within the window, and less than half of what the response had on arrival.
fn is_within_window(window: Duration, left: Duration, terms: &Terms) -> bool {
    let had = terms.freshness_lifetime.saturating_sub(terms.initial_age);
    left <= window.min(had / 2)
}

/// Claims the next refresh ahead of expiry. It may be claimed again when half of what is left has passed.
pub(super) fn claim_refresh(stored: &StoredHead, now: Timestamp) -> bool {
    let left = stored.terms().freshness_lifetime.saturating_sub(stored.terms().age(now));
    stored.usage.claim_refresh(now, now.plus((left / 2).max(MIN_REFRESH_INTERVAL)))
}
