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

#[cfg(test)]
mod tests {
    use tikv_jemalloc_ctl::config::malloc_conf;

    #[test]
    fn the_allocator_was_built_with_the_options_of_this_folder() {
        let folder = include_str!("../../.cargo/config.toml");
        // It ends as text in C does.
        let built_in = malloc_conf::read().expect("jemalloc").trim_end_matches('\0');
        assert!(!built_in.is_empty() && folder.contains(built_in), "{built_in}");
    }
}
