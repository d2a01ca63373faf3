//! The process: the allocator, and the exit code. All else is in the library.

use std::process::ExitCode;

/// Holds the stored responses of many sizes with the least memory around them.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    larder::cli::main()
}
