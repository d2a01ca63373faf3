//! `rate` of a route: the generic cell rate algorithm. Each request owes its price, which is paid back as time passes; a
//! request is refused if its caller would owe more than a burst.

use std::time::Duration;

use http::HeaderName;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RateLimit {
    /// Routes with the same name have their budgets together. `None`: the route has its own.
    pub name: Option<String>,
    /// At least 1.
    pub requests: u32,
    /// At least a second.
    pub period: Duration,
    /// The requests that may come at once, at least 1.
    pub burst: u32,
    pub by: RateKey,
    pub counted: CountedRequests,
    /// Whether replicas that share a store have their budgets together.
    pub is_shared: bool,
    /// Whether requests are refused, rather than only counted.
    pub is_enforced: bool,
}

/// The part of a request that selects its budget. A request without it counts for its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RateKey {
    /// The address; of IPv6 the /64.
    Client,
    /// The name of the known caller.
    Caller,
    /// A verified claim.
    Claim(String),
    /// A request field, as it is sent.
    Header(HeaderName),
}

/// The requests that a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum CountedRequests {
    #[default]
    All,
    /// Those that are not hits.
    Misses,
}

/// The result of a request's charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    pub(crate) is_granted: bool,
    /// The debt of the caller now.
    pub(crate) owed: Duration,
}

impl RateKey {
    pub(crate) fn needs_caller(&self) -> bool {
        matches!(self, RateKey::Caller | RateKey::Claim(_))
    }
}

impl RateLimit {
    /// The debt that a request adds.
    pub(crate) fn price(&self) -> Duration {
        self.period / self.requests
    }

    /// The most that a caller may owe.
    pub(crate) fn capacity(&self) -> Duration {
        self.price() * self.burst
    }

    /// Charges a request of a caller who owes `owed`. A refused request costs nothing.
    pub(crate) fn charge(&self, owed: Duration) -> Charge {
        let with_this = owed + self.price();
        match with_this <= self.capacity() {
            true => Charge { is_granted: true, owed: with_this },
            false => Charge { is_granted: false, owed },
        }
    }

    /// The seconds until a request is granted again.
    pub(crate) fn retry_after(&self, charge: Charge) -> u64 {
        whole_seconds((charge.owed + self.price()).saturating_sub(self.capacity())).max(1)
    }

    /// The value of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10).
    pub(crate) fn policy_field(&self, name: &str) -> String {
        format!("{};q={};w={}", structured_string(name), self.burst, self.capacity().as_secs().max(1))
    }

    /// The value of `RateLimit`: the requests that are left, and the seconds until there are more.
    pub(crate) fn state_field(&self, name: &str, charge: Charge) -> String {
        let left = self.capacity().saturating_sub(charge.owed).as_nanos() / self.price().as_nanos().max(1);
        let wait = match charge.is_granted {
            true => whole_seconds(charge.owed),
            false => self.retry_after(charge),
        };
        format!("{};r={left};t={wait}", structured_string(name))
    }
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_nanos().div_ceil(1_000_000_000) as u64
}

/// A String of RFC 9651 §3.3.3, without what it can't hold.
fn structured_string(text: &str) -> String {
    let plain = text.chars().filter(|it| matches!(it, ' '..='~') && !matches!(it, '"' | '\\'));
    format!("\"{}\"", plain.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixtures::rate_limit;

    #[test]
    fn a_burst_is_granted_at_once_and_the_rest_at_the_rate() {
        let login = rate_limit(5, 300, 5);
        let mut owed = Duration::ZERO;
        for left in [4, 3, 2, 1, 0] {
            let charge = login.charge(owed);
            assert!(charge.is_granted);
            assert_eq!(login.state_field("l", charge), format!("\"l\";r={left};t={}", 300 - left * 60));
            owed = charge.owed;
        }
        let refused = login.charge(owed);
        assert_eq!(refused, Charge { is_granted: false, owed }, "a refused request costs nothing");
        assert_eq!(login.retry_after(refused), 60);
        assert_eq!(login.state_field("l", refused), "\"l\";r=0;t=60");
        assert_eq!(login.policy_field("a \"b\" \\ é"), "\"a b  \";q=5;w=300");
        let later = owed - Duration::from_secs(60);
        assert!(login.charge(later).is_granted);
        assert!(!login.charge(later + Duration::from_nanos(1)).is_granted);
        assert_eq!(login.retry_after(login.charge(later + Duration::from_nanos(1))), 1);
    }
}
