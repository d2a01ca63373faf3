//! Ended spans as OpenTelemetry knows them, in batches to the collector.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor};

use super::post::Post;
use super::{Ended, Fact, Kind};
use crate::config::TracingSettings;

pub struct Exporter {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl Exporter {
    /// Nothing is sent yet: the collector need not be there.
    pub fn start(settings: &TracingSettings) -> io::Result<Self> {
        let path = match settings.otlp.path() {
            "" | "/" => "/v1/traces",
            path => path,
        };
        let authority = settings.otlp.authority().map_or("", |authority| authority.as_str());
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Post)
            .with_endpoint(format!("http://{authority}{path}"))
            .build()
            .map_err(io::Error::other)?;
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        processor.set_resource(&Resource::builder().with_service_name("larder").build());
        let scope = InstrumentationScope::builder("larder").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Self { processor, scope })
    }

    /// Waits for nobody: beyond what the queue holds, spans are dropped.
    pub fn export(&self, ended: Ended) {
        self.processor.on_end(self.data(ended));
    }

    pub fn flush(&self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        if let Err(error) = self.processor.shutdown_with_timeout(PATIENCE) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }

    fn data(&self, ended: Ended) -> SpanData {
        let Ended { place, kind, name, begun, ended, facts, error } = ended;
        let (trace, own) = (TraceId::from(place.trace), SpanId::from(place.own));
        SpanData {
            span_context: SpanContext::new(trace, own, TraceFlags::SAMPLED, false, TraceState::default()),
            parent_span_id: place.parent.map_or(SpanId::INVALID, SpanId::from),
            parent_span_is_remote: place.is_remote,
            span_kind: match kind {
                Kind::Server => SpanKind::Server,
                Kind::Client => SpanKind::Client,
            },
            name: Cow::Owned(name),
            start_time: begun.to_system_time(),
            end_time: ended.to_system_time(),
            attributes: facts.into_iter().map(|(key, fact)| KeyValue::new(key, value(fact))).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        }
    }
}

fn value(fact: Fact) -> Value {
    match fact {
        Fact::Text(text) => text.into(),
        Fact::Number(number) => number.into(),
        Fact::Flag(flag) => flag.into(),
    }
}
