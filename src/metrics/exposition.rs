//! Metric families of a snapshot, and their encoding with prometheus-client.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::latency::LatencySnapshot;

/// A metric with its samples, or its histograms.
#[derive(Debug)]
pub(crate) struct MetricFamily {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: MetricKind,
    pub samples: Vec<(Labels, f64)>,
    pub latencies: Vec<(Labels, LatencySnapshot)>,
}

pub(crate) type Labels = Vec<(&'static str, String)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

impl MetricFamily {
    /// The encoder appends `_total` to the name.
    pub(super) fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: MetricKind::Counter, samples: Vec::new(), latencies: Vec::new() }
    }

    pub(super) fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: MetricKind::Gauge, samples: Vec::new(), latencies: Vec::new() }
    }

    /// Values are in seconds.
    pub(super) fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: MetricKind::Histogram, samples: Vec::new(), latencies: Vec::new() }
    }

    /// Skips histograms without observations.
    pub(super) fn push_histogram(&mut self, labels: Labels, latencies: LatencySnapshot) {
        if latencies.count() > 0 {
            self.latencies.push((labels, latencies));
        }
    }

    pub(super) fn push(&mut self, labels: Labels, value: f64) {
        self.samples.push((labels, value));
    }

    /// Skips zeros, for families with many possible label values.
    pub(super) fn push_if_any(&mut self, labels: Labels, count: u64) {
        if count > 0 {
            self.push(labels, count as f64);
        }
    }

    /// Adds the only sample of a metric without labels.
    pub(super) fn with_value(mut self, value: u64) -> Self {
        self.push(Vec::new(), value as f64);
        self
    }
}

#[derive(Debug)]
pub(super) struct Exposition(pub Vec<MetricFamily>);

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.0 {
            let kind = match family.kind {
                MetricKind::Counter => MetricType::Counter,
                MetricKind::Gauge => MetricType::Gauge,
                MetricKind::Histogram => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for (labels, latencies) in &family.latencies {
                let buckets: Vec<_> = latencies.buckets().collect();
                if labels.is_empty() {
                    let sum = latencies.sum_seconds;
                    metric.encode_histogram::<Labels>(sum, latencies.count(), &buckets, None)?;
                    continue;
                }
                let mut metric = metric.encode_family(labels)?;
                metric.encode_histogram::<Labels>(
                    latencies.sum_seconds,
                    latencies.count(),
                    &buckets,
                    None,
                )?;
            }
            for (labels, value) in &family.samples {
                if labels.is_empty() {
                    // Such a family has one sample, so the encoder can be consumed.
                    family.kind.encode(*value, metric)?;
                    break;
                }
                family.kind.encode(*value, metric.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

impl MetricKind {
    fn encode(self, value: f64, encoder: MetricEncoder<'_>) -> fmt::Result {
        match self {
            MetricKind::Histogram => Ok(()),
            // Whole numbers are written without a fraction.
            MetricKind::Counter if value.fract() == 0.0 => ConstCounter::new(value as u64).encode(encoder),
            MetricKind::Counter => ConstCounter::new(value).encode(encoder),
            MetricKind::Gauge if value.fract() == 0.0 => ConstGauge::new(value as i64).encode(encoder),
            MetricKind::Gauge => ConstGauge::new(value).encode(encoder),
        }
    }
}
