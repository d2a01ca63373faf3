//! Memory of the process, as counted by the allocator.

use tikv_jemalloc_ctl::{epoch, stats};

/// Zero if the process uses another allocator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProcessMemory {
    /// Bytes in use by the program.
    pub allocated: u64,
    /// Bytes resident in physical memory.
    pub resident: u64,
}

impl ProcessMemory {
    pub(crate) fn read() -> Self {
        // Statistics are refreshed per epoch.
        if epoch::advance().is_err() {
            return Self::default();
        }
        let figure = |result: Result<usize, _>| result.map_or(0, |bytes| bytes as u64);
        Self { allocated: figure(stats::allocated::read()), resident: figure(stats::resident::read()) }
    }
}

#[cfg(test)]
mod tests {
    use tikv_jemalloc_ctl::{Access, AsName};

    /// They come from `src/allocator_options.c`, so the folder of the build does not matter.
    #[test]
    fn the_allocator_has_the_options_that_are_linked() {
        let linked = include_str!("../allocator_options.c");
        let pages: &'static [u8] = b"opt.thp\0".name().read().expect("an option");
        let shifts_large_blocks: bool = b"opt.cache_oblivious\0".name().read().expect("an option");
        assert!(linked.contains("thp:always") && pages == b"always\0", "{pages:?}");
        assert!(linked.contains("cache_oblivious:false") && !shifts_large_blocks);
    }
}
