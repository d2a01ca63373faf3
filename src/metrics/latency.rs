//! How long answers took, in buckets: one atomic add for each answer, and no lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::micros;

/// The buckets' upper bounds, in seconds: a hit takes the time of the first few, the upstream that of the others.
pub const BOUNDS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

const SLOTS: usize = BOUNDS.len() + 1;

#[derive(Debug, Default)]
pub struct Latency {
    slots: [AtomicU64; SLOTS],
    micros: AtomicU64,
}

/// What was seen up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latencies {
    /// Each by itself; the last is for what took longer than every bound.
    slots: [u64; SLOTS],
    pub seconds: f64,
}

impl Latency {
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let slot = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.slots[slot].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros(took), Ordering::Relaxed);
    }

    pub fn so_far(&self) -> Latencies {
        let slots = std::array::from_fn(|slot| self.slots[slot].load(Ordering::Relaxed));
        Latencies { slots, seconds: self.micros.load(Ordering::Relaxed) as f64 / 1e6 }
    }
}

impl Latencies {
    pub fn count(&self) -> u64 {
        self.slots.iter().sum()
    }

    pub fn and(&self, other: &Self) -> Self {
        let slots = std::array::from_fn(|slot| self.slots[slot] + other.slots[slot]);
        Self { slots, seconds: self.seconds + other.seconds }
    }

    /// What came after `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let slots = std::array::from_fn(|slot| self.slots[slot].saturating_sub(earlier.slots[slot]));
        Self { slots, seconds: (self.seconds - earlier.seconds).max(0.0) }
    }

    /// Bounds and how many fell between each and the one before; the last bound stands for all that is longer.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        BOUNDS.into_iter().chain([f64::MAX]).zip(self.slots)
    }

    /// In seconds, as Prometheus' `histogram_quantile` works it out: between two bounds it is taken to be even. `None`
    /// where nothing was seen.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let rank = quantile * self.count() as f64;
        let mut below = 0.0;
        for (slot, count) in self.slots.iter().enumerate() {
            let count = *count as f64;
            if count > 0.0 && below + count >= rank {
                let (Some(to), from) =
                    (BOUNDS.get(slot), slot.checked_sub(1).map_or(0.0, |slot| BOUNDS[slot]))
                else {
                    return BOUNDS.last().copied();
                };
                return Some(from + (to - from) * ((rank - below) / count));
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
        let latency = Latency::default();
        assert_eq!(latency.so_far().quantile(0.5), None);
        for _ in 0..90 {
            latency.observe(Duration::from_micros(200));
        }
        for _ in 0..10 {
            latency.observe(Duration::from_millis(80));
        }
        let seen = latency.so_far();
        assert_eq!(seen.count(), 100);
        assert!((seen.seconds - 0.818).abs() < 1e-9, "{}", seen.seconds);
        let close = |quantile, expected: f64| {
            let value = seen.quantile(quantile).expect("seen");
            assert!((value - expected).abs() < 1e-9, "{quantile}: {value}");
        };
        close(0.5, 0.0001 + 0.00015 * 50.0 / 90.0);
        close(0.95, 0.075);
        latency.observe(Duration::from_secs(3600));
        assert_eq!(latency.so_far().since(&seen).quantile(0.99), Some(10.0));
        assert_eq!(latency.so_far().since(&seen).count(), 1);
    }

    #[test]
    fn what_lies_on_a_bound_is_below_it() {
        let latency = Latency::default();
        latency.observe(Duration::from_millis(1));
        assert_eq!(latency.so_far().buckets().find(|(_, count)| *count > 0), Some((0.001, 1)));
    }
}
