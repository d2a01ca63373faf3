//! Totals of a run of background requests.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::proxy::RefreshOutcome;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tally {
    /// All requests of the run.
    pub requests: u64,
    /// Fetched from the upstream and stored.
    pub fetched: u64,
    /// Already fresh.
    pub fresh: u64,
    pub not_stored: u64,
    /// Not sent, because the response could not be stored.
    pub refused: u64,
    pub failed: u64,
    /// Reasons of those not stored, refused or failed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<String, u64>,
}

/// Maximum number of distinct reasons.
const MAX_REASONS: usize = 16;

impl Tally {
    pub(crate) fn add(&mut self, outcome: &RefreshOutcome) {
        let (count, reason) = match outcome {
            RefreshOutcome::Fetched => (&mut self.fetched, None),
            RefreshOutcome::Fresh => (&mut self.fresh, None),
            RefreshOutcome::NotStored(reason) => (&mut self.not_stored, Some(*reason)),
            RefreshOutcome::Refused(reason) => (&mut self.refused, Some(*reason)),
            RefreshOutcome::Failed(reason) => (&mut self.failed, Some(reason.as_str())),
        };
        *count += 1;
        if let Some(reason) = reason
            && (self.reasons.len() < MAX_REASONS || self.reasons.contains_key(reason))
        {
            *self.reasons.entry(reason.to_owned()).or_default() += 1;
        }
    }
}
