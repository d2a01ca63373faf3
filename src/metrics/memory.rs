//! What the process holds in memory, as the allocator knows it.

use tikv_jemalloc_ctl::{epoch, stats};

/// Zero where the process was built with another allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes in use by the program.
    pub allocated: u64,
    /// Bytes that the system counts for it.
    pub resident: u64,
}

impl Memory {
    pub fn now() -> Self {
        // The figures are those of the last epoch.
        if epoch::advance().is_err() {
            return Self::default();
        }
        let figure = |result: Result<usize, _>| result.map_or(0, |bytes| bytes as u64);
        Self { allocated: figure(stats::allocated::read()), resident: figure(stats::resident::read()) }
    }
}
