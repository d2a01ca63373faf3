//! Which lifetime a response is stored with, the response's own or the route's, and what follows from it.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::Route;
use super::cache_control::CacheControl;
use super::route::{Overrides, Ttl, UNTIL_PURGED};
use super::storing::{Exchange, NotStored};
use super::validation::has_validator;
use crate::stored_response::Terms;

/// No response is kept longer. It is a day less than records of purges are kept (400 days), since a response that
/// outlived the record of its purge would come back, and clocks differ.
pub const LONGEST: Duration = Duration::from_secs(399 * 24 * 3600);

/// A response with a validator is kept for as long again as it was fresh, to be validated, within these bounds.
const KEEP_AT_LEAST: Duration = Duration::from_secs(10 * 60);
const KEEP_AT_MOST: Duration = Duration::from_secs(24 * 3600);

/// What `storing` has found out before.
pub(super) struct Grants {
    pub always_validate: bool,
    pub open_to_credentials: bool,
}

/// Who gave the lifetime, since that decides what counts against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// §4.2.1, counted from when the upstream made the response.
    Explicit(Duration),
    /// §4.2.2, where the route wants it.
    Guessed(Duration),
    /// None: stored to be validated each time.
    Validated,
    /// The route's, counted from receipt: it is what the operator wrote, and a wrong `Date` does not eat it up.
    Route(Duration),
    UntilPurged,
}

impl Lifetime {
    pub(super) fn of(
        route: &Route,
        status: StatusCode,
        explicit: Option<Duration>,
        heuristic: Option<Duration>,
        always_validate: bool,
    ) -> Result<Self, NotStored> {
        let by_route = match route.status.get(&status.as_u16()) {
            Some(lifetime) => Some(Lifetime::Route(*lifetime)),
            None if has_route_ttl(status) => match route.ttl {
                Ttl::For(lifetime) => Some(Lifetime::Route(lifetime)),
                Ttl::UntilPurged => Some(Lifetime::UntilPurged),
                Ttl::Upstream | Ttl::Never => None,
            },
            None => None,
        };
        let explicit = explicit.map(Lifetime::Explicit);
        let chosen = match route.overrides {
            Overrides { lifetime: true, .. } => by_route.or(explicit),
            Overrides { lifetime: false, .. } => explicit.or(by_route),
        };
        match chosen.or(heuristic.map(Lifetime::Guessed)) {
            Some(lifetime) => Ok(lifetime),
            // `no-cache` alone.
            None if always_validate && has_route_ttl(status) => Ok(Lifetime::Validated),
            None if has_route_ttl(status) => Err(NotStored::NoLifetime),
            None => Err(NotStored::Status),
        }
    }

    pub(super) fn terms(
        self,
        route: &Route,
        directives: &CacheControl,
        headers: &HeaderMap,
        (exchange, initial_age): (Exchange, Duration),
        Grants { always_validate, open_to_credentials }: Grants,
    ) -> Terms {
        let freshness_lifetime = match self {
            Lifetime::Explicit(lifetime) | Lifetime::Guessed(lifetime) => lifetime,
            Lifetime::Validated => Duration::ZERO,
            // The response arrives with its age, which is shown to clients; so the age is added here.
            Lifetime::Route(lifetime) => initial_age.saturating_add(lifetime),
            Lifetime::UntilPurged => initial_age.saturating_add(UNTIL_PURGED),
        };
        // §5.2.2.10: s-maxage says what proxy-revalidate says.
        let must_revalidate =
            directives.must_revalidate || directives.proxy_revalidate || directives.s_maxage.is_some();
        let window =
            |of_response: Option<Duration>, of_route: Duration| match must_revalidate || always_validate {
                true => Duration::ZERO,
                false => of_response.unwrap_or(of_route),
            };
        let mut terms = Terms {
            requested_at: exchange.requested_at,
            received_at: exchange.received_at,
            initial_age,
            freshness_lifetime,
            stale_while_revalidate: window(directives.stale_while_revalidate, route.stale_while_revalidate),
            stale_if_error: window(directives.stale_if_error, route.stale_if_error),
            always_validate,
            must_revalidate,
            open_to_credentials,
            expires_at: exchange.received_at,
        };
        // To be validated, or for those who ask for stale responses.
        let is_useful_stale = has_validator(headers) || route.semantics.request_directives;
        terms.expires_at = exchange.received_at.plus(self.useful_for(&terms, is_useful_stale));
        terms
    }

    /// How long after its receipt the response can still be served or validated.
    fn useful_for(self, terms: &Terms, is_useful_stale: bool) -> Duration {
        let keep = match is_useful_stale {
            true => terms.freshness_lifetime.clamp(KEEP_AT_LEAST, KEEP_AT_MOST),
            false => Duration::ZERO,
        };
        // Without a validator, what is never served unvalidated is of no use from the start.
        let served = if terms.always_validate { Duration::ZERO } else { terms.freshness_lifetime };
        let stale = terms.stale_while_revalidate.max(terms.stale_if_error);
        let left_of = |duration: Duration| duration.saturating_sub(terms.initial_age);
        let useful = left_of(served.saturating_add(stale)).max(left_of(served).saturating_add(keep));
        useful.min(if self == Lifetime::UntilPurged { UNTIL_PURGED } else { LONGEST })
    }
}

/// Statuses that a route's `ttl` is about.
fn has_route_ttl(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 301 | 308)
}
