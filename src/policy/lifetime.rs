//! Selects the lifetime of a response, its own or the route's, and derives its terms.

use std::time::Duration;

use http::StatusCode;

use super::Route;
use super::cache_control::CacheControl;
use super::not_stored::NotStored;
use super::received_response::ReceivedResponse;
use super::route::{MAX_UNTIL_PURGED_LIFETIME, Overrides, Ttl};
use super::validators::has_validator;
use crate::stored_response::Terms;

/// The upper bound for keeping a response. Purge records are kept for 400 days, and a response must not outlive the
/// record of its purge; one day allows for clock differences.
pub(crate) const MAX_STORED_LIFETIME: Duration = Duration::from_secs(399 * 24 * 3600);

/// Bounds for how long a stale response is kept for validation: as long as it was fresh, at least and at most this.
const MIN_STALE_RETENTION: Duration = Duration::from_secs(10 * 60);
const MAX_STALE_RETENTION: Duration = Duration::from_secs(24 * 3600);

/// Findings of `storing` that the terms need.
pub(super) struct Grants {
    /// The age on arrival.
    pub initial_age: Duration,
    pub always_validate: bool,
    pub open_to_credentials: bool,
}

/// The source of the lifetime, which decides whether `Age` counts against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Given by the response (§4.2.1); counted from its generation.
    Explicit(Duration),
    /// Heuristic (§4.2.2), on routes that allow it.
    Heuristic(Duration),
    /// No lifetime: stored, and validated on each use.
    AlwaysValidated,
    /// Given by the route; counted from receipt, so that a wrong `Date` does not shorten it.
    Route(Duration),
    /// `ttl: until-purged`.
    UntilPurged,
}

impl Lifetime {
    pub(super) fn select(
        route: &Route,
        status: StatusCode,
        explicit: Option<Duration>,
        heuristic: Option<Duration>,
        always_validate: bool,
    ) -> Result<Self, NotStored> {
        let by_route = Self::by_route(route, status);
        let explicit = explicit.map(Lifetime::Explicit);
        let chosen = match route.overrides {
            Overrides { lifetime: true, .. } => by_route.or(explicit),
            Overrides { lifetime: false, .. } => explicit.or(by_route),
        };
        match chosen.or(heuristic.map(Lifetime::Heuristic)) {
            Some(lifetime) => Ok(lifetime),
            // A response with `no-cache` and no lifetime.
            None if always_validate && has_route_ttl(status) => Ok(Lifetime::AlwaysValidated),
            None if has_route_ttl(status) => Err(NotStored::NoLifetime),
            None => Err(NotStored::Status),
        }
    }

    fn by_route(route: &Route, status: StatusCode) -> Option<Self> {
        match route.status.get(&status.as_u16()) {
            Some(lifetime) => Some(Lifetime::Route(*lifetime)),
            None if has_route_ttl(status) => match route.ttl {
                Ttl::For(lifetime) => Some(Lifetime::Route(lifetime)),
                Ttl::UntilPurged => Some(Lifetime::UntilPurged),
                Ttl::Upstream | Ttl::Never => None,
            },
            None => None,
        }
    }

    pub(super) fn to_terms(
        self,
        route: &Route,
        directives: &CacheControl,
        response: ReceivedResponse<'_>,
        Grants { initial_age, always_validate, open_to_credentials }: Grants,
    ) -> Terms {
        let ReceivedResponse { headers, exchange, .. } = response;
        let freshness_lifetime = match self {
            Lifetime::Explicit(lifetime) | Lifetime::Heuristic(lifetime) => lifetime,
            Lifetime::AlwaysValidated => Duration::ZERO,
            // Age on arrival is shown to clients, so it is added to the route's lifetime.
            Lifetime::Route(lifetime) => initial_age.saturating_add(lifetime),
            Lifetime::UntilPurged => initial_age.saturating_add(MAX_UNTIL_PURGED_LIFETIME),
        };
        let is_closed = directives.must_revalidate || directives.proxy_revalidate || always_validate;
        let (stale_while_revalidate, stale_if_error) = match is_closed {
            true => (Duration::ZERO, Duration::ZERO),
            false => self.stale_windows(route, directives),
        };
        let mut terms = Terms {
            requested_at: exchange.requested_at,
            received_at: exchange.received_at,
            initial_age,
            freshness_lifetime,
            stale_while_revalidate,
            stale_if_error,
            always_validate,
            must_revalidate: is_closed || is_closed_by_s_maxage(route, directives),
            open_to_credentials,
            expires_at: exchange.received_at,
        };
        // A stale response is useful for validation, or to requests that accept stale responses.
        let is_useful_stale = has_validator(headers) || route.request_directives;
        terms.expires_at = exchange.received_at.plus(self.retention(&terms, is_useful_stale));
        terms
    }

    /// The windows of stale-while-revalidate and stale-if-error (RFC 5861) of a response whose directives close neither,
    /// but for `s-maxage`.
    fn stale_windows(self, route: &Route, directives: &CacheControl) -> (Duration, Duration) {
        let by_s_maxage = is_closed_by_s_maxage(route, directives);
        let window = |is_closed, of_response: Option<Duration>, of_route| match is_closed {
            true => Duration::ZERO,
            false => of_response.unwrap_or(of_route),
        };
        // The route's own window is a decision for all of its responses, those with s-maxage included.
        let is_swr_closed = by_s_maxage && route.stale_while_revalidate.is_zero();
        // The response says that it is to be asked for each time: the route's window would serve it at once.
        let own_is_zero = self == Lifetime::Explicit(Duration::ZERO);
        let swr_of_route = if own_is_zero { Duration::ZERO } else { route.stale_while_revalidate };
        (
            window(is_swr_closed, directives.stale_while_revalidate, swr_of_route),
            window(by_s_maxage, directives.stale_if_error, route.stale_if_error),
        )
    }

    /// How long after receipt the response can be served or validated.
    fn retention(self, terms: &Terms, is_useful_stale: bool) -> Duration {
        let keep = match is_useful_stale {
            true => terms.freshness_lifetime.clamp(MIN_STALE_RETENTION, MAX_STALE_RETENTION),
            false => Duration::ZERO,
        };
        // A response that is never served unvalidated is useless without a validator.
        let served = if terms.always_validate { Duration::ZERO } else { terms.freshness_lifetime };
        let stale = terms.stale_while_revalidate.max(terms.stale_if_error);
        let left_of = |duration: Duration| duration.saturating_sub(terms.initial_age);
        let useful = left_of(served.saturating_add(stale)).max(left_of(served).saturating_add(keep));
        useful.min(if self == Lifetime::UntilPurged {
            MAX_UNTIL_PURGED_LIFETIME
        } else {
            MAX_STORED_LIFETIME
        })
    }
}

/// §5.2.2.10: s-maxage implies proxy-revalidate, unless the route overrides that.
pub(super) fn is_closed_by_s_maxage(route: &Route, directives: &CacheControl) -> bool {
    directives.s_maxage.is_some() && !route.overrides.s_maxage_revalidation
}

/// The statuses that a route's `ttl` covers.
fn has_route_ttl(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 301 | 308)
}
