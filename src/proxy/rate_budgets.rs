//! The budgets of limited routes in this process, and the fields that tell a client its own.

use std::collections::HashMap;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;

use crate::clock::Moment;
use crate::policy::rate_budget::BudgetId;
use crate::policy::rate_limit::{Charge, RateLimit};

const SHARDS: usize = 8;

/// 131,072 callers in all shards, about 6 MiB.
const MAX_BUDGETS_PER_SHARD: usize = 8192;

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The budgets of the callers of limited routes. Those of values that clients can invent have shards of their own, so that
/// they crowd out no others.
#[derive(Default)]
pub(super) struct LocalBudgets([[Mutex<Shard>; SHARDS]; 2]);

/// When what a caller owes is paid back.
type Shard = HashMap<BudgetId, Moment>;

/// The fields that tell a client its budget.
pub(super) struct RateFields {
    policy: HeaderValue,
    state: HeaderValue,
}

impl LocalBudgets {
    fn shard(&self, id: BudgetId) -> &Mutex<Shard> {
        &self.0[usize::from(id.is_inventable)][usize::from(id.hash[0]) % SHARDS]
    }

    /// The charge that a request would get now.
    pub(super) fn quote(&self, id: BudgetId, limit: &RateLimit, now: Moment) -> Charge {
        limit.charge(owed(&mut self.shard(id).lock(), id, limit, now))
    }

    pub(super) fn charge(&self, id: BudgetId, limit: &RateLimit, now: Moment) -> Charge {
        let mut shard = self.shard(id).lock();
        let charge = limit.charge(owed(&mut shard, id, limit, now));
        if charge.is_granted {
            record(&mut shard, id, now.plus(charge.owed), now);
        }
        charge
    }

    pub(super) fn learn(&self, id: BudgetId, owed: Duration, now: Moment) {
        record(&mut self.shard(id).lock(), id, now.plus(owed), now);
    }
}

/// The debt of a caller. One from a larger limit, before a reload, is cut to the capacity.
fn owed(shard: &mut Shard, id: BudgetId, limit: &RateLimit, now: Moment) -> Duration {
    let Some(paid_back) = shard.get_mut(&id) else { return Duration::ZERO };
    *paid_back = (*paid_back).min(now.plus(limit.capacity()));
    paid_back.since(now)
}

/// Records a budget. A full shard forgets who owes nothing; if that frees less than half of it, it forgets the half that
/// owes least, too, so that a record costs a constant number of steps on average.
fn record(shard: &mut Shard, id: BudgetId, paid_back: Moment, now: Moment) {
    if shard.len() >= MAX_BUDGETS_PER_SHARD && !shard.contains_key(&id) {
        shard.retain(|_, paid_back| *paid_back > now);
        if shard.len() > MAX_BUDGETS_PER_SHARD / 2 {
            let mut debts: Vec<Moment> = shard.values().copied().collect();
            let middle = debts.len() / 2;
            let median = *debts.select_nth_unstable(middle).1;
            shard.retain(|_, paid_back| *paid_back > median);
        }
    }
    shard.insert(id, paid_back);
}

impl RateFields {
    pub(super) fn new(limit: &RateLimit, name: &str, charge: Charge) -> Option<Self> {
        let policy = HeaderValue::try_from(limit.policy_field(name)).ok()?;
        let state = HeaderValue::try_from(limit.state_field(name, charge)).ok()?;
        Some(Self { policy, state })
    }

    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        headers.insert(RATELIMIT_POLICY, self.policy.clone());
        headers.insert(RATELIMIT, self.state.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixtures::rate_limit;

    fn id(number: u32) -> BudgetId {
        let mut hash = [0; 16];
        hash[1..5].copy_from_slice(&number.to_be_bytes());
        BudgetId { hash, is_inventable: false }
    }

    fn limit(requests: u32, seconds: u64) -> RateLimit {
        rate_limit(requests, seconds, requests)
    }

    #[test]
    fn a_debt_from_before_a_reload_is_at_most_the_new_limit_s() {
        let (budgets, start) = (LocalBudgets::default(), Moment::now());
        let (former, limit) = (limit(1, 24 * 3600), limit(100, 60));
        assert!(budgets.charge(id(1), &former, start).is_granted);
        assert!(budgets.charge(id(2), &former, start).is_granted);
        assert!(!budgets.charge(id(1), &limit, start).is_granted);
        assert!(!budgets.quote(id(2), &limit, start).is_granted);
        let later = start.plus(limit.price());
        assert!(budgets.charge(id(1), &limit, later).is_granted);
        assert!(budgets.quote(id(2), &limit, later).is_granted);
    }

    #[test]
    fn invented_values_crowd_out_no_one_who_owes_more() {
        let (budgets, start) = (LocalBudgets::default(), Moment::now());
        let (address, limit) = (id(0), limit(2, 10));
        let value = |number| BudgetId { is_inventable: true, ..id(number) };
        let owes_more = value(u32::MAX);
        for spent in [address, address, owes_more, owes_more] {
            assert!(budgets.charge(spent, &limit, start).is_granted);
        }
        for number in 0..3 * u32::try_from(MAX_BUDGETS_PER_SHARD).expect("a count") {
            assert!(budgets.charge(value(number), &limit, start).is_granted);
        }
        assert!(!budgets.charge(address, &limit, start).is_granted);
        assert!(!budgets.charge(owes_more, &limit, start).is_granted);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_first_who_owes_nothing() {
        let limit = limit(1, 10);
        let (budgets, start) = (LocalBudgets::default(), Moment::now());
        let most = u32::try_from(MAX_BUDGETS_PER_SHARD).expect("a count");
        let later = start.plus(Duration::from_secs(10));
        for number in 0..most {
            let now = if number < most - 10 { start } else { later };
            assert!(budgets.charge(id(number), &limit, now).is_granted);
        }
        assert!(!budgets.charge(id(0), &limit, start).is_granted);
        assert!(budgets.charge(id(most), &limit, later).is_granted);
        assert!(!budgets.charge(id(most - 1), &limit, later).is_granted, "it still owes");
        assert_eq!(budgets.0[0][0].lock().len(), 11);
        for number in 0..3 * most {
            budgets.charge(id(number), &limit, later);
            assert!(budgets.0[0][0].lock().len() <= MAX_BUDGETS_PER_SHARD);
        }
    }
}
