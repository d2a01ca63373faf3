//! Exports spans, logs and metrics to the OpenTelemetry collector: on a thread of its own, from a bounded queue.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use prost::Message;

use super::collector::Collector;
use super::exemplars::Exemplars;
use super::log_layer::{LogQueue, set_log_queue};
use super::queue::{Item, LogRecord};
use super::{EndedSpan, ExemplarKey, MetricsReader, SpanContext, messages};
use crate::clock::{Clock, Timestamp};
use crate::config::TracingSettings;

/// Spans and log records that wait; more are dropped.
const QUEUE_CAPACITY: usize = 2_048;

/// Spans or records that are sent together, and how long the first one waits for others.
const MAX_BATCH: usize = 512;
const BATCH_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Exporter {
    queue: SyncSender<Item>,
    metrics: Arc<ArcSwapOption<MetricsReader>>,
    /// `None`: no metrics are exported.
    exemplars: Option<Arc<Exemplars>>,
}

/// The state of the exporting thread.
struct Pending {
    collector: Collector,
    clock: Clock,
    /// Counters begin here.
    started_at: Timestamp,
    spans: Vec<EndedSpan>,
    logs: Vec<LogRecord>,
    /// When the first of them came.
    since: Option<Instant>,
    metrics: Arc<ArcSwapOption<MetricsReader>>,
    exemplars: Arc<Exemplars>,
    metrics_interval: Option<Duration>,
    metrics_at: Instant,
    is_failing: bool,
}

impl Exporter {
    /// Starts the thread; it connects when there is something to send.
    pub(super) fn start(settings: &TracingSettings, clock: &Clock) -> io::Result<Self> {
        let (queue, items) = sync_channel(QUEUE_CAPACITY);
        let (metrics, exemplars) =
            (Arc::<ArcSwapOption<MetricsReader>>::default(), Arc::<Exemplars>::default());
        let pending = Pending {
            collector: Collector::new(&settings.otlp),
            clock: clock.clone(),
            started_at: clock.now(),
            spans: Vec::new(),
            logs: Vec::new(),
            since: None,
            metrics: metrics.clone(),
            exemplars: exemplars.clone(),
            metrics_interval: settings.metrics_interval,
            metrics_at: Instant::now(),
            is_failing: false,
        };
        std::thread::Builder::new().name("otlp".into()).spawn(move || run(&items, pending))?;
        if settings.logs {
            set_log_queue(LogQueue { queue: queue.clone(), clock: clock.clone() });
        }
        let exemplars = settings.metrics_interval.map(|_| exemplars);
        Ok(Self { queue, metrics, exemplars })
    }

    /// Queues a span, or drops it if the queue is full.
    pub(super) fn export(&self, ended: EndedSpan) {
        _ = self.queue.try_send(Item::Span(Box::new(ended)));
    }

    pub(super) fn set_metrics(&self, reader: MetricsReader) {
        self.metrics.store(Some(Arc::new(reader)));
    }

    pub(super) fn record_exemplar(
        &self,
        key: ExemplarKey<'_>,
        seconds: f64,
        context: SpanContext,
        at: Timestamp,
    ) {
        if let Some(exemplars) = &self.exemplars {
            exemplars.record(key, seconds, context, at);
        }
    }

    /// Sends what waits, within a bound.
    pub(super) fn flush(&self) {
        const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
        let (done, flushed) = sync_channel(1);
        // While the queue is full, the collector is too slow for more.
        if self.queue.try_send(Item::Flush(done)).is_ok() {
            _ = flushed.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

fn run(items: &Receiver<Item>, mut pending: Pending) {
    loop {
        match items.recv_timeout(pending.pause()) {
            Ok(Item::Span(span)) => pending.spans.push(*span),
            Ok(Item::Log(record)) => pending.logs.push(record),
            Ok(Item::Flush(done)) => {
                pending.send_batches();
                pending.send_metrics();
                drop(done);
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        pending.send_due();
    }
}

impl Pending {
    /// How long nothing is due.
    fn pause(&self) -> Duration {
        let metrics =
            self.metrics_interval.map(|interval| interval.saturating_sub(self.metrics_at.elapsed()));
        let batch = self.since.map(|since| BATCH_INTERVAL.saturating_sub(since.elapsed()));
        metrics.into_iter().chain(batch).min().unwrap_or(Duration::from_secs(60))
    }

    fn send_due(&mut self) {
        let waiting = self.spans.len() + self.logs.len();
        let since = (waiting > 0).then(|| *self.since.get_or_insert_with(Instant::now));
        if waiting >= MAX_BATCH || since.is_some_and(|since| since.elapsed() >= BATCH_INTERVAL) {
            self.send_batches();
        }
        if self.metrics_interval.is_some_and(|interval| self.metrics_at.elapsed() >= interval) {
            self.send_metrics();
        }
    }

    fn send_batches(&mut self) {
        self.since = None;
        let (spans, logs) = (std::mem::take(&mut self.spans), std::mem::take(&mut self.logs));
        if !spans.is_empty() {
            self.send("/v1/traces", &messages::traces(spans));
        }
        if !logs.is_empty() {
            self.send("/v1/logs", &messages::logs(logs));
        }
    }

    fn send_metrics(&mut self) {
        self.metrics_at = Instant::now();
        let reader = self.metrics.load_full().filter(|_| self.metrics_interval.is_some());
        if let Some(reader) = reader {
            let span = (self.started_at, self.clock.now());
            self.send("/v1/metrics", &messages::metrics(&reader(), &self.exemplars, span));
        }
    }

    /// Says once that the collector can't be reached, and once that it can again.
    fn send(&mut self, path: &str, message: &impl Message) {
        let sent = self.collector.post(path, &message.encode_to_vec());
        if sent.is_err() == self.is_failing {
            return;
        }
        self.is_failing = sent.is_err();
        match sent {
            Ok(()) => tracing::info!("exporting to the OpenTelemetry collector again"),
            Err(error) => tracing::warn!(%error, path, "failed to export to the OpenTelemetry collector"),
        }
    }
}
