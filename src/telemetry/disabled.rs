//! Stub for builds without OpenTelemetry; the configuration rejects `tracing` there.

use std::io;

use super::EndedSpan;
use crate::config::TracingSettings;

pub(super) struct DisabledExporter;

impl DisabledExporter {
    pub(super) fn start(settings: &TracingSettings) -> io::Result<Self> {
        Err(io::Error::other(format!(
            "built without the feature `otel`, so no spans can be sent to {}",
            settings.otlp
        )))
    }

    /// Discards the span.
    pub(super) fn export(&self, ended: EndedSpan) {
        let EndedSpan { context, role, name, started_at, ended_at, attributes, error } = ended;
        drop((context.is_remote, role, name, started_at, ended_at, attributes, error));
    }

    pub(super) fn flush(&self) {}
}
