//! The messages of OTLP: what is exported, in the collector's terms.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{
    LogRecord as LogMessage, ResourceLogs, ScopeLogs, SeverityNumber,
};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar as ExemplarMessage, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exemplar, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, SpanFlags, Status};
use tracing::Level;

use super::exemplars::{Exemplar, Exemplars};
use super::queue::LogRecord;
use super::{AttributeValue, EndedSpan, SpanRole};
use crate::clock::Timestamp;
use crate::metrics::{LatencySnapshot, MetricFamily, MetricKind};

/// The flag of W3C's trace context: the span is sampled.
const SAMPLED: u32 = 1;

/// The names of semantic conventions for metrics that have one. Labels of theirs are in [`attribute_name`].
const CONVENTIONS: [(&str, &str); 2] = [
    ("larder_request_seconds", "http.server.request.duration"),
    ("larder_upstream_seconds", "http.client.request.duration"),
];

pub(super) fn traces(spans: Vec<EndedSpan>) -> ExportTraceServiceRequest {
    let spans = spans.into_iter().map(span).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope()), spans, ..Default::default() }];
    let resource = Some(resource());
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource, scope_spans, ..Default::default() }],
    }
}

pub(super) fn logs(records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let log_records = records.into_iter().map(log_record).collect();
    let scope_logs = vec![ScopeLogs { scope: Some(scope()), log_records, ..Default::default() }];
    let resource = Some(resource());
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { resource, scope_logs, ..Default::default() }],
    }
}

/// `since`: the beginning of the counters, and now.
pub(super) fn metrics(
    families: &[MetricFamily],
    exemplars: &Exemplars,
    since: (Timestamp, Timestamp),
) -> ExportMetricsServiceRequest {
    let metrics = families.iter().filter_map(|family| metric(family, exemplars, since)).collect();
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope()), metrics, ..Default::default() }];
    let resource = Some(resource());
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { resource, scope_metrics, ..Default::default() }],
    }
}

fn scope() -> InstrumentationScope {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    InstrumentationScope { name: "larder".to_owned(), version, ..Default::default() }
}

/// The attributes of `OTEL_RESOURCE_ATTRIBUTES` (`a=b,c=d`), and the name of the service.
fn resource() -> Resource {
    let given = std::env::var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let given = given.split(',').filter_map(|pair| pair.split_once('='));
    let mut attributes: Vec<KeyValue> =
        given.map(|(name, value)| text_attribute(name.trim(), value.trim())).collect();
    let name = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty());
    if name.is_some() || !attributes.iter().any(|attribute| attribute.key == "service.name") {
        attributes.retain(|attribute| attribute.key != "service.name");
        attributes.push(text_attribute("service.name", name.as_deref().unwrap_or("larder")));
    }
    Resource { attributes, ..Default::default() }
}

