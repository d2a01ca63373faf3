//! State of each `warm` entry: its current run, progress and last result.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{SharedTally, Tally, Warming};
use crate::clock::Timestamp;

/// Runs by entry name.
pub(super) type Runs = BTreeMap<String, Run>;

#[derive(Default)]
pub(super) struct Run {
    runs: u64,
    present: Option<SharedTally>,
    last: Option<Tally>,
    began: Option<Timestamp>,
    next: Option<Timestamp>,
}

/// One entry of `GET /warm`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunStatus {
    name: String,
    /// Completed runs.
    runs: u64,
    running: bool,
    /// Start of the current or last run, in seconds since 1970.
    began: Option<u64>,
    next: Option<u64>,
    /// Totals of the current or last run.
    tally: Option<Tally>,
}

impl Warming {
    /// Registers a run, unless one of the same entry is active.
    pub(super) fn start_run(&self, name: &str, progress: &SharedTally, at: Timestamp) -> bool {
        let mut runs = self.lock_runs();
        let run = runs.entry(name.to_owned()).or_default();
        if run.present.is_some() {
            return false;
        }
        (run.present, run.began) = (Some(progress.clone()), Some(at));
        true
    }

    pub(super) fn finish_run(&self, name: &str) -> Tally {
        let mut runs = self.lock_runs();
        let run = runs.entry(name.to_owned()).or_default();
        let tally = run.present.take().map(|progress| progress.lock().clone()).unwrap_or_default();
        run.runs += 1;
        run.last = Some(tally.clone());
        tally
    }

    pub(super) fn schedule_next(&self, name: &str, next: Option<Timestamp>) {
        self.lock_runs().entry(name.to_owned()).or_default().next = next;
    }

    /// Forgets entries that are no longer configured, except active ones.
    pub(super) fn retain_runs(&self, names: &[&str]) {
        self.lock_runs().retain(|name, run| run.present.is_some() || names.contains(&name.as_str()));
    }

    pub(crate) fn run_statuses(&self) -> Vec<RunStatus> {
        let shown = |(name, run): (&String, &Run)| RunStatus {
            name: name.clone(),
            runs: run.runs,
            running: run.present.is_some(),
            began: run.began.map(Timestamp::as_secs),
            next: run.next.map(Timestamp::as_secs),
            tally: run.present.as_ref().map(|progress| progress.lock().clone()).or_else(|| run.last.clone()),
        };
        self.lock_runs().iter().map(shown).collect()
    }
}
