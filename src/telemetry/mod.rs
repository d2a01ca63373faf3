//! Spans of requests, metrics and logs for an OpenTelemetry collector: sampling, span contexts and attributes.
//! A thread of its own exports them.

mod collector;
mod exemplars;
mod exporter;
mod log_layer;
mod messages;
mod queue;

use exporter::Exporter;
pub(crate) use log_layer::LogLayer;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::clock::{Clock, Timestamp};
use crate::config::TracingSettings;
use crate::metrics::MetricFamily;
use crate::random::random_id;

/// Reads all metrics.
pub(crate) type MetricsReader = Box<dyn Fn() -> Vec<MetricFamily> + Send + Sync>;

pub(crate) struct Telemetry {
    /// Sampled if a random 32-bit number is below it.
    sample_threshold: u64,
    exporter: Exporter,
}

/// A span that has ended.
pub(crate) struct EndedSpan {
    pub context: SpanContext,
    pub role: SpanRole,
    pub name: String,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    pub attributes: Vec<(&'static str, AttributeValue)>,
    /// Error of larder's side of the span.
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpanRole {
    /// A client's request.
    Server,
    /// A request to the upstream.
    Client,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AttributeValue {
    Text(String),
    Number(i64),
    Flag(bool),
}

/// The labels of a histogram of latencies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExemplarKey<'k> {
    /// `other` for requests without a route.
    pub route: &'k str,
    /// The source of the response: `store`, `upstream` or `larder`.
    pub from: &'static str,
}

/// Ids that place a span in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanContext {
    pub trace: u128,
    pub span_id: u64,
    pub parent: Option<u64>,
    /// The parent span was created by the client.
    pub is_remote: bool,
}

/// The client's trace context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RemoteParent {
    pub trace: u128,
    pub parent: u64,
    pub is_sampled: bool,
}

/// An active span.
pub(crate) struct Span {
    telemetry: Arc<Telemetry>,
    pub context: SpanContext,
    role: SpanRole,
    started_at: Timestamp,
    since: Instant,
}

impl Telemetry {
    pub(crate) fn start(settings: &TracingSettings, clock: &Clock) -> io::Result<Arc<Self>> {
        let sample = (settings.sample.as_f64() * 4_294_967_296.0) as u64;
        Ok(Arc::new(Self { sample_threshold: sample, exporter: Exporter::start(settings, clock)? }))
    }

    /// Sets the source of the metrics.
    pub(crate) fn set_metrics(&self, reader: MetricsReader) {
        self.exporter.set_metrics(reader);
    }

    /// Starts a request's span; `None` if it is not sampled. A client's trace context decides, otherwise chance.
    pub(crate) fn start_span(self: &Arc<Self>, remote: Option<RemoteParent>, now: Timestamp) -> Option<Span> {
        let is_sampled =
            remote.map_or_else(|| random_u64() >> 32 < self.sample_threshold, |remote| remote.is_sampled);
        let context = || SpanContext {
            trace: remote.map_or_else(random_u128, |remote| remote.trace),
            span_id: random_u64().max(1),
            parent: remote.map(|remote| remote.parent),
            is_remote: remote.is_some(),
        };
        is_sampled.then(|| self.new_span(context(), SpanRole::Server, now))
    }

    fn new_span(self: &Arc<Self>, context: SpanContext, role: SpanRole, started_at: Timestamp) -> Span {
        Span { telemetry: self.clone(), context, role, started_at, since: Instant::now() }
    }

    /// Exports what is queued, and the metrics, with a bound on the wait; call it before exit.
    pub(crate) fn flush(&self) {
        self.exporter.flush();
    }
}

impl Span {
    /// Starts a child span.
    pub(crate) fn start_child(&self, now: Timestamp) -> Span {
        let SpanContext { trace, span_id: own, .. } = self.context;
        let context =
            SpanContext { trace, span_id: random_u64().max(1), parent: Some(own), is_remote: false };
        self.telemetry.new_span(context, SpanRole::Client, now)
    }

    /// Makes the request an example of its histogram's bucket.
    pub(crate) fn record_exemplar(&self, key: ExemplarKey<'_>) {
        let took = self.since.elapsed();
        let at = self.started_at.plus(took);
        self.telemetry.exporter.record_exemplar(key, took.as_secs_f64(), self.context, at);
    }

    pub(crate) fn end(
        &self,
        name: String,
        attributes: Vec<(&'static str, AttributeValue)>,
        error: Option<String>,
    ) {
        let ended_at = self.started_at.plus(self.since.elapsed());
        let Span { context, role, started_at, .. } = *self;
        self.telemetry.exporter.export(EndedSpan {
            context,
            role,
            name,
            started_at,
            ended_at,
            attributes,
            error,
        });
    }
}

/// An unguessable 128-bit id.
pub(crate) fn random_u128() -> u128 {
    // Without the system's randomness, hash with this thread's random keys, which differ each time.
    let hashed =
        || u128::from(RandomState::new().hash_one(0)) << 64 | u128::from(RandomState::new().hash_one(1));
    random_id().unwrap_or_else(|_| hashed())
}

/// An unguessable number.
pub(crate) fn random_u64() -> u64 {
    random_u128() as u64
}
