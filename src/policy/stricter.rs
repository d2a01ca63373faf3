//! What was stored under an older rule of its route obeys the stricter of both: the one of then, which stands in its
//! terms, and the one of now. So a `ttl` that is shortened is shortened for what is stored too, and one that is
//! lengthened only for what comes.

use std::time::Duration;

use super::classify::Lookup;
use super::storing::{Exchange, may_keep};
use crate::stored_response::{StoredHead, Terms};

/// `None`: under the rule of now it would not be kept at all.
pub(super) fn terms(stored: &StoredHead, lookup: &Lookup<'_>) -> Option<Terms> {
    let terms = of_rules(stored, lookup)?;
    Some(match lookup.fallback_ttl {
        Some(fallback) => no_longer_than(terms, fallback),
        None => terms,
    })
}

/// What would purge it is silent: neither fresh nor served stale for longer than this, counted from its receipt.
fn no_longer_than(terms: Terms, fallback: Duration) -> Terms {
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

fn of_rules(stored: &StoredHead, lookup: &Lookup<'_>) -> Option<Terms> {
    let route = lookup.route;
    let then = stored.terms();
    if stored.judged_by.is(route.lifetimes) {
        return Some(then);
    }
    let exchange = Exchange { requested_at: then.requested_at, received_at: then.received_at };
    // Credentials are judged apart, by what is stored.
    let caller = super::classify::Caller::InKey;
    let fields = stored.fields.to_map();
    let now = may_keep(route, caller, None, stored.status, &fields, (exchange, then.initial_age)).ok()?;
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
        stored.judged_by.set(route.lifetimes);
    }
    Some(stricter)
}

#[cfg(test)]
#[path = "stricter_tests.rs"]
mod tests;
