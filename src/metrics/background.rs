//! Counters of background requests.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::{Counter, Metrics};

/// Reason of a background request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BackgroundKind {
    Warm,
    Refresh,
    Reprime,
    Audit,
}

impl BackgroundKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            BackgroundKind::Warm => "warm",
            BackgroundKind::Refresh => "refresh",
            BackgroundKind::Reprime => "reprime",
            BackgroundKind::Audit => "audit",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct BackgroundCounters {
    /// By kind and result. Results are fixed strings, so the map stays small.
    pub(super) requests: Mutex<BTreeMap<(BackgroundKind, &'static str), u64>>,
    pub(super) warmed: Counter,
    pub(super) refreshed_ahead: Counter,
}

impl Metrics {
    /// Counts a background request by its result.
    pub(crate) fn record_background(&self, kind: BackgroundKind, result: &'static str) {
        *self.process.background.requests.lock().entry((kind, result)).or_default() += 1;
    }

    /// The results of one kind, with their counts.
    pub(crate) fn background_results(&self, kind: BackgroundKind) -> BTreeMap<&'static str, u64> {
        let requests = self.process.background.requests.lock();
        requests
            .iter()
            .filter(|((its, _), _)| *its == kind)
            .map(|((_, result), count)| (*result, *count))
            .collect()
    }

    /// Counts a finished run of a `warm` entry.
    pub(crate) fn record_warm_run(&self) {
        self.process.background.warmed.add(1);
    }

    /// Counts a fresh response that is fetched again before it expires.
    pub(crate) fn record_refresh_ahead(&self) {
        self.process.background.refreshed_ahead.add(1);
    }
}
