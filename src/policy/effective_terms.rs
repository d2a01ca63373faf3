//! The terms of a response that was stored under an older rule of its route: the stricter of the stored and the
//! current ones. A shortened `ttl` applies to stored responses, a longer one only to new ones.

use std::time::Duration;

use super::classify::CacheLookup;
use super::freshness::ExchangeTimes;
use super::received_response::ReceivedResponse;
use super::storing::may_store_with_age;
use crate::stored_response::{StoredHead, Terms};

/// `None`: the current rule does not allow the response to be kept.
pub(super) fn effective_terms(stored: &StoredHead, lookup: &CacheLookup<'_>) -> Option<Terms> {
    let terms = terms_under_current_rules(stored, lookup)?;
    Some(match lookup.fallback_ttl {
        Some(fallback) => cap_lifetime(terms, fallback),
        None => terms,
    })
}

/// Caps freshness and stale windows at `fallback` after receipt, while the event source that purges the response is
/// silent.
fn cap_lifetime(terms: Terms, fallback: Duration) -> Terms {
    let longest = terms.initial_age.saturating_add(fallback);
    let freshness_lifetime = terms.freshness_lifetime.min(longest);
    let left = longest - freshness_lifetime;
    Terms {
        freshness_lifetime,
        stale_while_revalidate: terms.stale_while_revalidate.min(left),
        stale_if_error: terms.stale_if_error.min(left),
        ..terms
    }
}

fn terms_under_current_rules(stored: &StoredHead, lookup: &CacheLookup<'_>) -> Option<Terms> {
    let route = lookup.route;
    let then = stored.terms();
    if stored.evaluated_under.matches(route.lifetime_fingerprint) {
        return Some(then);
    }
    let exchange = ExchangeTimes { requested_at: then.requested_at, received_at: then.received_at };
    // `assess_stored` checks credentials, with what is stored.
    let caller = super::classify::Caller::InKey;
    let fields = stored.fields.to_map();
    let response = ReceivedResponse { status: stored.status, headers: &fields, exchange };
    let now = may_store_with_age(route, caller, None, response, then.initial_age).ok()?;
    let stricter = Terms {
        freshness_lifetime: then.freshness_lifetime.min(now.freshness_lifetime),
        stale_while_revalidate: then.stale_while_revalidate.min(now.stale_while_revalidate),
        stale_if_error: then.stale_if_error.min(now.stale_if_error),
        always_validate: then.always_validate || now.always_validate,
        must_revalidate: then.must_revalidate || now.must_revalidate,
        open_to_credentials: then.open_to_credentials && now.open_to_credentials,
        expires_at: then.expires_at.min(now.expires_at),
        ..then
    };
    if stricter == then {
        stored.evaluated_under.set(route.lifetime_fingerprint);
    }
    Some(stricter)
}

#[cfg(test)]
#[path = "effective_terms_tests.rs"]
mod tests;