fn span(ended: EndedSpan) -> Span {
    let EndedSpan { context, role, name, started_at, ended_at, attributes, error } = ended;
    let remote = if context.is_remote { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
    let flags = SAMPLED | SpanFlags::ContextHasIsRemoteMask as u32 | remote;
    Span {
        trace_id: context.trace.to_be_bytes().to_vec(),
        span_id: context.span_id.to_be_bytes().to_vec(),
        parent_span_id: context.parent.map_or_else(Vec::new, |parent| parent.to_be_bytes().to_vec()),
        flags,
        name,
        kind: match role {
            SpanRole::Server => SpanKind::Server as i32,
            SpanRole::Client => SpanKind::Client as i32,
        },
        start_time_unix_nano: nanos(started_at),
        end_time_unix_nano: nanos(ended_at),
        attributes: attributes.into_iter().map(attribute).collect(),
        status: error.map(|message| Status { message, code: StatusCode::Error as i32 }),
        ..Default::default()
    }
}

fn log_record(record: LogRecord) -> LogMessage {
    let LogRecord { at, level, target, message, fields } = record;
    let severity = match level {
        Level::ERROR => SeverityNumber::Error,
        Level::WARN => SeverityNumber::Warn,
        Level::INFO => SeverityNumber::Info,
        Level::DEBUG => SeverityNumber::Debug,
        Level::TRACE => SeverityNumber::Trace,
    };
    let mut attributes: Vec<KeyValue> = fields.into_iter().map(attribute).collect();
    attributes.push(text_attribute("code.namespace", target));
    LogMessage {
        time_unix_nano: nanos(at),
        observed_time_unix_nano: nanos(at),
        severity_number: severity as i32,
        severity_text: level.to_string(),
        body: Some(AnyValue { value: Some(Value::StringValue(message)) }),
        attributes,
        ..Default::default()
    }
}

/// `None`: nothing is known of it yet.
fn metric(
    family: &MetricFamily,
    exemplars: &Exemplars,
    (started_at, now): (Timestamp, Timestamp),
) -> Option<Metric> {
    let convention = CONVENTIONS.iter().find(|(name, _)| *name == family.name).map(|(_, name)| *name);
    let labels = |labels: &[(&'static str, String)]| {
        let named = labels.iter().map(|(name, value)| (attribute_name(name, convention.is_some()), value));
        named.map(|(name, value)| text_attribute(name, value)).collect::<Vec<_>>()
    };
    let number = |(its, value): &(Vec<(&'static str, String)>, f64)| NumberDataPoint {
        attributes: labels(its),
        start_time_unix_nano: nanos(started_at),
        time_unix_nano: nanos(now),
        value: Some(number_data_point::Value::AsDouble(*value)),
        ..Default::default()
    };
    let points: Vec<NumberDataPoint> = family.samples.iter().map(number).collect();
    let temporality = AggregationTemporality::Cumulative as i32;
    let histogram = |(its, latencies): &(Vec<(&'static str, String)>, LatencySnapshot)| {
        let value =
            |name: &str| its.iter().find(|(label, _)| *label == name).map(|(_, value)| value.as_str());
        let examples = match (value("route"), value("from")) {
            (Some(route), Some(from)) => exemplars.find(route, from),
            _ => Vec::new(),
        };
        HistogramDataPoint {
            attributes: labels(its),
            start_time_unix_nano: nanos(started_at),
            time_unix_nano: nanos(now),
            count: latencies.count(),
            sum: Some(latencies.sum_seconds),
            bucket_counts: latencies.buckets().map(|(_, count)| count).collect(),
            explicit_bounds: latencies
                .buckets()
                .map(|(bound, _)| bound)
                .filter(|bound| bound.is_finite())
                .collect(),
            exemplars: examples.into_iter().map(exemplar_message).collect(),
            ..Default::default()
        }
    };
    let histograms: Vec<HistogramDataPoint> = family.latencies.iter().map(histogram).collect();
    if points.is_empty() && histograms.is_empty() {
        return None;
    }
    let data = match family.kind {
        MetricKind::Counter => metric::Data::Sum(Sum {
            data_points: points,
            aggregation_temporality: temporality,
            is_monotonic: true,
        }),
        MetricKind::Gauge => metric::Data::Gauge(Gauge { data_points: points }),
        MetricKind::Histogram => metric::Data::Histogram(Histogram {
            data_points: histograms,
            aggregation_temporality: temporality,
        }),
    };
    let unit = if family.name.ends_with("_seconds") { "s" } else { "" };
    Some(Metric {
        name: convention.unwrap_or(family.name).to_owned(),
        description: family.help.to_owned(),
        unit: unit.to_owned(),
        data: Some(data),
        ..Default::default()
    })
}

/// The name of a label in a metric that semantic conventions name.
fn attribute_name(label: &'static str, has_convention: bool) -> &'static str {
    match label {
        "route" if has_convention => "http.route",
        "from" if has_convention => "larder.response.from",
        label => label,
    }
}

fn exemplar_message(Exemplar { seconds, context, at }: Exemplar) -> ExemplarMessage {
    ExemplarMessage {
        time_unix_nano: nanos(at),
        span_id: context.span_id.to_be_bytes().to_vec(),
        trace_id: context.trace.to_be_bytes().to_vec(),
        value: Some(exemplar::Value::AsDouble(seconds)),
        ..Default::default()
    }
}

fn attribute((name, value): (&'static str, AttributeValue)) -> KeyValue {
    let value = match value {
        AttributeValue::Text(text) => Value::StringValue(text),
        AttributeValue::Number(number) => Value::IntValue(number),
        AttributeValue::Flag(flag) => Value::BoolValue(flag),
    };
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

fn text_attribute(name: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: name.to_owned(), value, ..Default::default() }
}

fn nanos(at: Timestamp) -> u64 {
    at.as_micros().saturating_mul(1_000)
}
