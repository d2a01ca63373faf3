//! How long a response may be used, and for what.

use std::time::Duration;

use crate::clock::{Timestamp, micros};

/// The terms under which a response was stored: RFC 9111's figures, worked out once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// When the request that was answered by it was sent (RFC 9111 §4.2.3 `request_time`).
    pub requested_at: Timestamp,
    /// When its header section arrived (§4.2.3 `response_time`).
    pub received_at: Timestamp,
    /// How old it was when it arrived (§4.2.3 `corrected_initial_age`).
    pub initial_age: Duration,
    /// §4.2.1.
    pub freshness_lifetime: Duration,
    /// RFC 5861 §3, counted from the end of freshness; zero: not allowed.
    pub stale_while_revalidate: Duration,
    /// RFC 5861 §4, counted from the end of freshness; zero: not allowed.
    pub stale_if_error: Duration,
    /// `no-cache`: never reused without validation.
    pub always_validate: bool,
    /// `must-revalidate`, `proxy-revalidate`, `s-maxage`: once stale, never reused without validation.
    pub must_revalidate: bool,
    /// §3.5: a request with credentials may be answered by it (`public`, `s-maxage`).
    pub open_to_credentials: bool,
    /// When it is of no use any more, not even to be validated.
    pub expires_at: Timestamp,
}

impl Terms {
    /// Of no use from `date` on, neither fresh nor stale.
    #[must_use]
    pub fn until(self, date: Timestamp) -> Self {
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

    /// With `thousandths` of what is left of its freshness taken away.
    #[must_use]
    pub fn shortened(self, thousandths: u32) -> Self {
        let kept = self.expires_at.since(self.received_at);
        let left = self.freshness_lifetime.saturating_sub(self.initial_age).min(kept);
        let cut = left / 1000 * thousandths.min(1000);
        Self {
            freshness_lifetime: self.freshness_lifetime.saturating_sub(cut),
            expires_at: self.expires_at.minus(cut),
            ..self
        }
    }

    /// Of a response that answers those who wait for it, and is not stored.
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

/// [`Terms`] in little memory: durations to the microsecond.
// Beside what else a response keeps there is no room for what would be left empty.
#[repr(Rust, packed)]
#[derive(Clone, Copy, Debug)]
pub struct StoredTerms {
    requested_at: Timestamp,
    received_at: Timestamp,
    expires_at: Timestamp,
    initial_age: u64,
    freshness_lifetime: u64,
    stale_while_revalidate: u64,
    stale_if_error: u64,
    always_validate: bool,
    must_revalidate: bool,
    open_to_credentials: bool,
}

impl From<Terms> for StoredTerms {
    fn from(terms: Terms) -> Self {
        Self {
            requested_at: terms.requested_at,
            received_at: terms.received_at,
            expires_at: terms.expires_at,
            initial_age: micros(terms.initial_age),
            freshness_lifetime: micros(terms.freshness_lifetime),
            stale_while_revalidate: micros(terms.stale_while_revalidate),
            stale_if_error: micros(terms.stale_if_error),
            always_validate: terms.always_validate,
            must_revalidate: terms.must_revalidate,
            open_to_credentials: terms.open_to_credentials,
        }
    }
}

impl StoredTerms {
    pub fn get(&self) -> Terms {
        Terms {
            requested_at: self.requested_at,
            received_at: self.received_at,
            initial_age: Duration::from_micros(self.initial_age),
            freshness_lifetime: Duration::from_micros(self.freshness_lifetime),
            stale_while_revalidate: Duration::from_micros(self.stale_while_revalidate),
            stale_if_error: Duration::from_micros(self.stale_if_error),
            always_validate: self.always_validate,
            must_revalidate: self.must_revalidate,
            open_to_credentials: self.open_to_credentials,
            expires_at: self.expires_at,
        }
    }
}
