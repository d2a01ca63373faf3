//! Ends the stale windows of stored responses (RFC 5861) where the upstream says that they are gone.

use std::sync::Arc;

use http::StatusCode;

use super::super::lookup::StaleResponse;
use super::super::refresh_window::claim_refresh;
use super::super::requester::CallerKind;
use super::target::FetchTarget;
use super::{entry, insert};
use crate::policy::withdrawal::{Withdrawal, withdrawal, withdrawal_by_head};
use crate::store::FetchToken;
use crate::stored_response::{StoredHead, StoredResponse};

/// The meaning of a response that is not stored for what is.
pub(super) fn find_withdrawal(target: &FetchTarget, status: StatusCode) -> Withdrawal {
    let is_in_key = target.caller_kind() == CallerKind::InKey;
    withdrawal(&target.route, target.caller, is_in_key, status)
}

/// The same for a response that was not to be stored: to a HEAD, or to a request with a condition.
pub(super) fn find_withdrawal_by_head(target: &FetchTarget, status: StatusCode) -> Withdrawal {
    let is_in_key = target.caller_kind() == CallerKind::InKey;
    withdrawal_by_head(&target.route, target.caller, is_in_key, status)
}

/// Ends the stale windows, of `stale` or of all variants. Whether `stale` is not served stale any more; it may still be
/// validated.
pub(super) fn withdraw(
    target: &FetchTarget,
    token: &FetchToken,
    stale: Option<&StaleResponse>,
    withdrawal: Withdrawal,
) -> bool {
    if withdrawal == Withdrawal::Nothing {
        return false;
    }
    let now = target.proxy().clock.now();
    let may_withdraw = |key| target.proxy().collapse_table.may_withdraw(key, &target.head);
    let withdraws_all = withdrawal == Withdrawal::AllVariants && may_withdraw(&target.primary);
    if withdraws_all {
        insert::withdraw_variants(target, token, now);
    }
    let stale = stale.filter(|stale| withdraws_all || may_withdraw(&stale.response.head.key));
    if let Some(stale) = stale {
        let head = entry::without_stale_windows(&stale.response.head, &target.route);
        // Where it is still fresh, it has just been refreshed ahead.
        claim_refresh(&head, now);
        let withdrawn = StoredResponse { head: Arc::new(head), body: stale.response.body.clone() };
        target.proxy().tasks.spawn(insert::replace(target, token, withdrawn));
    }
    stale.is_some()
}

/// The response is stored. Where it says that the resource is gone, no other variant is served stale.
pub(super) fn withdraw_other_variants(target: &FetchTarget, token: &FetchToken, stored: &StoredHead) {
    if find_withdrawal(target, stored.status) == Withdrawal::AllVariants {
        insert::withdraw_variants(target, token, stored.terms().requested_at);
    }
}
