//! Budgets of one sender for a minute: purge targets that its writes name, purges by writes that never had their whole
//! content, and bytes that are fetched and sent to no client. Beyond its budget its requests pass all the same, and less is
//! done for them; writes that purge very much at once wait, or are refused (`purge_rate.rs`).
//!
//! A sender is a client address (an IPv6 /64), or a credential. Credentials cost nothing to invent, so an address has a
//! budget for all of its credentials together, too. The table has a fixed size: senders whose hashes collide share a
//! budget, and the hash is seeded at random.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::client_request::ClientHead;
use super::purge_rate::TARGETS_PER_SECOND;
use crate::clock::Moment;
use crate::log_interval::LogInterval;
use crate::policy::CallerFields;

/// The slots of one table; both take 256 KiB.
const SLOTS: usize = 1 << 14;

/// The budgets that all credentials of one address have together.
const CREDENTIALS_PER_ADDRESS: u64 = 10;

const MINUTE_NANOS: u64 = 60_000_000_000;

/// The time in which the part of a budget flows back that is used without any wait.
const BURST_NANOS: u64 = MINUTE_NANOS / 10;

/// The budgets of all senders.
pub(super) struct SenderBudgets {
    /// The [`Moment`] at which all that was charged is paid back (GCRA): a minute ahead of now, the budget is used up.
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
    overruns: LogInterval,
}

/// The things of which a sender has a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Account {
    PurgeTargets,
    /// Writes whose content was cut off, and which purge their URL.
    CutWrites,
    /// Bytes that were fetched beyond those that any client was sent.
    UnsentBytes,
    /// Purge targets of writes that take turns.
    PurgeRate,
}

/// The longest time for which a sender pays back what it used beyond its budget.
const MAX_DEBT_NANOS: u64 = 10 * MINUTE_NANOS;

/// The owner of a budget. An address of `None` is not bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    network: Option<IpAddr>,
    credential: Option<u64>,
}

impl Sender {
    /// Whether it is bounded.
    pub(super) fn has_address(self) -> bool {
        self.network.is_some()
    }
}

impl Default for SenderBudgets {
    fn default() -> Self {
        Self {
            slots: (0..2 * SLOTS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            overruns: LogInterval::default(),
        }
    }
}

impl SenderBudgets {
    pub(super) fn sender(&self, head: &ClientHead, caller_fields: &CallerFields) -> Sender {
        let headers = &head.parts.headers;
        let mut names: Vec<_> = caller_fields.find_in(headers).collect();
        names.sort_unstable_by_key(|name| name.as_str());
        let lines = names.iter().flat_map(|name| headers.get_all(*name));
        let credential = (!names.is_empty()).then(|| self.hasher.hash_one(lines.collect::<Vec<_>>()));
        Sender { network: sender_network(head), credential }
    }

    /// Charges `amount` to the sender, who has `per_minute`. `false`: it is more than the sender has left.
    pub(super) fn charge(
        &self,
        sender: Sender,
        (account, amount): (Account, u64),
        per_minute: u64,
        now: Moment,
    ) -> bool {
        let now = now.as_nanos();
        self.owners(sender, account, per_minute).all(|(slot, limit)| {
            let charged = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid_back| {
                let paid_back = paid_back.max(now).saturating_add(price(amount, limit));
                (paid_back - now <= MINUTE_NANOS).then_some(paid_back)
            });
            charged.is_ok()
        })
    }

    /// Charges what was used already, whatever the sender has left.
    pub(super) fn debit(
        &self,
        sender: Sender,
        (account, amount): (Account, u64),
        per_minute: u64,
        now: Moment,
    ) {
        let now = now.as_nanos();
        for (slot, limit) in self.owners(sender, account, per_minute) {
            let owed = |paid_back: u64| paid_back.max(now).saturating_add(price(amount, limit));
            let most = now.saturating_add(MAX_DEBT_NANOS);
            slot.update(Ordering::Relaxed, Ordering::Relaxed, |paid_back| owed(paid_back).min(most));
        }
    }

    /// Whether the sender has anything left.
    pub(super) fn has_credit(&self, sender: Sender, account: Account, per_minute: u64, now: Moment) -> bool {
        self.owed(sender, account, per_minute, now) < MINUTE_NANOS
    }

