//! Which refreshes failed lately, so that an upstream that fails is not asked again at once.
//!
//! A request may fail because of its own fields: it holds back its like, and not the refreshes for other clients.

use std::net::IpAddr;
use std::time::Duration;

use super::backoff::Backoff;
use super::requester::Requester;
use crate::clock::Clock;
use crate::policy::cache_key::CacheKey;

pub(super) const MIN_REFRESH_BACKOFF: Duration = Duration::from_secs(1);
const MAX_REFRESH_BACKOFF: Duration = Duration::from_secs(30);

/// If the requests of so many networks failed, it is the upstream that fails.
const MAX_NETWORKS: usize = 3;

/// How many refreshes with different fields may fail in one back-off, before requests of a network that failed are held back.
/// Clients whose network is unknown count as one.
const MAX_ATTEMPTS: usize = 8;

/// How the last fetch that was to replace a stale response failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefreshFailure {
    Timeout,
    Other,
}

pub(super) struct RefreshFailures(Backoff<CacheKey, Failed>);

#[derive(Clone, Copy)]
struct Failed {
    last: RefreshFailure,
    by: Requester,
    /// The networks of those that failed; the first `count` are set.
    networks: [Option<IpAddr>; MAX_NETWORKS],
    count: usize,
    attempts: usize,
}

impl RefreshFailures {
    pub(super) fn new(clock: Clock) -> Self {
        Self(Backoff::new(clock, MIN_REFRESH_BACKOFF, MAX_REFRESH_BACKOFF))
    }

    /// Whether a refresh by this request may be tried.
    pub(super) fn may_refresh(&self, key: &CacheKey, requester: impl FnOnce() -> Requester) -> bool {
        let Some((failed, _)) = self.0.active(key) else { return true };
        let requester = requester();
        match failed.networks[..failed.count].contains(&requester.network) {
            _ if failed.count == MAX_NETWORKS => false,
            true => failed.attempts < MAX_ATTEMPTS && failed.by.fields != requester.fields,
            false => true,
        }
    }

    pub(super) fn record(&self, key: CacheKey, by: Requester, failure: Option<RefreshFailure>) {
        let Some(last) = failure else { return self.0.clear(&key) };
        let none = Failed { last, by, networks: [None; MAX_NETWORKS], count: 0, attempts: 0 };
        let mut failed = self.0.active(&key).map_or(none, |(failed, _)| failed);
        if failed.count < MAX_NETWORKS && !failed.networks[..failed.count].contains(&by.network) {
            failed.networks[failed.count] = by.network;
            failed.count += 1;
        }
        self.0.extend(key, Failed { last, by, attempts: failed.attempts + 1, ..failed });
    }

    /// How the last refresh failed, and the time that its like are held back.
    pub(super) fn last(&self, key: &CacheKey) -> Option<(RefreshFailure, Duration)> {
        self.0.active(key).map(|(failed, left)| (failed.last, left))
    }
}
