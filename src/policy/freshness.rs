//! RFC 9111 §4.2: lifetime and age. All arithmetic saturates.

use std::time::Duration;

use http::HeaderMap;
use http::header::{AGE, DATE, EXPIRES, LAST_MODIFIED};

use super::cache_control::{CacheControl, delta_seconds};
use super::http_date;
use super::storing::Exchange;
use crate::clock::Timestamp;
use crate::stored_response::Terms;

impl Terms {
    /// §4.2.3 `current_age`.
    pub fn age(&self, now: Timestamp) -> Duration {
        self.initial_age.saturating_add(now.since(self.received_at))
    }

    /// §4.2: `response_is_fresh = (freshness_lifetime > current_age)`.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        self.freshness_lifetime > self.age(now)
    }

    /// Seconds of freshness left, negative when stale (RFC 9211 `ttl`). What is left of a second does not count, so
    /// that it is never more than there is.
    pub fn ttl(&self, now: Timestamp) -> i64 {
        let age = self.age(now);
        match self.freshness_lifetime.checked_sub(age) {
            Some(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            None => {
                let past = age.saturating_sub(self.freshness_lifetime);
                let begun = past.as_secs().saturating_add(u64::from(past.subsec_nanos() > 0));
                i64::try_from(begun).map_or(i64::MIN, |seconds| -seconds)
            }
        }
    }

    /// Whether the staleness now, if any, is within `window` (RFC 5861: counted from the end of freshness).
    pub(super) fn is_within(&self, window: Duration, now: Timestamp) -> bool {
        self.age(now) < self.freshness_lifetime.saturating_add(window)
    }
}

/// §4.2.1: the lifetime that the response itself gives, as a shared cache reads it.
pub(super) fn explicit_lifetime(
    directives: &CacheControl,
    targeted: bool,
    headers: &HeaderMap,
    exchange: Exchange,
) -> Option<Duration> {
    let by_directive = directives.s_maxage.or(directives.max_age);
    // RFC 9213 §2.2: a targeted field makes `Expires` say nothing, also if it has no lifetime itself.
    by_directive.or_else(|| if targeted { None } else { expires(headers, exchange) })
}

/// §4.2.2: "a typical setting of this fraction might be 10%". Only where nothing explicit is said.
pub(super) fn heuristic_lifetime(headers: &HeaderMap, exchange: Exchange) -> Option<Duration> {
    const MOST: Duration = Duration::from_secs(24 * 3600);
    let received = exchange.received_at;
    let modified = http_date::of_field(headers, LAST_MODIFIED, received)?;
    let date = http_date::of_field(headers, DATE, received).unwrap_or(received);
    Some((date.since(modified) / 10).min(MOST)).filter(|lifetime| !lifetime.is_zero())
}

/// §5.3: `Expires` less `Date`. A cache must treat an invalid one as in the past, and so is one that is repeated.
/// Without a usable `Date` the time of receipt stands for it (RFC 9110 §6.6.1).
fn expires(headers: &HeaderMap, exchange: Exchange) -> Option<Duration> {
    if !headers.contains_key(EXPIRES) {
        return None;
    }
    let received = exchange.received_at;
    let Some(expires) = http_date::of_field(headers, EXPIRES, received) else { return Some(Duration::ZERO) };
    let date = http_date::of_field(headers, DATE, received).unwrap_or(received);
    Some(expires.since(date))
}

/// §4.2.3 `corrected_initial_age`.
pub(super) fn initial_age(headers: &HeaderMap, exchange: Exchange) -> Duration {
    let apparent_age = http_date::of_field(headers, DATE, exchange.received_at)
        .map(|date| exchange.received_at.as_secs().saturating_sub(date.as_secs()))
        .map_or(Duration::ZERO, Duration::from_secs);
    let response_delay = exchange.received_at.since(exchange.requested_at);
    let corrected_age_value = age_value(headers).saturating_add(response_delay);
    apparent_age.max(corrected_age_value)
}

/// §5.1: of a list the first member; one that is not a number of seconds is ignored.
fn age_value(headers: &HeaderMap) -> Duration {
    let mut members =
        headers.get_all(AGE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let first = members.find_map(|member| Some(member.trim_ascii()).filter(|member| !member.is_empty()));
    first.and_then(delta_seconds).unwrap_or_default()
}

#[cfg(test)]
#[path = "freshness_tests.rs"]
mod tests;