    /// Whether the sender has used a tenth of its budget or more, and not paid it back: it sends more than usual.
    pub(super) fn is_burst(&self, sender: Sender, account: Account, per_minute: u64, now: Moment) -> bool {
        self.owed(sender, account, per_minute, now) >= BURST_NANOS
    }

    /// The time until all that was charged to the sender is paid back, in nanoseconds.
    fn owed(&self, sender: Sender, account: Account, per_minute: u64, now: Moment) -> u64 {
        let owed = |slot: &AtomicU64| slot.load(Ordering::Relaxed).saturating_sub(now.as_nanos());
        self.owners(sender, account, per_minute).map(|(slot, _)| owed(slot)).max().unwrap_or_default()
    }

    /// How long the turns take that the sender's address has been charged for.
    pub(super) fn purge_rate_debt(&self, sender: Sender, now: Moment) -> Duration {
        let address = Sender { credential: None, ..sender };
        Duration::from_nanos(self.owed(address, Account::PurgeRate, 60 * TARGETS_PER_SECOND, now))
    }

    /// Charges the sender's address for a turn.
    pub(super) fn charge_purge_rate(&self, sender: Sender, targets: usize, now: Moment) {
        let address = Sender { credential: None, ..sender };
        self.debit(address, (Account::PurgeRate, targets as u64), 60 * TARGETS_PER_SECOND, now);
    }

    /// The budgets that a sender draws on, and their amounts for a minute.
    fn owners(
        &self,
        Sender { network, credential }: Sender,
        account: Account,
        per_minute: u64,
    ) -> impl Iterator<Item = (&AtomicU64, u64)> {
        // Writes are refused by this account alone: no collision with another one makes that happen.
        let table = if account == Account::PurgeRate { SLOTS } else { 0 };
        let slot = move |credential: Option<u64>| {
            &self.slots[table + self.hasher.hash_one((account, network, credential)) as usize % SLOTS]
        };
        // The marker keeps the address's credentials apart from its requests without any.
        let together =
            credential.map(|_| (slot(Some(0)), per_minute.saturating_mul(CREDENTIALS_PER_ADDRESS)));
        let own = (slot(credential), per_minute);
        together.into_iter().chain([own]).filter(move |_| network.is_some())
    }

    /// Logs that a write was over its sender's budget, once a minute for all senders.
    pub(super) fn log_overrun(&self, head: &ClientHead, now: Moment) {
        if let Some(writes) = self.overruns.record(now) {
            let client = head.client_ip.or(head.peer);
            tracing::warn!(
                ?client,
                writes,
                "writes over `limits.purge_targets_per_client` or `cut_writes_per_client`; last client named"
            );
        }
    }
}

fn price(amount: u64, per_minute: u64) -> u64 {
    let price = u128::from(MINUTE_NANOS) * u128::from(amount) / u128::from(per_minute.max(1));
    u64::try_from(price).unwrap_or(u64::MAX)
}

