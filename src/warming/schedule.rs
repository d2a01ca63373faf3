//! Scheduled warming, at startup and at intervals. Replicas start at random offsets in time and in the list, so that
//! each finds what the others stored.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::list::ListContents;
use super::{SharedTally, TICK, Tally, Warming};
use crate::clock::Timestamp;
use crate::config::{Config, WarmEntry};
use crate::metrics::BackgroundKind;
use crate::phase::{Phase, PhaseReceiver};
use crate::policy::url_template::{MAX_URLS, PlaceholderValues};
use crate::proxy::{RefreshOutcome, RefreshPolicy};
use crate::stored_response::SampleRequest;

/// Maximum random start delay of a replica.
const MAX_START_DELAY: Duration = Duration::from_secs(1);

struct WarmTimer {
    entry: Arc<WarmEntry>,
    due: Option<Timestamp>,
}

impl Warming {
    /// Runs the schedule until the process stops.
    pub(crate) async fn run(self: Arc<Self>, mut phase: PhaseReceiver) {
        // Aborted with this function.
        let mut audits = JoinSet::new();
        audits.spawn(self.clone().run_audits());
        let mut timers = Vec::new();
        let mut config: Option<Arc<Config>> = None;
        loop {
            let proxy = self.live.load_full();
            let now = proxy.clock.now();
            if !config.as_ref().is_some_and(|config| Arc::ptr_eq(config, &proxy.config)) {
                timers = self.update_timers(timers, &proxy.config, now);
                config = Some(proxy.config.clone());
            }
            // Responses fetched before Redis is connected could not be stored.
            if !proxy.store.remote_status().is_some_and(|remote| remote.is_unavailable()) {
                timers.iter_mut().for_each(|timer| self.start_if_due(timer, now));
            }
            self.reprime(&proxy);
            tokio::select! {
                () = sleep(TICK) => {}
                () = phase.reached(Phase::Stopping) => return,
            }
        }
    }

    /// Keeps the due time of unchanged entries; new entries start now.
    fn update_timers(&self, before: Vec<WarmTimer>, config: &Config, now: Timestamp) -> Vec<WarmTimer> {
        let names: Vec<&str> = config.warm.iter().map(|entry| entry.name.as_str()).collect();
        self.retain_runs(&names);
        let timer = |entry: &WarmEntry| {
            let known = before.iter().find(|timer| *timer.entry == *entry);
            let first = match entry.on_start {
                true => Some(now),
                false => entry.every.map(|every| now.plus(every)),
            };
            let due = known.map_or(first, |known| known.due);
            self.schedule_next(&entry.name, due);
            WarmTimer { entry: Arc::new(entry.clone()), due }
        };
        config.warm.iter().map(timer).collect()
    }

    fn start_if_due(self: &Arc<Self>, timer: &mut WarmTimer, now: Timestamp) {
        if timer.due.is_none_or(|due| now < due) {
            return;
        }
        timer.due = timer.entry.every.map(|every| now.plus(every));
        self.schedule_next(&timer.entry.name, timer.due);
        let progress = SharedTally::default();
        if !self.start_run(&timer.entry.name, &progress, now) {
            tracing::warn!(name = timer.entry.name, "warm: skipped a run, the previous one is still active");
            return;
        }
        tokio::spawn(self.clone().run_entry(timer.entry.clone(), progress));
    }

    async fn run_entry(self: Arc<Self>, entry: Arc<WarmEntry>, progress: SharedTally) {
        if self.live.load().store.remote_status().is_some() {
            sleep(MAX_START_DELAY.mul_f64(random_fraction())).await;
        }
        self.run_entry_now(entry, progress).await;
    }

    /// Runs a registered entry.
    pub(super) async fn run_entry_now(self: Arc<Self>, entry: Arc<WarmEntry>, progress: SharedTally) {
        self.send_entry(&entry, progress).await;
        let Tally { requests, fetched, fresh, not_stored, refused, failed, .. } =
            self.finish_run(&entry.name);
        let name = &entry.name;
        tracing::info!(name, requests, fetched, fresh, not_stored, refused, failed, "warm: run finished");
        self.live.load().metrics.record_warm_run();
    }

    /// Sends the requests of an entry.
    pub(super) async fn send_entry(self: &Arc<Self>, entry: &WarmEntry, progress: SharedTally) {
        let (mut requests, failure) = self.entry_requests(entry).await;
        if let Some(error) = failure {
            let error = format!("cannot read the list of `each`: {error}");
            tracing::warn!(name = entry.name, error, "warm: failed");
            self.live.load().metrics.record_background(BackgroundKind::Warm, "failed");
            progress.lock().add(&RefreshOutcome::Failed(error));
        }
        if self.live.load().store.remote_status().is_some() {
            let length = requests.len();
            let first = (random_fraction() * length as f64) as usize;
            requests.rotate_left(first.min(length));
        }
        progress.lock().requests = requests.len() as u64;
        tracing::info!(name = entry.name, requests = requests.len(), "warm: run started");
        self.run_all(BackgroundKind::Warm, requests, RefreshPolicy::Keep(entry.retention()), progress).await;
    }

    /// The requests of an entry, and why its list could not be read to the end.
    pub(super) async fn entry_requests(&self, entry: &WarmEntry) -> (Vec<SampleRequest>, Option<String>) {
        let Some(list) = &entry.list else { return (expand_requests(entry, &entry.values), None) };
        let ListContents { values: found, pages, failure } = self.read_list(list, &entry.headers).await;
        let mut values = entry.values.clone();
        values.insert(String::new(), found);
        // A list that no route caches is read for its values alone.
        let routes = self.live.load().routes.clone();
        let is_cached = |page: &Uri| routes.find(page.path()).is_some_and(|route| route.caches());
        let pages = pages
            .into_iter()
            .filter(is_cached)
            .map(|uri| SampleRequest { uri, headers: entry.headers.clone() });
        let requests = pages.chain(expand_requests(entry, &values)).take(MAX_URLS).collect();
        (requests, failure)
    }
}

fn expand_requests(entry: &WarmEntry, values: &PlaceholderValues) -> Vec<SampleRequest> {
    let urls = entry.get.iter().flat_map(|template| template.expand(values)).take(MAX_URLS);
    urls.map(|uri| SampleRequest { uri, headers: entry.headers.clone() }).collect()
}

/// A random number in 0 to 1; 0 if there is no randomness, which only makes replicas start together.
fn random_fraction() -> f64 {
    let mut bytes = [0; 4];
    let filled = getrandom::fill(&mut bytes);
    if filled.is_ok() { f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX) } else { 0.0 }
}
