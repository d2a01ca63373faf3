//! `warm` by the clock: at the start and every so often. Several replicas begin at different moments and at different
//! places of the list, so that each finds what the others have stored, and the upstream is asked once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::{Progress, TICK, Tally, Warming, locked};
use crate::clock::Timestamp;
use crate::config::{Config, WarmEntry, WarmList};
use crate::metrics::BackgroundKind;
use crate::policy::content::Content;
use crate::policy::url_template::{MOST_URLS, Values};
use crate::proxy::{Carried, Errand};
use crate::stored_response::Asked;

/// The largest answer that `each` is read from.
const LARGEST_LIST: usize = 8 * 1024 * 1024;

/// A replica of several begins within that time.
const SPREAD: Duration = Duration::from_secs(1);

struct Timer {
    entry: Arc<WarmEntry>,
    due: Option<Timestamp>,
}

impl Warming {
    /// Until larder stops.
    pub async fn run(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let mut timers = Vec::new();
        let mut config: Option<Arc<Config>> = None;
        loop {
            let proxy = self.live.load_full();
            let now = proxy.clock.now();
            if !config.as_ref().is_some_and(|config| Arc::ptr_eq(config, &proxy.config)) {
                timers = self.timers(timers, &proxy.config, now);
                config = Some(proxy.config.clone());
            }
            // What was fetched before the first word from Redis could not be kept.
            if !proxy.store.remote().is_some_and(|remote| remote.is_away()) {
                timers.iter_mut().for_each(|timer| self.start_if_due(timer, now));
            }
            self.reprime(&proxy);
            tokio::select! {
                () = sleep(TICK) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// An entry that stays as it is keeps its time; a new one begins.
    fn timers(&self, before: Vec<Timer>, config: &Config, now: Timestamp) -> Vec<Timer> {
        let names: Vec<&str> = config.warm.iter().map(|entry| entry.name.as_str()).collect();
        self.keep_only(&names);
        let timer = |entry: &WarmEntry| {
            let known = before.iter().find(|timer| *timer.entry == *entry);
            let first = match entry.on_start {
                true => Some(now),
                false => entry.every.map(|every| now.plus(every)),
            };
            Timer { entry: Arc::new(entry.clone()), due: known.map_or(first, |known| known.due) }
        };
        config.warm.iter().map(timer).collect()
    }

    fn start_if_due(self: &Arc<Self>, timer: &mut Timer, now: Timestamp) {
        if timer.due.is_none_or(|due| now < due) {
            return;
        }
        timer.due = timer.entry.every.map(|every| now.plus(every));
        self.plan(&timer.entry.name, timer.due);
        let progress = Progress::default();
        if !self.begin(&timer.entry.name, &progress, now) {
            tracing::warn!(name = timer.entry.name, "was still being warmed when it was due again");
            return;
        }
        tokio::spawn(self.clone().warm(timer.entry.clone(), progress));
    }

    async fn warm(self: Arc<Self>, entry: Arc<WarmEntry>, progress: Progress) {
        let is_shared = self.live.load().store.remote().is_some();
        if is_shared {
            sleep(SPREAD.mul_f64(random())).await;
        }
        let mut all = match self.urls(&entry).await {
            Ok(all) => all,
            Err(error) => {
                let error = format!("the list could not be read: {error}");
                tracing::warn!(name = entry.name, error, "could not be warmed");
                self.live.load().metrics.background(BackgroundKind::Warm, "failed");
                locked(&progress).add(&Carried::Failed(error));
                Vec::new()
            }
        };
        if is_shared {
            let length = all.len();
            let first = (random() * length as f64) as usize;
            all.rotate_left(first.min(length));
        }
        locked(&progress).requests = all.len() as u64;
        tracing::info!(name = entry.name, requests = all.len(), "warms");
        self.carry_all(BackgroundKind::Warm, all, Errand::Keep(entry.keeps_for()), progress).await;
        let Tally { requests, fetched, fresh, not_stored, refused, failed, .. } = self.end(&entry.name);
        let name = &entry.name;
        tracing::info!(name, requests, fetched, fresh, not_stored, refused, failed, "is warm");
        self.live.load().metrics.warmed();
    }

    async fn urls(&self, entry: &WarmEntry) -> Result<Vec<Asked>, String> {
        let mut values = entry.values.clone();
        if let Some(list) = &entry.list {
            let found = self.listed(entry, list).await?;
            values.insert(String::new(), found);
        }
        Ok(asked_of(entry, &values))
    }

    async fn listed(&self, entry: &WarmEntry, list: &WarmList) -> Result<Vec<String>, String> {
        let asked = Asked { uri: list.url.clone(), headers: entry.headers.clone() };
        let _turn = self.budget.turn(&self.desk, &self.live).await;
        let worker = self.desk.worker().clone();
        let (headers, body) = worker.obtain(&asked, LARGEST_LIST).await?;
        let content = Content::of_response(&headers, &body, LARGEST_LIST as u64)
            .map_err(|unreadable| format!("{} ({})", list.url, unreadable.not_stored().as_str()))?;
        let found = content.texts(&list.query, MOST_URLS);
        let mut found = found.map_err(|_| "`each` finds lists or objects, not values".to_owned())?;
        let mut seen = std::collections::HashSet::new();
        found.retain(|value| !value.is_empty() && seen.insert(value.clone()));
        Ok(found)
    }
}

fn asked_of(entry: &WarmEntry, values: &Values) -> Vec<Asked> {
    let urls = entry.get.iter().flat_map(|template| template.urls(values)).take(MOST_URLS);
    urls.map(|uri| Asked { uri, headers: entry.headers.clone() }).collect()
}

/// From 0 to 1. Without randomness all replicas begin at once, which costs more and spoils nothing.
fn random() -> f64 {
    let mut bytes = [0; 4];
    let filled = getrandom::fill(&mut bytes);
    if filled.is_ok() { f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX) } else { 0.0 }
}
