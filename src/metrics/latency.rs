//! Lock-free latency histograms: one atomic add per observation.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::saturating_micros;

/// Upper bucket bounds in seconds. Hits fall into the lower ones, upstream responses into the upper ones.
pub(super) const BUCKET_BOUNDS: [f64; 20] = [
    0.000_01, 0.000_025, 0.000_05, 0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

const BUCKET_COUNT: usize = BUCKET_BOUNDS.len() + 1;

#[derive(Debug, Default)]
pub(super) struct LatencyHistogram {
    slots: [AtomicU64; BUCKET_COUNT],
    micros: AtomicU64,
}

/// Counts of a histogram at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct LatencySnapshot {
    /// Counts per bucket, not cumulative; the last bucket has no bound.
    slots: [u64; BUCKET_COUNT],
    pub sum_seconds: f64,
}

/// A histogram as replicas tell it each other: whole numbers, so that those of several are added up name by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LatencyCounts {
    micros: u64,
    /// Counts by the bucket's bound in seconds, `inf` for the last; not cumulative, and without zeros.
    buckets: BTreeMap<String, u64>,
}

impl From<&LatencySnapshot> for LatencyCounts {
    fn from(snapshot: &LatencySnapshot) -> Self {
        let buckets = snapshot.buckets().filter(|(_, count)| *count > 0);
        Self {
            micros: (snapshot.sum_seconds * 1e6).round() as u64,
            buckets: buckets.map(|(bound, count)| (bound.to_string(), count)).collect(),
        }
    }
}

impl From<&LatencyCounts> for LatencySnapshot {
    /// Bounds of other releases are left out.
    fn from(counts: &LatencyCounts) -> Self {
        let bounds = Self::default().buckets().map(|(bound, _)| bound).collect::<Vec<_>>();
        let count = |slot: usize| counts.buckets.get(&bounds[slot].to_string()).copied().unwrap_or_default();
        Self { slots: std::array::from_fn(count), sum_seconds: counts.micros as f64 / 1e6 }
    }
}

impl LatencyHistogram {
    pub(super) fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let slot = BUCKET_BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKET_BOUNDS.len());
        self.slots[slot].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(saturating_micros(took), Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> LatencySnapshot {
        let slots = std::array::from_fn(|slot| self.slots[slot].load(Ordering::Relaxed));
        LatencySnapshot { slots, sum_seconds: self.micros.load(Ordering::Relaxed) as f64 / 1e6 }
    }
}

impl LatencySnapshot {
    pub(crate) fn count(&self) -> u64 {
        self.slots.iter().sum()
    }

    pub(crate) fn merge(&self, other: &Self) -> Self {
        let slots = std::array::from_fn(|slot| self.slots[slot] + other.slots[slot]);
        Self { slots, sum_seconds: self.sum_seconds + other.sum_seconds }
    }

    /// Observations since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let slots = std::array::from_fn(|slot| self.slots[slot].saturating_sub(earlier.slots[slot]));
        Self { slots, sum_seconds: (self.sum_seconds - earlier.sum_seconds).max(0.0) }
    }

    /// Yields each bucket's bound and count; the last bound is infinite.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        BUCKET_BOUNDS.into_iter().chain([f64::INFINITY]).zip(self.slots)
    }

    /// Quantile in seconds with linear interpolation inside a bucket, like Prometheus' `histogram_quantile`. In the
    /// first bucket it is the bucket's bound, since nothing is known of the distribution below. `None` without
    /// observations.
    pub(crate) fn quantile(&self, quantile: f64) -> Option<f64> {
        let rank = quantile * self.count() as f64;
        let mut below = 0.0;
        for (slot, count) in self.slots.iter().enumerate() {
            let count = *count as f64;
            if count > 0.0 && below + count >= rank {
                let Some(upper) = BUCKET_BOUNDS.get(slot) else { return BUCKET_BOUNDS.last().copied() };
                let lower = slot.checked_sub(1).map_or(*upper, |slot| BUCKET_BOUNDS[slot]);
                return Some(lower + (upper - lower) * ((rank - below) / count));
            }
            below += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_in_the_bucket_that_it_falls_into() {
        let latency = LatencyHistogram::default();
        assert_eq!(latency.snapshot().quantile(0.5), None);
        for _ in 0..90 {
            latency.observe(Duration::from_micros(200));
        }
        for _ in 0..10 {
            latency.observe(Duration::from_millis(80));
        }
        let seen = latency.snapshot();
        assert_eq!(seen.count(), 100);
        assert!((seen.sum_seconds - 0.818).abs() < 1e-9, "{}", seen.sum_seconds);
        let close = |quantile, expected: f64| {
            let value = seen.quantile(quantile).expect("seen");
            assert!((value - expected).abs() < 1e-9, "{quantile}: {value}");
        };
        close(0.5, 0.0001 + 0.00015 * 50.0 / 90.0);
        close(0.95, 0.075);
        latency.observe(Duration::from_secs(3600));
        assert_eq!(latency.snapshot().since(&seen).quantile(0.99), Some(30.0));
        assert_eq!(latency.snapshot().since(&seen).count(), 1);
    }

    #[test]
    fn a_quantile_below_the_first_bound_is_that_bound() {
        let latency = LatencyHistogram::default();
        for _ in 0..10 {
            latency.observe(Duration::from_nanos(800));
        }
        for quantile in [0.01, 0.5, 0.99] {
            assert_eq!(latency.snapshot().quantile(quantile), Some(0.000_01));
        }
    }

    #[test]
    fn a_histogram_is_told_without_loss() {
        let latency = LatencyHistogram::default();
        for micros in [1, 200, 200, 80_000, 3_600_000_000] {
            latency.observe(Duration::from_micros(micros));
        }
        let counts = LatencyCounts::from(&latency.snapshot());
        let told = serde_json::to_value(&counts).expect("JSON");
        let buckets = serde_json::json!({"0.00001": 1, "0.00025": 2, "0.1": 1, "inf": 1});
        assert_eq!(told, serde_json::json!({"micros": 3_600_080_401_u64, "buckets": buckets}));
        let counts: LatencyCounts = serde_json::from_value(told).expect("counts");
        assert_eq!(LatencySnapshot::from(&counts), latency.snapshot());
    }

    #[test]
    fn what_lies_on_a_bound_is_below_it() {
        let latency = LatencyHistogram::default();
        latency.observe(Duration::from_millis(1));
        assert_eq!(latency.snapshot().buckets().find(|(_, count)| *count > 0), Some((0.001, 1)));
    }
}
