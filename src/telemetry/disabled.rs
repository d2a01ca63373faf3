//! Stub for builds without OpenTelemetry; the configuration rejects `tracing` there.

use std::io;

use super::{EndedSpan, ExemplarKey, MetricsReader, SpanContext};
use crate::clock::{Clock, Timestamp};
use crate::config::TracingSettings;

pub(super) struct DisabledExporter;

impl DisabledExporter {
    pub(super) fn start(settings: &TracingSettings, _: &Clock) -> io::Result<Self> {
        let TracingSettings { otlp, sample: _, metrics_interval: _, logs: _ } = settings;
        Err(io::Error::other(format!("built without the feature `otel`, so nothing can be sent to {otlp}")))
    }

    pub(super) fn set_metrics(&self, reader: MetricsReader) {
        drop(reader);
    }

    pub(super) fn record_exemplar(&self, key: ExemplarKey<'_>, _: f64, _: SpanContext, _: Timestamp) {
        _ = (key.route, key.from);
    }

    /// Discards the span.
    pub(super) fn export(&self, ended: EndedSpan) {
        let EndedSpan { context, role, name, started_at, ended_at, attributes, error } = ended;
        drop((context.is_remote, role, name, started_at, ended_at, attributes, error));
    }

    pub(super) fn flush(&self) {}
}
