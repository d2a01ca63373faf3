//! Decides which of many events are looked at: a share of them, evenly spread.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Fraction;

pub(crate) struct Sampler {
    /// Sampled if 32 mixed bits are below it.
    threshold: u64,
    count: AtomicU64,
}

impl Sampler {
    pub(crate) fn new(share: Fraction) -> Self {
        Self { threshold: (share.as_f64() * 4_294_967_296.0) as u64, count: AtomicU64::new(0) }
    }

    pub(crate) fn is_sampled(&self) -> bool {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        (mix_bits(number) >> 32) < self.threshold
    }
}

/// Mixes a counter into bits that look random (SplitMix64), so that periodic events are sampled evenly.
fn mix_bits(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
