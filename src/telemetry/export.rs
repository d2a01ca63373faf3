//! Batch export of ended spans to the OpenTelemetry collector.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor};

use super::otlp_client::OtlpHttpClient;
use super::{AttributeValue, EndedSpan, SpanRole};
use crate::config::TracingSettings;

pub(super) struct Exporter {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl Exporter {
    /// Creates the exporter; it connects when the first batch is due.
    pub(super) fn start(settings: &TracingSettings) -> io::Result<Self> {
        let path = match settings.otlp.path() {
            "" | "/" => "/v1/traces",
            path => path,
        };
        let authority = settings.otlp.authority().map_or("", |authority| authority.as_str());
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(OtlpHttpClient)
            .with_endpoint(format!("http://{authority}{path}"))
            .build()
            .map_err(io::Error::other)?;
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        processor.set_resource(&Resource::builder().with_service_name("larder").build());
        let scope = InstrumentationScope::builder("larder").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Self { processor, scope })
    }

    /// Queues a span, or drops it if the queue is full.
    pub(super) fn export(&self, ended: EndedSpan) {
        self.processor.on_end(self.span_data(ended));
    }

    pub(super) fn flush(&self) {
        const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
        if let Err(error) = self.processor.shutdown_with_timeout(FLUSH_TIMEOUT) {
            tracing::warn!(%error, "failed to export the last spans");
        }
    }

    fn span_data(&self, ended: EndedSpan) -> SpanData {
        let EndedSpan { context, role, name, started_at, ended_at, attributes, error } = ended;
        let (trace, own) = (TraceId::from(context.trace), SpanId::from(context.span_id));
        SpanData {
            span_context: SpanContext::new(trace, own, TraceFlags::SAMPLED, false, TraceState::default()),
            parent_span_id: context.parent.map_or(SpanId::INVALID, SpanId::from),
            parent_span_is_remote: context.is_remote,
            span_kind: match role {
                SpanRole::Server => SpanKind::Server,
                SpanRole::Client => SpanKind::Client,
            },
            name: Cow::Owned(name),
            start_time: started_at.to_system_time(),
            end_time: ended_at.to_system_time(),
            attributes: attributes
                .into_iter()
                .map(|(key, value)| KeyValue::new(key, attribute_value(value)))
                .collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        }
    }
}

fn attribute_value(value: AttributeValue) -> Value {
    match value {
        AttributeValue::Text(text) => text.into(),
        AttributeValue::Number(number) => number.into(),
        AttributeValue::Flag(flag) => flag.into(),
    }
}
