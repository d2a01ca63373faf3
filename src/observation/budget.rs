//! The bounds on the work of observing: so many samples, bytes and writes a second, and so many reads at a time. The rest
//! is only counted.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::clock::Timestamp;

/// Beyond them a read is counted, and nothing else.
pub(super) const SAMPLES_PER_SECOND: u32 = 500;
pub(super) const CONTENT_BYTES_PER_SECOND: usize = 8 << 20;
pub(super) const WRITES_PER_SECOND: u32 = 500;

/// Most reads whose content is being sent.
pub(super) const MAX_READS_UNDER_WAY: usize = 1_024;

/// The counts of the present second.
#[derive(Debug, Default)]
pub(super) struct ObservationBudget {
    second: u64,
    samples: u32,
    writes: u32,
}

/// The counts that need no lock.
#[derive(Debug, Default)]
pub(super) struct ContentBudget {
    /// In the present second.
    bytes: AtomicUsize,
    reads_under_way: AtomicUsize,
}

impl ObservationBudget {
    pub(super) fn admits_sample(&mut self, now: Timestamp, content: &ContentBudget) -> bool {
        self.turn(now, content);
        self.samples += 1;
        self.samples <= SAMPLES_PER_SECOND && content.bytes.load(Ordering::Relaxed) < CONTENT_BYTES_PER_SECOND
    }

    pub(super) fn admits_write(&mut self, now: Timestamp, content: &ContentBudget) -> bool {
        self.turn(now, content);
        self.writes += 1;
        self.writes <= WRITES_PER_SECOND
    }

    fn turn(&mut self, now: Timestamp, content: &ContentBudget) {
        if now.as_secs() != self.second {
            *self = Self { second: now.as_secs(), ..Self::default() };
            content.bytes.store(0, Ordering::Relaxed);
        }
    }
}

impl ContentBudget {
    /// Charges content before it is fingerprinted. `false`: it must not be.
    pub(super) fn charge(&self, bytes: usize) -> bool {
        self.bytes.fetch_add(bytes, Ordering::Relaxed) < CONTENT_BYTES_PER_SECOND
    }

    /// Whether one more read may be under way. It ends with [`ContentBudget::end_read`].
    pub(super) fn begin_read(&self) -> bool {
        let is_admitted = self.reads_under_way.fetch_add(1, Ordering::Relaxed) < MAX_READS_UNDER_WAY;
        if !is_admitted {
            self.end_read();
        }
        is_admitted
    }

    pub(super) fn end_read(&self) {
        self.reads_under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
