//! Metric families of one moment, and how they are written. The only place that knows prometheus-client's encoder.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::latency::Latencies;

#[derive(Debug)]
pub struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    samples: Vec<(Labels, f64)>,
    latencies: Vec<(Labels, Latencies)>,
}

pub type Labels = Vec<(&'static str, String)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Family {
    /// The format adds `_total` to the name.
    pub fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Counter, samples: Vec::new(), latencies: Vec::new() }
    }

    pub fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Gauge, samples: Vec::new(), latencies: Vec::new() }
    }

    /// In seconds.
    pub fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Histogram, samples: Vec::new(), latencies: Vec::new() }
    }

    /// Leaves out what never happened.
    pub fn push_latencies(&mut self, labels: Labels, latencies: Latencies) {
        if latencies.count() > 0 {
            self.latencies.push((labels, latencies));
        }
    }

    pub fn push(&mut self, labels: Labels, value: f64) {
        self.samples.push((labels, value));
    }

    /// Leaves out what never happened, where there are many things that might.
    pub fn push_if_any(&mut self, labels: Labels, count: u64) {
        if count > 0 {
            self.push(labels, count as f64);
        }
    }

    /// The one sample of a metric without labels.
    pub fn with(mut self, value: u64) -> Self {
        self.push(Vec::new(), value as f64);
        self
    }
}

#[derive(Debug)]
pub struct Exposition(pub Vec<Family>);

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.0 {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for (labels, latencies) in &family.latencies {
                let buckets: Vec<_> = latencies.buckets().collect();
                let mut metric = metric.encode_family(labels)?;
                metric.encode_histogram::<Labels>(latencies.seconds, latencies.count(), &buckets, None)?;
            }
            for (labels, value) in &family.samples {
                if labels.is_empty() {
                    // Never more than one, so the family's own encoder can be spent on it.
                    family.kind.encode(*value, metric)?;
                    break;
                }
                family.kind.encode(*value, metric.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

impl Kind {
    fn encode(self, value: f64, encoder: MetricEncoder<'_>) -> fmt::Result {
        match self {
            Kind::Counter => ConstCounter::new(value as u64).encode(encoder),
            Kind::Histogram => Ok(()),
            // Whole numbers without a fraction, which is how people write them.
            Kind::Gauge if value.fract() == 0.0 => ConstGauge::new(value as i64).encode(encoder),
            Kind::Gauge => ConstGauge::new(value).encode(encoder),
        }
    }
}
