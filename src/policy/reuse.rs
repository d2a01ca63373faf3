//! RFC 9111 §4: may this stored response answer this request?

use std::time::Duration;

use super::classify::{Caller, Lookup};
use super::request_directives::{as_asked, obeyed};
use super::stricter;
use super::vary::Vary;
use super::{CacheKey, RequestHead};
use crate::clock::Timestamp;
use crate::stored_response::{StoredHead, Terms};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    Fresh {
        age: Duration,
        ttl: i64,
    },
    /// Stale, and may be served at once while it is validated in the background.
    StaleWhileRevalidate {
        age: Duration,
        ttl: i64,
    },
    /// Must be validated first. `if_error`: may be served stale should the upstream fail.
    Validate {
        age: Duration,
        ttl: i64,
        if_error: bool,
    },
    /// Usable, but the request asks for validation (§5.2.1); on a route that obeys it.
    ValidateAsAsked {
        age: Duration,
        ttl: i64,
    },
    /// Stale, and the request accepts it so (`max-stale`); on a route that obeys it.
    StaleAsAsked {
        age: Duration,
        ttl: i64,
    },
    No(NoReuse),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoReuse {
    /// Under another key than asked for, or stored under other route rules.
    Foreign,
    /// The caller sends credentials, and the response is not marked as shared.
    Credentials,
    /// So old that it is of no use any more.
    Expired,
}

impl NoReuse {
    pub fn as_str(self) -> &'static str {
        match self {
            NoReuse::Foreign => "foreign",
            NoReuse::Credentials => "credentials",
            NoReuse::Expired => "expired",
        }
    }
}

/// §4, in its order. `lookup.key` is that of the request, or of the variant that answers it. `soft_purged`: it counts as
/// stale from now on.
///
/// Directives of the request (§5.2.1) are advice; a route that obeys them weighs them last.
pub fn assess(
    stored: &StoredHead,
    lookup: &Lookup<'_>,
    request: &RequestHead<'_>,
    soft_purged: bool,
    now: Timestamp,
) -> Reuse {
    // "the presented target URI and that of the stored response match"; "the request method associated with the stored
    // response allows it to be used"; "request header fields nominated by the stored response (if any) match" (§4.1):
    // all of these stand in the key. The route's rules do too, by their fingerprint.
    if !stands_under(stored, &lookup.key, request) || stored.fingerprint != lookup.route.fingerprint {
        return Reuse::No(NoReuse::Foreign);
    }
    // What was stored under an older rule obeys the stricter of both.
    let Some(terms) = stricter::terms(stored, lookup) else { return Reuse::No(NoReuse::Foreign) };

    let found = as_stored(&terms, lookup, soft_purged, now);
    match obeyed(lookup.route, request.headers) {
        // How stale a soft purge made it is not known, so no `max-stale` covers it.
        Some(directives) if !soft_purged => as_asked(found, &directives, &terms, now),
        _ => found,
    }
}

/// Whatever the request's directives say.
fn as_stored(terms: &Terms, lookup: &Lookup<'_>, soft_purged: bool, now: Timestamp) -> Reuse {
    // §3.5, which also holds for a response that was fetched without credentials.
    if lookup.caller == Caller::Credentialed && !terms.open_to_credentials {
        return Reuse::No(NoReuse::Credentials);
    }

    if now >= terms.expires_at {
        return Reuse::No(NoReuse::Expired);
    }

    let is_fresh = terms.is_fresh(now) && !soft_purged;
    let age = terms.age(now);
    let ttl = if soft_purged { terms.ttl(now).min(0) } else { terms.ttl(now) };

    // "the stored response does not contain the no-cache directive, unless it is successfully validated".
    if terms.always_validate {
        return Reuse::Validate { age, ttl, if_error: false };
    }

    // "the stored response is one of the following: fresh …".
    if is_fresh {
        return Reuse::Fresh { age, ttl };
    }

    // "… allowed to be served stale (§4.2.4)", which must-revalidate forbids whatever else is said;
    if terms.must_revalidate {
        return Reuse::Validate { age, ttl, if_error: false };
    }

    // RFC 5861 §3 and §4. When a soft purge made it stale is not known here; within the windows it is while it would be
    // by its age.
    let is_within = |window: Duration| !window.is_zero() && terms.is_within(window, now);
    if is_within(terms.stale_while_revalidate) {
        return Reuse::StaleWhileRevalidate { age, ttl };
    }

    // "… or successfully validated".
    Reuse::Validate { age, ttl, if_error: is_within(terms.stale_if_error) }
}

/// Whether the stored response is the one for this request: under its key, or under that of the variant to which its own
/// `Vary` leads this request.
fn stands_under(stored: &StoredHead, key: &CacheKey, request: &RequestHead<'_>) -> bool {
    stored.key == *key
        || match stored.vary() {
            Vary::Fields(fields) => stored.key == key.variant(&fields, request),
            Vary::Nothing | Vary::Everything => false,
        }
}

#[cfg(test)]
#[path = "reuse_tests.rs"]
mod tests;
