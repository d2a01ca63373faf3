//! Freshness lifetime and age (RFC 9111 §4.2). All arithmetic saturates.

use std::time::Duration;

use http::HeaderMap;
use http::header::{AGE, DATE, EXPIRES, LAST_MODIFIED};

use super::cache_control::{CacheControl, parse_delta_seconds};
use super::http_date;
use crate::clock::Timestamp;
use crate::stored_response::Terms;

/// When the exchange with the upstream took place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExchangeTimes {
    pub requested_at: Timestamp,
    pub received_at: Timestamp,
}

impl Terms {
    /// §4.2.3 `current_age`.
    pub fn age(&self, now: Timestamp) -> Duration {
        self.initial_age.saturating_add(now.since(self.received_at))
    }

    /// §4.2: `response_is_fresh = (freshness_lifetime > current_age)`.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        self.freshness_lifetime > self.age(now)
    }

    /// Whole seconds of freshness left, rounded down; negative when stale (RFC 9211 `ttl`).
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

    /// Whether the response is at most `window` past the end of its freshness (RFC 5861).
    pub(super) fn is_within_stale_window(&self, window: Duration, now: Timestamp) -> bool {
        self.age(now) < self.freshness_lifetime.saturating_add(window)
    }
}

/// The lifetime that the response gives, as a shared cache reads it (§4.2.1).
pub(super) fn explicit_lifetime(
    directives: &CacheControl,
    targeted: bool,
    headers: &HeaderMap,
    exchange: ExchangeTimes,
) -> Option<Duration> {
    let by_directive = directives.s_maxage.or(directives.max_age);
    // RFC 9213 §2.2: a targeted field replaces `Expires`, even without a lifetime of its own.
    by_directive.or_else(|| if targeted { None } else { expires_lifetime(headers, exchange) })
}

/// §4.2.2: "a typical setting of this fraction might be 10%". Only used without an explicit lifetime.
pub(super) fn heuristic_lifetime(headers: &HeaderMap, exchange: ExchangeTimes) -> Option<Duration> {
    const MAX_HEURISTIC_LIFETIME: Duration = Duration::from_secs(24 * 3600);
    let received = exchange.received_at;
    let modified = http_date::parse_field(headers, LAST_MODIFIED, received)?;
    let date = http_date::parse_field(headers, DATE, received).unwrap_or(received);
    Some((date.since(modified) / 10).min(MAX_HEURISTIC_LIFETIME)).filter(|lifetime| !lifetime.is_zero())
}

/// `Expires` minus `Date` (§5.3). An invalid or repeated value is in the past. Without a usable `Date` the time of
/// receipt is used (RFC 9110 §6.6.1).
fn expires_lifetime(headers: &HeaderMap, exchange: ExchangeTimes) -> Option<Duration> {
    if !headers.contains_key(EXPIRES) {
        return None;
    }
    let received = exchange.received_at;
    let Some(expires) = http_date::parse_field(headers, EXPIRES, received) else {
        return Some(Duration::ZERO);
    };
    let date = http_date::parse_field(headers, DATE, received).unwrap_or(received);
    Some(expires.since(date))
}

/// §4.2.3 `corrected_initial_age`.
pub(super) fn initial_age(headers: &HeaderMap, exchange: ExchangeTimes) -> Duration {
    let apparent_age = http_date::parse_field(headers, DATE, exchange.received_at)
        .map(|date| exchange.received_at.as_secs().saturating_sub(date.as_secs()))
        .map_or(Duration::ZERO, Duration::from_secs);
    let response_delay = exchange.received_at.since(exchange.requested_at);
    let corrected_age_value = parse_age(headers).saturating_add(response_delay);
    apparent_age.max(corrected_age_value)
}

/// How many seconds the clock of an upstream that made the response just now is behind; negative if it is ahead. `None`:
/// it has no `Date`, or comes out of a cache.
pub(crate) fn clock_lag(headers: &HeaderMap, received_at: Timestamp) -> Option<i64> {
    if headers.contains_key(AGE) {
        return None;
    }
    let date = http_date::parse_field(headers, DATE, received_at)?;
    let seconds = |time: Timestamp| i64::try_from(time.as_secs()).ok();
    Some(seconds(received_at)? - seconds(date)?)
}

/// Parses `Age` (§5.1): the first member of a list; an invalid value is ignored.
fn parse_age(headers: &HeaderMap) -> Duration {
    let mut members =
        headers.get_all(AGE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let first = members.find_map(|member| Some(member.trim_ascii()).filter(|member| !member.is_empty()));
    first.and_then(parse_delta_seconds).unwrap_or_default()
}

#[cfg(test)]
#[path = "freshness_tests.rs"]
mod tests;
