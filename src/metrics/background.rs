//! Figures of what larder asks for itself.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::exposition::Family;
use super::{Count, Metrics};

/// Why it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackgroundKind {
    Warm,
    Refresh,
    Reprime,
}

impl BackgroundKind {
    pub fn as_str(self) -> &'static str {
        match self {
            BackgroundKind::Warm => "warm",
            BackgroundKind::Refresh => "refresh",
            BackgroundKind::Reprime => "reprime",
        }
    }
}

#[derive(Debug, Default)]
pub struct Background {
    /// By kind and result: the callers' own words, so there are few.
    requests: Mutex<BTreeMap<(BackgroundKind, &'static str), u64>>,
    warmed: Count,
    refreshed_ahead: Count,
}

impl Background {
    fn requests(&self) -> MutexGuard<'_, BTreeMap<(BackgroundKind, &'static str), u64>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Metrics {
    /// A request that no client has sent, and what became of it.
    pub fn background(&self, kind: BackgroundKind, result: &'static str) {
        *self.all.background.requests().entry((kind, result)).or_default() += 1;
    }

    /// An entry of `warm` was gone through to its end.
    pub fn warmed(&self) {
        self.all.background.warmed.add(1);
    }

    /// A response that is still fresh is fetched anew.
    pub fn refreshed_ahead(&self) {
        self.all.background.refreshed_ahead.add(1);
    }

    pub(super) fn of_background(&self) -> Vec<Family> {
        let background = &self.all.background;
        let mut requests = Family::counter(
            "larder_background_requests",
            "Requests that no client has sent, why, and what became of them.",
        );
        for ((kind, result), count) in background.requests().iter() {
            let labels = vec![("kind", kind.as_str().to_owned()), ("result", (*result).to_owned())];
            requests.push_if_any(labels, *count);
        }
        vec![
            requests,
            Family::counter("larder_warm_runs", "Entries of `warm` that were gone through.")
                .with(background.warmed.get()),
            Family::counter("larder_refreshed_ahead", "Responses fetched anew while they were fresh.")
                .with(background.refreshed_ahead.get()),
        ]
    }
}
