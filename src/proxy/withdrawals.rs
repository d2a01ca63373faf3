//! Which keys had their stale windows ended lately, so that one client does not end again and again what others restore.

use std::net::IpAddr;
use std::time::Duration;

use super::backoff::Backoff;
use super::requester::Requester;
use crate::clock::Clock;
use crate::policy::CacheKey;

/// How many requests are remembered that stored a response after the stale windows of its key were ended.
const MAX_RESTORING: usize = 4;

/// How many clients may end the stale windows of a key in one hold, each once.
const MAX_WITHDRAWING: usize = 3;

pub(super) struct Withdrawals {
    withdrawn: Backoff<CacheKey, Withdrawn>,
    clock: Clock,
}

/// The stale windows of a key were ended.
#[derive(Clone, Copy, Default)]
struct Withdrawn {
    /// The networks of the clients whose requests ended them; the first `count` are set.
    by: [Option<IpAddr>; MAX_WITHDRAWING],
    count: usize,
    /// The fields of the requests whose responses were stored afterwards, the latest first.
    restored_by: [Option<CacheKey>; MAX_RESTORING],
}

impl Withdrawals {
    pub(super) fn new(clock: Clock, min: Duration, max: Duration) -> Self {
        Self { withdrawn: Backoff::new(clock.clone(), min, max), clock }
    }

    /// Whether an uncacheable response to this request ends the stale windows of what is stored under `key`, the primary key
    /// for all variants. If so, it is remembered. In a back-off, the response counts if nothing was stored meanwhile, if what
    /// was stored answered a request with the same fields, or if it is the first one of a second or third client.
    pub(super) fn may_withdraw(&self, key: &CacheKey, requester: &Requester) -> bool {
        let now = self.clock.now();
        let before = self.withdrawn.recent(key, now).unwrap_or_default();
        if before.restored_by[0].is_none() {
            self.withdrawn.clear(key);
        }
        let active = self.withdrawn.active(key).map(|(withdrawn, _)| withdrawn);
        let may = active.is_none_or(|active| {
            active.restored_by.contains(&Some(requester.fields)) || active.is_of_other_client(requester)
        });
        if may {
            self.withdrawn.extend(*key, now, active.unwrap_or_default().withdrawn_by(requester.network));
        }
        may
    }

    /// The response to a request with these fields is stored.
    pub(super) fn record_stored(&self, key: &CacheKey, fields: impl FnOnce() -> CacheKey) {
        if let Some((Withdrawn { mut restored_by, .. }, _)) = self.withdrawn.active(key) {
            let fields = Some(fields());
            let oldest = restored_by.iter().position(|known| *known == fields).unwrap_or(MAX_RESTORING - 1);
            restored_by[..=oldest].rotate_right(1);
            restored_by[0] = fields;
            self.withdrawn.amend(key, |withdrawn| Withdrawn { restored_by, ..withdrawn });
        }
    }
}

impl Withdrawn {
    fn is_of_other_client(&self, requester: &Requester) -> bool {
        self.count < MAX_WITHDRAWING && !self.by[..self.count].contains(&requester.network)
    }

    fn withdrawn_by(mut self, network: Option<IpAddr>) -> Self {
        if self.count < MAX_WITHDRAWING && !self.by[..self.count].contains(&network) {
            self.by[self.count] = network;
            self.count += 1;
        }
        Self { restored_by: [None; MAX_RESTORING], ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    const KEY: CacheKey = CacheKey([1; 32]);

    fn requester(network: u8, fields: u8) -> Requester {
        Requester { fields: CacheKey([fields; 32]), network: Some(IpAddr::from([10, 0, 0, network])) }
    }

    #[test]
    fn a_client_ends_once_in_a_hold_what_others_restore() {
        let clock = Clock::manual(Timestamp::from_secs(1_000));
        let seconds = Duration::from_secs;
        let withdrawals = Withdrawals::new(clock.clone(), seconds(5), seconds(120));
        let may = |network, fields| withdrawals.may_withdraw(&KEY, &requester(network, fields));
        let restore = |fields| withdrawals.record_stored(&KEY, || CacheKey([fields; 32]));
        // It is one withdrawal until something is stored, however many requests find it.
        for number in 0..20 {
            assert!(may(1, number));
            clock.advance(seconds(1));
        }
        restore(100);
        assert!(!may(1, 7) && may(1, 100), "the request that restored it");
        for network in [2, 3] {
            restore(100);
            assert!(may(network, 7), "another client");
            restore(100);
            assert!(!may(network, 7), "the same client");
        }
        assert!(!may(4, 7), "a fourth client");
        clock.advance(seconds(5));
        assert!(may(1, 7));
        restore(100);
        clock.advance(seconds(9));
        assert!(!may(1, 7), "twice as long");
        clock.advance(seconds(1));
        assert!(may(1, 7));
    }
}
