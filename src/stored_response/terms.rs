//! How long, and for what, a response may be used.

use std::time::Duration;

use crate::clock::{Timestamp, saturating_micros};

/// The terms under which a response was stored: the figures of RFC 9111, computed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// When the request was sent (RFC 9111 §4.2.3 `request_time`).
    pub requested_at: Timestamp,
    /// When the headers arrived (§4.2.3 `response_time`).
    pub received_at: Timestamp,
    /// The age on arrival (§4.2.3 `corrected_initial_age`).
    pub initial_age: Duration,
    /// §4.2.1.
    pub freshness_lifetime: Duration,
    /// RFC 5861 §3, from the end of freshness; zero: not allowed.
    pub stale_while_revalidate: Duration,
    /// RFC 5861 §4, from the end of freshness; zero: not allowed.
    pub stale_if_error: Duration,
    /// `no-cache`: always validate before reuse.
    pub always_validate: bool,
    /// `must-revalidate`, `proxy-revalidate`, `s-maxage`: validate before reuse once stale.
    pub must_revalidate: bool,
    /// §3.5: may answer requests with credentials (`public`, `s-maxage`).
    pub open_to_credentials: bool,
    /// The end of all use, including validation.
    pub expires_at: Timestamp,
}

impl Terms {
    /// Ends freshness and all other use at `date`.
    #[must_use]
    pub(crate) fn bounded_by(self, date: Timestamp) -> Self {
        let at_most = self.initial_age.saturating_add(date.since(self.received_at));
        let freshness_lifetime = self.freshness_lifetime.min(at_most);
        let stale_at_most = at_most.saturating_sub(freshness_lifetime);
        Self {
            freshness_lifetime,
            stale_while_revalidate: self.stale_while_revalidate.min(stale_at_most),
            stale_if_error: self.stale_if_error.min(stale_at_most),
            expires_at: self.expires_at.min(date),
            ..self
        }
    }

    /// Removes `thousandths` of the remaining freshness.
    #[must_use]
    pub(crate) fn shortened_by(self, thousandths: u32) -> Self {
        let kept = self.expires_at.since(self.received_at);
        let left = self.freshness_lifetime.saturating_sub(self.initial_age).min(kept);
        let cut = left / 1000 * thousandths.min(1000);
        Self {
            freshness_lifetime: self.freshness_lifetime.saturating_sub(cut),
            expires_at: self.expires_at.minus(cut),
            ..self
        }
    }

    /// The terms of a response that answers waiting requests and is not stored.
    pub fn unstored(requested_at: Timestamp, received_at: Timestamp) -> Self {
        Self {
            requested_at,
            received_at,
            initial_age: Duration::ZERO,
            freshness_lifetime: Duration::ZERO,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            always_validate: true,
            must_revalidate: true,
            open_to_credentials: false,
            expires_at: received_at,
        }
    }
}

/// Packed [`Terms`] with durations in microseconds, because padding would count for every stored response.
#[repr(Rust, packed)]
#[derive(Clone, Copy, Debug)]
pub struct StoredTerms {
    received_at: Timestamp,
    expires_at: Timestamp,
    initial_age: u64,
    freshness_lifetime: u64,
    stale_while_revalidate: u64,
    stale_if_error: u64,
    /// From `requested_at` to `received_at` in microseconds, half an hour at most. Negative where the clock was set back.
    response_delay: i32,
    flags: u8,
}

const ALWAYS_VALIDATE: u8 = 1;
const MUST_REVALIDATE: u8 = 2;
const OPEN_TO_CREDENTIALS: u8 = 4;

impl From<Terms> for StoredTerms {
    fn from(terms: Terms) -> Self {
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let micros = |duration: Duration| i32::try_from(duration.as_micros()).unwrap_or(i32::MAX);
        let response_delay = micros(terms.received_at.since(terms.requested_at))
            - micros(terms.requested_at.since(terms.received_at));
        Self {
            response_delay,
            received_at: terms.received_at,
            expires_at: terms.expires_at,
            initial_age: saturating_micros(terms.initial_age),
            freshness_lifetime: saturating_micros(terms.freshness_lifetime),
            stale_while_revalidate: saturating_micros(terms.stale_while_revalidate),
            stale_if_error: saturating_micros(terms.stale_if_error),
            flags: flag(terms.always_validate, ALWAYS_VALIDATE)
                | flag(terms.must_revalidate, MUST_REVALIDATE)
                | flag(terms.open_to_credentials, OPEN_TO_CREDENTIALS),
        }
    }
}

impl StoredTerms {
    pub(crate) fn get(&self) -> Terms {
        let delay = Duration::from_micros(self.response_delay.unsigned_abs().into());
        let is_forward = self.response_delay >= 0;
        Terms {
            requested_at: if is_forward {
                self.received_at.minus(delay)
            } else {
                self.received_at.plus(delay)
            },
            received_at: self.received_at,
            initial_age: Duration::from_micros(self.initial_age),
            freshness_lifetime: Duration::from_micros(self.freshness_lifetime),
            stale_while_revalidate: Duration::from_micros(self.stale_while_revalidate),
            stale_if_error: Duration::from_micros(self.stale_if_error),
            always_validate: self.flags & ALWAYS_VALIDATE != 0,
            must_revalidate: self.flags & MUST_REVALIDATE != 0,
            open_to_credentials: self.flags & OPEN_TO_CREDENTIALS != 0,
            expires_at: self.expires_at,
        }
    }
}
