//! The bounds on purges by one sender's writes, and on the doubt they leave.

use super::super::sender_budgets::{Account, Sender, SenderBudgets};
use super::Write;
use crate::clock::Moment;
use crate::policy::invalidation::WriteTargets;
use crate::policy::write_outcome::WriteOutcome;

impl Write {
    /// Charges the sender's budget. If it is used up, the write loses what it does not name in full, and its doubt. It waits
    /// for its turn then, and also if its sender purges much at once. Returns whether it loses anything.
    pub(super) async fn limit_to_budget(&self, outcome: WriteOutcome, written: &mut WriteTargets) -> bool {
        if outcome == WriteOutcome::Nothing {
            return false;
        }
        let is_within = self.charge_budget(written.targets.len());
        let is_limited = !is_within && (outcome != WriteOutcome::Purge || !written.is_exact());
        if is_limited {
            self.record_overrun();
            written.drop_widened();
        }
        if !is_within || self.is_burst() {
            self.worker.proxy.purge_pace.wait(written.targets.len()).await;
        }
        is_limited
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

    /// Whether its sender's writes have to wait for their turns, within their budget as well.
    fn is_burst(&self) -> bool {
        let limit = self.purge_limit();
        limit > 0 && self.budgets().is_burst(self.sender(), Account::PurgeTargets, limit, Moment::now())
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
