//! Relays purges to the caches in front of larder: a CDN, Varnish. Each response lists the names of its targets there
//! (`policy/tag_lists.rs`), and a purge is sent by the names of those that it has.
//!
//! The replica that purges relays it, from a bounded queue for each cache, in order, until the cache has taken it. If a queue
//! is full, everything is purged there.

mod api;
mod queue;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::clock::Moment;
use crate::config::CdnSettings;
use crate::metrics::{CdnMetrics, Metrics};
use crate::purge::{Purge, PurgeMode, Target};
use crate::tasks::{end_within, spawn};
use api::CdnClient;
use queue::{Batch, PurgeQueue, Taken};

/// Delays after a failure: at first, and at most.
const MIN_RETRY: Duration = Duration::from_millis(500);
const MAX_RETRY: Duration = Duration::from_secs(60);

/// All caches in front of larder.
#[derive(Default)]
pub(crate) struct CdnRelay {
    caches: Vec<Arc<Cdn>>,
    running: Mutex<Vec<JoinHandle<()>>>,
}

/// One cache, and the purges that it has not taken yet.
struct Cdn {
    settings: CdnSettings,
    client: CdnClient,
    queue: PurgeQueue,
    metrics: Arc<CdnMetrics>,
    changed: Notify,
    /// The process ends: nothing is waited for that need not be.
    ending: watch::Sender<bool>,
}

impl CdnRelay {
    /// # Errors
    /// If TLS to a cache can't be set up.
    pub(crate) fn new(caches: &[CdnSettings], metrics: &Metrics) -> io::Result<Arc<Self>> {
        let caches = caches.iter().map(|settings| {
            let cdn = Cdn {
                settings: settings.clone(),
                client: CdnClient::new(settings)?,
                queue: PurgeQueue::default(),
                metrics: metrics.register_cdn(&settings.name),
                changed: Notify::new(),
                ending: watch::Sender::new(false),
            };
            Ok(Arc::new(cdn))
        });
        Ok(Arc::new(Self { caches: caches.collect::<io::Result<_>>()?, running: Mutex::default() }))
    }

    /// Spawns a task for each cache on the current runtime.
    pub(crate) fn start(&self) {
        for cdn in self.caches.iter().filter(|cdn| cdn.settings.purges_at_start) {
            cdn.queue.add_everything(cdn.settings.repeat, Moment::now());
            cdn.report_queue();
        }
        self.running.lock().extend(self.caches.iter().map(|cdn| spawn(cdn.clone().run())));
    }

    pub(crate) fn has_caches(&self) -> bool {
        !self.caches.is_empty()
    }

    /// Queues the targets of a purge.
    pub(crate) fn relay(&self, purge: &Purge) {
        self.caches.iter().filter(|_| !purge.targets.is_empty()).for_each(|cdn| cdn.add(purge));
    }

    /// Queues a purge of everything: responses may have other tags from now on.
    pub(crate) fn relay_everything(&self) {
        self.relay(&Purge::hard(vec![Target::Everything]));
    }

    /// Sends what is queued, each purge once at most, for up to `within`. Returns how many purges were not sent.
    pub(crate) async fn stop(&self, within: Duration) -> usize {
        for cdn in &self.caches {
            cdn.ending.send_replace(true);
            cdn.changed.notify_one();
        }
        let running = std::mem::take(&mut *self.running.lock());
        end_within(running, within).await;
        self.caches.iter().map(|cdn| cdn.queue.len()).sum()
    }
}

impl Cdn {
    fn add(&self, purge: &Purge) {
        let now = Moment::now();
        let repeat = match self.settings.repeat {
            Duration::ZERO => Duration::ZERO,
            repeat => repeat.max(purge.in_doubt_for),
        };
        let mode = if self.settings.always_soft { PurgeMode::Soft } else { purge.mode };
        if purge.targets.contains(&Target::Everything) {
            self.queue.add_everything(repeat, now);
        } else if !self.queue.add(purge.targets.iter().map(Target::id), mode, repeat, now) {
            self.metrics.record_overflow();
            let cdn = &*self.settings.name;
            tracing::warn!(cdn, "CDN purge queue is full: everything will be purged there");
        }
        self.report_queue();
        self.changed.notify_one();
    }

    fn report_queue(&self) {
        self.metrics.set_queue(self.queue.len(), self.queue.oldest());
    }

    /// Sends purges until the process ends.
    async fn run(self: Arc<Self>) {
        let (mut retry, mut ending) = (MIN_RETRY, self.ending.subscribe());
        loop {
            let is_ending = *ending.borrow_and_update();
            match self.queue.take(self.client.max_tags(), Moment::now(), is_ending) {
                Taken::Batch(batch) => self.send(batch, &mut retry, &mut ending).await,
                Taken::Nothing(None) if is_ending => return,
                Taken::Nothing(None) => self.changed.notified().await,
                Taken::Nothing(Some(due)) => {
                    let wait = due.since(Moment::now());
                    tokio::select! {
                        () = self.changed.notified() => {}
                        () = sleep(wait) => {}
                    }
                }
            }
        }
    }

    async fn send(&self, batch: Batch, retry: &mut Duration, ending: &mut watch::Receiver<bool>) {
        let result = self.client.send(&batch).await;
        self.metrics.record_request(result.is_ok());
        match result {
            Ok(()) => {
                self.queue.complete(batch, Moment::now());
                *retry = MIN_RETRY;
                self.report_queue();
            }
            Err(failure) => {
                self.queue.put_back(batch);
                self.report_queue();
                let (cdn, error) = (&*self.settings.name, &*failure.reason);
                let wait = failure.retry_after.unwrap_or(*retry).clamp(MIN_RETRY, MAX_RETRY);
                tracing::warn!(cdn, error, retry_ms = wait.as_millis() as u64, "CDN purge failed");
                *retry = (2 * *retry).min(MAX_RETRY);
                tokio::select! {
                    () = sleep(wait) => {}
                    // There is no time to wait for.
                    _ = ending.changed() => {}
                }
            }
        }
    }
}
