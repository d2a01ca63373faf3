//! Bytes fetched for a client beyond what is sent to any: of a whole where it asked for a range, behind a 304, or after it
//! has left. They fill the store, and cost the client nothing; each sender has a budget of them.

use std::sync::Arc;

use http::Method;
use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE};

use super::client_request::ClientHead;
use super::sender_budgets::{Account, Sender, SenderBudgets};
use super::shared_body::OnUnsent;
use super::worker::Worker;
use crate::clock::Moment;

/// The budget of the client of one fetch.
pub(super) struct UnsentBytes {
    budgets: Arc<SenderBudgets>,
    sender: Sender,
    per_minute: u64,
}

impl UnsentBytes {
    /// `None`: it is not bounded, or no client waits for the fetch.
    pub(super) fn new(worker: &Worker, head: &ClientHead) -> Option<Self> {
        let (config, budgets) = (&worker.proxy.config, &worker.proxy.sender_budgets);
        let per_minute = config.limits.unsent_bytes_per_client;
        (per_minute > 0 && head.refresh.is_none()).then(|| Self {
            budgets: budgets.clone(),
            sender: budgets.sender(head, &config.credentials),
            per_minute,
        })
    }

    pub(super) fn is_used_up(&self) -> bool {
        !self.budgets.has_credit(self.sender, Account::UnsentBytes, self.per_minute, Moment::now())
    }

    /// Charges the bytes that it is called with.
    pub(super) fn into_charge(self) -> OnUnsent {
        let Self { budgets, sender, per_minute } = self;
        Box::new(move |bytes| budgets.debit(sender, (Account::UnsentBytes, bytes), per_minute, Moment::now()))
    }
}

/// Whether a fetch for this request may bring more than its client is sent, and its client's budget is used up: then it is
/// passed on as it is.
pub(super) fn is_over_budget(worker: &Worker, head: &ClientHead) -> bool {
    head.parts.method == Method::GET
        && head.content.is_none()
        && [RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE].iter().any(|name| head.has(name))
        && UnsentBytes::new(worker, head).is_some_and(|budget| budget.is_used_up())
}