/// The network that a request comes from; `None` for a proxy that is trusted and names nobody, and for larder itself.
pub(super) fn sender_network(head: &ClientHead) -> Option<IpAddr> {
    head.untrusted_address().map(client_network)
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
    use std::collections::HashSet;

    use super::Account::{CutWrites, PurgeTargets, UnsentBytes};
    use super::*;

    fn anonymous(address: &str) -> Sender {
        Sender { network: Some(client_network(address.parse().expect("an address"))), credential: None }
    }

    fn moment_at(seconds: u64) -> Moment {
        Moment::from_nanos(1 + seconds * 1_000_000_000)
    }

    /// A table in which no two of these senders, and none of so many addresses, share a slot.
    fn without_collisions(senders: &[Sender], addresses: usize) -> SenderBudgets {
        let has_none = |budgets: &SenderBudgets| {
            let owners = senders.iter().flat_map(|sender| budgets.owners(*sender, PurgeTargets, 1));
            let slots: HashSet<_> = owners.map(|(slot, _)| std::ptr::from_ref(slot)).collect();
            slots.len() == senders.len() + addresses
        };
        std::iter::repeat_with(SenderBudgets::default).find(has_none).expect("a seed")
    }

    #[test]
    fn a_budget_is_a_minute_s_and_flows_back() {
        let budgets = SenderBudgets::default();
        let (one, other) = (anonymous("192.0.2.1"), anonymous("192.0.2.2"));
        assert!(
            budgets.charge(one, (PurgeTargets, 50), 60, moment_at(0))
                && budgets.charge(one, (PurgeTargets, 10), 60, moment_at(0))
        );
        assert!(!budgets.charge(one, (PurgeTargets, 1), 60, moment_at(0)));
        assert!(budgets.charge(other, (PurgeTargets, 60), 60, moment_at(0)), "another's is its own");
        assert!(
            budgets.charge(one, (PurgeTargets, 5), 60, moment_at(5))
                && !budgets.charge(one, (PurgeTargets, 1), 60, moment_at(5))
        );
        assert!(!budgets.charge(one, (PurgeTargets, 61), 60, moment_at(1000)), "more than there ever is");
        assert!(
            budgets.charge(one, (PurgeTargets, 60), 60, moment_at(1000)),
            "what was refused is not charged"
        );
        let (here, same) = (anonymous("2001:db8::1"), anonymous("2001:db8::2"));
        assert!(
            budgets.charge(here, (PurgeTargets, 60), 60, moment_at(0))
                && !budgets.charge(same, (PurgeTargets, 1), 60, moment_at(0))
        );
    }

    #[test]
    fn callers_of_one_address_have_their_own_and_ten_together() {
        let caller = |credential| Sender { credential: Some(credential), ..anonymous("192.0.2.1") };
        let elsewhere = Sender { network: anonymous("192.0.2.9").network, credential: Some(1) };
        let all =
            (1..=CREDENTIALS_PER_ADDRESS).chain([99]).map(caller).chain([elsewhere, anonymous("192.0.2.1")]);
        // Two addresses have a budget for all of their credentials, too.
        let budgets = without_collisions(&all.collect::<Vec<_>>(), 2);
        for credential in 1..=CREDENTIALS_PER_ADDRESS {
            assert!(budgets.charge(caller(credential), (PurgeTargets, 60), 60, moment_at(0)), "{credential}");
        }
        assert!(
            !budgets.charge(caller(99), (PurgeTargets, 1), 60, moment_at(0)),
            "an invented credential brings no more"
        );
        assert!(
            budgets.charge(elsewhere, (PurgeTargets, 60), 60, moment_at(0)),
            "many clients may send one public value"
        );
        assert!(budgets.charge(anonymous("192.0.2.1"), (PurgeTargets, 60), 60, moment_at(0)));
        for credential in [None, Some(1)] {
            let behind_a_proxy = Sender { network: None, credential };
            assert!(budgets.charge(behind_a_proxy, (PurgeTargets, 10_000), 60, moment_at(0)));
        }
    }

    #[test]
    fn what_was_used_is_charged_and_forgotten_at_last() {
        let budgets = SenderBudgets::default();
        let (one, minute) = (anonymous("192.0.2.1"), 1000);
        let has_credit = |seconds| budgets.has_credit(one, UnsentBytes, minute, moment_at(seconds));
        budgets.debit(one, (UnsentBytes, 999), minute, moment_at(0));
        assert!(has_credit(0));
        budgets.debit(one, (UnsentBytes, 2000), minute, moment_at(0));
        assert!(!has_credit(0) && !has_credit(119) && has_credit(121));
        assert!(budgets.charge(one, (CutWrites, 30), 30, moment_at(0)), "a budget of its own");
        budgets.debit(one, (UnsentBytes, u64::MAX), minute, moment_at(0));
        assert!(!has_credit(539) && has_credit(541));
        let unbounded = Sender { network: None, credential: Some(1) };
        budgets.debit(unbounded, (UnsentBytes, u64::MAX), minute, moment_at(0));
        assert!(budgets.has_credit(unbounded, UnsentBytes, minute, moment_at(0)));
    }

    #[test]
    fn a_tenth_of_a_budget_is_no_burst() {
        let budgets = SenderBudgets::default();
        let one = anonymous("192.0.2.1");
        let charge = |amount| budgets.charge(one, (PurgeTargets, amount), 600, moment_at(0));
        let is_burst = |seconds| budgets.is_burst(one, PurgeTargets, 600, moment_at(seconds));
        assert!(charge(59) && !is_burst(0));
        assert!(charge(1) && is_burst(0) && !is_burst(1));
        assert!(charge(540) && is_burst(53) && !is_burst(55));
        assert!(!budgets.is_burst(
            Sender { network: None, credential: None },
            PurgeTargets,
            600,
            moment_at(0)
        ));
    }
}
