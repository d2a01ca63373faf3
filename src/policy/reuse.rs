//! Decides whether a stored response may answer a request (RFC 9111 §4).

use std::time::Duration;

use super::RequestHead;
use super::cache_control::CacheControl;
use super::classify::CacheLookup;
use super::effective_terms;
use super::miss_reason::MissReason;
use super::request_directives::{accepts_stale, exceeds_max_age, honored_directives, requires_validation};
use super::vary::Vary;
use crate::clock::Timestamp;
use crate::stored_response::{StoredHead, Terms};

/// Whether and how a stored response answers a request (RFC 9111 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Fresh.
    Fresh {
        /// The response's age.
        age: Duration,
        /// Remaining freshness in seconds.
        ttl: i64,
    },
    /// Stale; may be served while it is revalidated in the background.
    StaleWhileRevalidate {
        /// The response's age.
        age: Duration,
        /// Negative: seconds since it became stale.
        ttl: i64,
    },
    /// Must be validated first. `if_error`: may be served stale if the upstream fails.
    Validate {
        /// The response's age.
        age: Duration,
        /// Negative: seconds since it became stale.
        ttl: i64,
        /// It may be served stale if the upstream fails.
        if_error: bool,
    },
    /// Usable, but the request asks for validation (§5.2.1), on a route that honours it.
    ValidateOnRequest {
        /// The response's age.
        age: Duration,
        /// Remaining freshness in seconds.
        ttl: i64,
    },
    /// Stale, and the request accepts that (`max-stale`), on a route that honours it.
    StaleOnRequest {
        /// The response's age.
        age: Duration,
        /// Negative: seconds since it became stale.
        ttl: i64,
    },
    /// It does not answer the request.
    No(MissReason),
}

impl Reuse {
    /// The same for a response that is not to be served stale.
    #[must_use]
    pub(crate) fn without_stale_windows(self) -> Self {
        match self {
            Reuse::StaleWhileRevalidate { age, ttl }
            | Reuse::StaleOnRequest { age, ttl }
            | Reuse::Validate { age, ttl, .. } => Reuse::Validate { age, ttl, if_error: false },
            Reuse::Fresh { .. } | Reuse::ValidateOnRequest { .. } | Reuse::No(_) => self,
        }
    }
}

/// Follows the order of §4. `lookup.key` is the key of the request or of its variant. `soft_purged`: since when the response
/// counts as stale because of a soft purge.
///
/// Directives of the request (§5.2.1) come last, on routes that honour them.
pub fn assess(
    stored: &StoredHead,
    lookup: &CacheLookup<'_>,
    request: &RequestHead<'_>,
    soft_purged: Option<Timestamp>,
    now: Timestamp,
) -> Reuse {
    // "the presented target URI and that of the stored response match"; "the request method associated with the
    // stored response allows it to be used"; "request header fields nominated by the stored response (if any)
    // match" (§4.1): the key covers all three. The fingerprint covers the route's rules.
    if !matches_key(stored, lookup, request) || stored.fingerprint != lookup.route.fingerprint {
        return Reuse::No(MissReason::OtherRules);
    }
    // draft-ietf-httpbis-no-vary-search: "… or are equivalent, given the variance obtained from the stored response".
    if !lookup.covers_query(stored) {
        return Reuse::No(MissReason::OtherQuery);
    }
    // A response stored under an older rule is subject to the stricter of both.
    let Some(terms) = effective_terms::effective_terms(stored, lookup) else {
        return Reuse::No(MissReason::OtherRules);
    };

    let found = assess_stored(&terms, lookup, soft_purged, now);
    match honored_directives(lookup.route, request.headers) {
        // The content may have changed, so `max-stale` does not cover it.
        Some(directives) if soft_purged.is_none() => {
            apply_request_directives(found, &directives, &terms, now)
        }
        _ => found,
    }
}

/// The assessment without the request's directives.
fn assess_stored(
    terms: &Terms,
    lookup: &CacheLookup<'_>,
    soft_purged: Option<Timestamp>,
    now: Timestamp,
) -> Reuse {
    // §3.5 also applies to a response that was fetched without credentials.
    if !lookup.caller.is_in_key() && !terms.open_to_credentials {
        return Reuse::No(MissReason::OtherCaller);
    }

    if lookup.caller.has_expired(now) {
        return Reuse::No(MissReason::ExpiredCaller);
    }

    if now >= terms.expires_at {
        return Reuse::No(MissReason::Expired);
    }

    let is_fresh = terms.is_fresh(now) && soft_purged.is_none();
    let age = terms.age(now);
    let ttl = if soft_purged.is_some() { terms.ttl(now).min(0) } else { terms.ttl(now) };

    // "the stored response does not contain the no-cache directive, unless it is successfully validated".
    if terms.always_validate {
        return Reuse::Validate { age, ttl, if_error: false };
    }

    // "the stored response is one of the following: fresh …".
    if is_fresh {
        return Reuse::Fresh { age, ttl };
    }

    // "… allowed to be served stale (§4.2.4)": RFC 5861 §3 and §4. must-revalidate has closed the windows when the
    // response was stored. A soft purge begins them, if the end of freshness has not before.
    let is_within = |window: Duration| {
        !window.is_zero()
            && terms.is_within_stale_window(window, now)
            && soft_purged.is_none_or(|since| now.since(since) < window)
    };
    if is_within(terms.stale_while_revalidate) {
        return Reuse::StaleWhileRevalidate { age, ttl };
    }

    // "… or successfully validated".
    Reuse::Validate { age, ttl, if_error: is_within(terms.stale_if_error) }
}

/// `found` is the assessment without the request's directives.
fn apply_request_directives(found: Reuse, directives: &CacheControl, terms: &Terms, now: Timestamp) -> Reuse {
    match found {
        // §5.2.1.4: "prefers a stored response not be used without validation".
        Reuse::Fresh { age, ttl } | Reuse::StaleWhileRevalidate { age, ttl } => {
            let is_too_old = exceeds_max_age(directives, age) && !accepts_stale(directives, terms, now);
            match is_too_old || requires_validation(directives, terms, age) {
                true => Reuse::ValidateOnRequest { age, ttl },
                false => found,
            }
        }
        // A response that the request refuses while fresh is not served on an upstream error either; otherwise a
        // shorter window would lead to more reuse.
        Reuse::Validate { age, ttl, .. }
            if exceeds_max_age(directives, age) || requires_validation(directives, terms, age) =>
        {
            Reuse::Validate { age, ttl, if_error: false }
        }
        // §5.2.1.2. §4.2.4 lets the client accept a stale response, but not past must-revalidate or no-cache.
        Reuse::Validate { age, ttl, .. }
            if !terms.must_revalidate && !terms.always_validate && accepts_stale(directives, terms, now) =>
        {
            Reuse::StaleOnRequest { age, ttl }
        }
        _ => found,
    }
}

/// Whether the stored response has the request's key, or the key of the variant that its own `Vary` selects.
fn matches_key(stored: &StoredHead, lookup: &CacheLookup<'_>, request: &RequestHead<'_>) -> bool {
    if stored.key == lookup.key {
        return true;
    }
    let response = stored.fields.to_map();
    match Vary::parse_ignoring(&response, &lookup.route.ignore_vary) {
        Vary::Fields(fields) => stored.key == lookup.key.variant_key_of_response(&fields, request, &response),
        Vary::Nothing | Vary::Everything => false,
    }
}

#[cfg(test)]
#[path = "reuse_tests.rs"]
mod tests;
