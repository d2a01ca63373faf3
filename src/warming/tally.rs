//! What became of many requests, in numbers.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::proxy::Carried;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// In all.
    pub requests: u64,
    /// The upstream was asked, and what it said is stored.
    pub fetched: u64,
    /// There was nothing to be done.
    pub fresh: u64,
    pub not_stored: u64,
    /// Not asked for at all: it could not be kept.
    pub refused: u64,
    pub failed: u64,
    /// Why, of those that are not stored, were refused or failed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reasons: BTreeMap<String, u64>,
}

/// So many reasons are told apart.
const REASONS: usize = 16;

impl Tally {
    pub fn of(requests: usize) -> Self {
        Self { requests: requests as u64, ..Self::default() }
    }

    pub fn add(&mut self, carried: &Carried) {
        let (count, reason) = match carried {
            Carried::Fetched => (&mut self.fetched, None),
            Carried::Fresh => (&mut self.fresh, None),
            Carried::NotStored(reason) => (&mut self.not_stored, Some(*reason)),
            Carried::Refused(reason) => (&mut self.refused, Some(*reason)),
            Carried::Failed(reason) => (&mut self.failed, Some(reason.as_str())),
        };
        *count += 1;
        if let Some(reason) = reason
            && (self.reasons.len() < REASONS || self.reasons.contains_key(reason))
        {
            *self.reasons.entry(reason.to_owned()).or_default() += 1;
        }
    }

    pub fn done(&self) -> u64 {
        self.fetched + self.fresh + self.not_stored + self.refused + self.failed
    }
}
