//! Which refreshes failed lately, so that an upstream that fails is not asked again at once.
//!
//! A refresh failed unless it stored, freshened or withdrew the response. A request may fail because of its own fields: it
//! holds back its like, and not the refreshes for other clients. One by a caller outside the key holds back its kind alone.

use std::net::IpAddr;
use std::time::Duration;

use super::backoff::Backoff;
use super::requester::{CallerKind, Requester};
use crate::clock::{Clock, Timestamp};
use crate::policy::cache_key::CacheKey;

pub(super) const MIN_REFRESH_BACKOFF: Duration = Duration::from_secs(1);
const MAX_REFRESH_BACKOFF: Duration = Duration::from_secs(30);

/// If the requests of so many networks failed, it is the upstream that fails.
const MAX_NETWORKS: usize = 3;

/// How many refreshes with different fields may fail in a row, before requests of a network that failed are held back.
/// Clients whose network is unknown count as one.
const MAX_ATTEMPTS: usize = 8;

/// How the last fetch that was to replace a stale response failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefreshFailure {
    Timeout,
    /// The upstream failed otherwise: a 5xx, or no response.
    Error,
    /// The response neither replaced the stored one nor said that it is gone.
    NotStored,
}

/// The key of the stored response, and the kind of callers that asked for it.
type FailureKey = (CacheKey, CallerKind);

pub(super) struct RefreshFailures(Backoff<FailureKey, Failed>);

#[derive(Clone, Copy)]
struct Failed {
    last: RefreshFailure,
    by: Requester,
    /// The networks of those that failed; the first `count` are set.
    networks: [Option<IpAddr>; MAX_NETWORKS],
    count: usize,
    attempts: usize,
}

impl RefreshFailure {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            RefreshFailure::Timeout => "timeout",
            RefreshFailure::Error => "failed",
            RefreshFailure::NotStored => "not-stored",
        }
    }

    /// Whether a stale response may stand in for what the upstream would answer now (RFC 5861 §4).
    pub(super) fn is_error(self) -> bool {
        self != RefreshFailure::NotStored
    }
}

impl RefreshFailures {
    pub(super) fn new(clock: Clock) -> Self {
        Self(Backoff::new(clock, MIN_REFRESH_BACKOFF, MAX_REFRESH_BACKOFF))
    }

    /// Whether a refresh by this request may be tried.
    pub(super) fn may_refresh(&self, key: &FailureKey, requester: impl FnOnce() -> Requester) -> bool {
        let Some((failed, _)) = self.0.active(key) else { return true };
        let requester = requester();
        match failed.networks[..failed.count].contains(&requester.network) {
            _ if failed.count == MAX_NETWORKS => false,
            true => failed.attempts < MAX_ATTEMPTS && failed.by.fields != requester.fields,
            false => true,
        }
    }

    /// A refresh that began at `began` has failed.
    pub(super) fn record(&self, key: FailureKey, began: Timestamp, by: Requester, last: RefreshFailure) {
        let none = Failed { last, by, networks: [None; MAX_NETWORKS], count: 0, attempts: 0 };
        let mut failed = self.0.recent(&key, began).unwrap_or(none);
        if failed.count < MAX_NETWORKS && !failed.networks[..failed.count].contains(&by.network) {
            failed.networks[failed.count] = by.network;
            failed.count += 1;
        }
        self.0.extend(key, began, Failed { last, by, attempts: failed.attempts.saturating_add(1), ..failed });
    }

    /// A refresh has stored, freshened or withdrawn the response.
    pub(super) fn clear(&self, key: &FailureKey) {
        self.0.clear(key);
    }

    /// How the last refresh failed, and the time that its like are held back.
    pub(super) fn last(&self, key: &FailureKey) -> Option<(RefreshFailure, Duration)> {
        self.0.active(key).map(|(failed, left)| (failed.last, left))
    }
}
