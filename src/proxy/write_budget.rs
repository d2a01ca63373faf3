//! The purge targets that one sender of writes may name in a minute. Beyond them its writes pass, and purge at once what
//! they name in full; they leave no doubt, and are not widened.
//!
//! A sender is a client address (an IPv6 /64), or a credential. Credentials cost nothing to invent, so an address has a
//! budget for all of its credentials together, too. The table has a fixed size: senders whose hashes collide share a
//! budget, and the hash is seeded at random.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use super::client_request::ClientHead;
use crate::clock::Moment;
use crate::policy::CallerFields;

/// 128 KiB.
const SLOTS: usize = 1 << 14;

/// The budgets that all credentials of one address have together.
const CREDENTIALS_PER_ADDRESS: u64 = 10;

const MINUTE_NANOS: u64 = 60_000_000_000;

/// The budgets of all senders.
pub(super) struct WriteBudgets {
    /// The [`Moment`] at which all that was charged is paid back (GCRA): a minute ahead of now, the budget is used up.
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
    log: OverrunLog,
}

/// The owner of a budget. An address of `None` is not bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    network: Option<IpAddr>,
    credential: Option<u64>,
}

/// Overruns since the last line in the log.
#[derive(Default)]
struct OverrunLog {
    writes: AtomicU64,
    /// The [`Moment`] of the next line.
    due: AtomicU64,
}

impl Default for WriteBudgets {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            log: OverrunLog::default(),
        }
    }
}

impl WriteBudgets {
    pub(super) fn sender(&self, head: &ClientHead, caller_fields: &CallerFields) -> Sender {
        let headers = &head.parts.headers;
        let mut names: Vec<_> = caller_fields.find_in(headers).collect();
        names.sort_unstable_by_key(|name| name.as_str());
        let lines = names.iter().flat_map(|name| headers.get_all(*name));
        let credential = (!names.is_empty()).then(|| self.hasher.hash_one(lines.collect::<Vec<_>>()));
        Sender { network: head.untrusted_address().map(client_network), credential }
    }

    /// Charges `targets` to the sender, who has `per_minute` of them. `false`: they are more than it has left.
    pub(super) fn charge(&self, sender: Sender, targets: usize, per_minute: u64, now: Moment) -> bool {
        let Sender { network, credential } = sender;
        let charge = |owner, limit| self.charge_slot(self.hasher.hash_one(owner), targets, limit, now);
        match (network, credential) {
            (None, _) => true,
            (Some(_), None) => charge((network, None), per_minute),
            // The marker keeps the address's credentials apart from its requests without any.
            (Some(_), Some(_)) => {
                charge((network, Some(0)), per_minute.saturating_mul(CREDENTIALS_PER_ADDRESS))
                    && charge((network, credential), per_minute)
            }
        }
    }

    fn charge_slot(&self, hash: u64, targets: usize, per_minute: u64, now: Moment) -> bool {
        let price = (MINUTE_NANOS / per_minute.max(1)).saturating_mul(targets as u64);
        let now = now.as_nanos();
        let slot = &self.slots[hash as usize % SLOTS];
        let charged = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid_back| {
            let paid_back = paid_back.max(now).saturating_add(price);
            (paid_back - now <= MINUTE_NANOS).then_some(paid_back)
        });
        charged.is_ok()
    }

    /// Logs that a write was over its sender's budget, once a minute for all senders.
    pub(super) fn log_overrun(&self, head: &ClientHead, now: Moment) {
        if let Some(writes) = self.log.record(now) {
            let client = head.client_ip.or(head.peer);
            tracing::warn!(
                ?client,
                writes,
                "writes over `limits.purge_targets_per_client`; last client named"
            );
        }
    }
}

impl OverrunLog {
    /// Counts a write. Returns the number of them since the last line, if one is due.
    fn record(&self, now: Moment) -> Option<u64> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let (now, due) = (now.as_nanos(), self.due.load(Ordering::Relaxed));
        let next = now.saturating_add(MINUTE_NANOS);
        let is_mine =
            now >= due && self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        is_mine.then(|| self.writes.swap(0, Ordering::Relaxed))
    }
}

/// The addresses that count as one client: one IPv6 client mostly has a whole /64.
pub(crate) fn client_network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anonymous(address: &str) -> Sender {
        Sender { network: Some(client_network(address.parse().expect("an address"))), credential: None }
    }

    fn moment_at(seconds: u64) -> Moment {
        Moment::from_nanos(1 + seconds * 1_000_000_000)
    }

    #[test]
    fn a_budget_is_a_minute_s_and_flows_back() {
        let budgets = WriteBudgets::default();
        let (one, other) = (anonymous("192.0.2.1"), anonymous("192.0.2.2"));
        assert!(budgets.charge(one, 50, 60, moment_at(0)) && budgets.charge(one, 10, 60, moment_at(0)));
        assert!(!budgets.charge(one, 1, 60, moment_at(0)));
        assert!(budgets.charge(other, 60, 60, moment_at(0)), "another's is its own");
        assert!(budgets.charge(one, 5, 60, moment_at(5)) && !budgets.charge(one, 1, 60, moment_at(5)));
        assert!(!budgets.charge(one, 61, 60, moment_at(1000)), "more than there ever is");
        assert!(budgets.charge(one, 60, 60, moment_at(1000)), "what was refused is not charged");
        let (here, same) = (anonymous("2001:db8::1"), anonymous("2001:db8::2"));
        assert!(budgets.charge(here, 60, 60, moment_at(0)) && !budgets.charge(same, 1, 60, moment_at(0)));
    }

    #[test]
    fn callers_of_one_address_have_their_own_and_ten_together() {
        let budgets = WriteBudgets::default();
        let caller = |credential| Sender { credential: Some(credential), ..anonymous("192.0.2.1") };
        for credential in 1..=CREDENTIALS_PER_ADDRESS {
            assert!(budgets.charge(caller(credential), 60, 60, moment_at(0)), "{credential}");
        }
        assert!(!budgets.charge(caller(99), 1, 60, moment_at(0)), "an invented credential brings no more");
        let elsewhere = Sender { network: anonymous("192.0.2.9").network, credential: Some(1) };
        assert!(budgets.charge(elsewhere, 60, 60, moment_at(0)), "many clients may send one public value");
        assert!(budgets.charge(anonymous("192.0.2.1"), 60, 60, moment_at(0)));
        for credential in [None, Some(1)] {
            let behind_a_proxy = Sender { network: None, credential };
            assert!(budgets.charge(behind_a_proxy, 10_000, 60, moment_at(0)));
        }
    }

    #[test]
    fn overruns_are_logged_once_a_minute_with_their_number() {
        let log = OverrunLog::default();
        assert_eq!(log.record(moment_at(1)), Some(1));
        assert_eq!((log.record(moment_at(2)), log.record(moment_at(60))), (None, None));
        assert_eq!(log.record(moment_at(61)), Some(3));
    }
}
