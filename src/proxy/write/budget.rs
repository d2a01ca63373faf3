//! The bounds on purges by one sender's writes, and on the doubt they leave.

use std::sync::atomic::Ordering;

use super::super::error::ProxyError;
use super::super::sender_budgets::{Account, Sender, SenderBudgets};
use super::Write;
use crate::clock::Moment;
use crate::policy::invalidation::WriteTargets;
use crate::policy::write_outcome::WriteOutcome;

impl Write {
    /// Waits until the write may be forwarded, if its sender purges much at once. `targets`: those that are known by now.
    ///
    /// # Errors
    /// If it would wait for too long.
    pub(super) async fn wait_for_turn(&self, targets: usize) -> Result<(), ProxyError> {
        let (proxy, sender) = (&self.worker.proxy, self.sender());
        let now = proxy.clock.moment();
        let debt = self.budgets().purge_rate_debt(sender, now);
        if targets == 0 || (debt.is_zero() && !self.is_burst(targets)) {
            return Ok(());
        }
        let turn = proxy.purge_rate.reserve(targets, debt, now).map_err(|exceeded| {
            self.record_overrun();
            ProxyError::PurgeRateExceeded(exceeded)
        })?;
        self.budgets().charge_purge_rate(sender, targets, now);
        self.reserved_targets.store(targets, Ordering::Relaxed);
        if turn > now {
            proxy.clock.sleep_until(turn).await;
        }
        Ok(())
    }

    /// Charges the sender's budget. If it is used up, the write loses what it does not name in full, and its doubt. Returns
    /// whether it loses anything.
    pub(super) fn limit_to_budget(&self, outcome: WriteOutcome, written: &mut WriteTargets) -> bool {
        if outcome == WriteOutcome::Nothing {
            return false;
        }
        let targets = written.targets.len();
        let is_within = self.charge_budget(targets);
        let is_limited = !is_within && (outcome != WriteOutcome::Purge || !written.is_exact());
        if is_limited {
            self.record_overrun();
            written.drop_widened();
        }
        self.charge_purge_rate(targets);
        is_limited
    }

    /// Lets other writes wait for what this one purges beyond what it took its turn for.
    fn charge_purge_rate(&self, targets: usize) {
        let further = targets.saturating_sub(self.reserved_targets.fetch_max(targets, Ordering::Relaxed));
        if further > 0 && self.is_burst(targets) {
            let (proxy, now) = (&self.worker.proxy, self.worker.proxy.clock.moment());
            proxy.purge_rate.defer(further, now);
            self.budgets().charge_purge_rate(self.sender(), further, now);
        }
    }

    /// A write that was cut off costs its client next to nothing: it purges nothing once the sender's budget is used up.
    pub(super) fn limit_cut(&self, outcome: WriteOutcome) -> WriteOutcome {
        let limit = self.worker.proxy.config.limits.cut_writes_per_client;
        if outcome != WriteOutcome::PurgeUrlOfCut || self.charge(Account::CutWrites, 1, limit) {
            return outcome;
        }
        self.record_overrun();
        WriteOutcome::Nothing
    }

    /// Charges the sender's budget of purge targets. `false`: it is used up.
    pub(super) fn charge_budget(&self, targets: usize) -> bool {
        self.charge(Account::PurgeTargets, targets as u64, self.purge_limit())
    }

    fn charge(&self, account: Account, amount: u64, limit: u64) -> bool {
        limit == 0 || self.budgets().charge(self.sender(), (account, amount), limit, Moment::now())
    }

    /// Whether its sender's writes have to take turns, within their budget as well; or this one is more than the budget.
    fn is_burst(&self, targets: usize) -> bool {
        let (limit, now) = (self.purge_limit(), Moment::now());
        let is_burst = || self.budgets().is_burst(self.sender(), Account::PurgeTargets, limit, now);
        limit > 0 && (is_burst() || self.sender().has_address() && targets as u64 > limit)
    }

    fn purge_limit(&self) -> u64 {
        self.worker.proxy.config.limits.purge_targets_per_client
    }

    fn budgets(&self) -> &SenderBudgets {
        &self.worker.proxy.sender_budgets
    }

    fn sender(&self) -> Sender {
        let name = || self.budgets().sender(&self.head, &self.worker.proxy.config.credentials);
        *self.sender.get_or_init(name)
    }

    pub(super) fn record_overrun(&self) {
        self.worker.proxy.metrics.record_write_over_budget();
        self.budgets().log_overrun(&self.head, Moment::now());
    }
}
