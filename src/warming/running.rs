//! The entries of `warm`: which is under way, how far it is, and what became of it the last time.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Progress, Tally, Warming, locked};
use crate::clock::Timestamp;

/// By name.
pub type Runs = BTreeMap<String, Run>;

#[derive(Default)]
pub struct Run {
    runs: u64,
    present: Option<Progress>,
    last: Option<Tally>,
    began: Option<Timestamp>,
    next: Option<Timestamp>,
}

/// As `GET /warm` shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    name: String,
    /// Those that have ended.
    runs: u64,
    running: bool,
    /// When the present one began, or the last; in seconds since 1970.
    began: Option<u64>,
    next: Option<u64>,
    /// Of the present one, or the last.
    tally: Option<Tally>,
}

impl Warming {
    /// Whether a run may begin: one of an entry is under way at a time.
    pub(super) fn begin(&self, name: &str, progress: &Progress, at: Timestamp) -> bool {
        let mut runs = self.runs();
        let run = runs.entry(name.to_owned()).or_default();
        if run.present.is_some() {
            return false;
        }
        (run.present, run.began) = (Some(progress.clone()), Some(at));
        true
    }

    pub(super) fn end(&self, name: &str) -> Tally {
        let mut runs = self.runs();
        let run = runs.entry(name.to_owned()).or_default();
        let tally = run.present.take().map(|progress| locked(&progress).clone()).unwrap_or_default();
        run.runs += 1;
        run.last = Some(tally.clone());
        tally
    }

    pub(super) fn plan(&self, name: &str, next: Option<Timestamp>) {
        self.runs().entry(name.to_owned()).or_default().next = next;
    }

    /// What the configuration does not name any more is forgotten, unless it is under way.
    pub(super) fn keep_only(&self, names: &[&str]) {
        self.runs().retain(|name, run| run.present.is_some() || names.contains(&name.as_str()));
    }

    pub fn shown(&self) -> Vec<Shown> {
        let shown = |(name, run): (&String, &Run)| Shown {
            name: name.clone(),
            runs: run.runs,
            running: run.present.is_some(),
            began: run.began.map(Timestamp::as_secs),
            next: run.next.map(Timestamp::as_secs),
            tally: run.present.as_ref().map(|progress| locked(progress).clone()).or_else(|| run.last.clone()),
        };
        self.runs().iter().map(shown).collect()
    }
}
