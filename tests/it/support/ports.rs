//! Ports for programs that have to be told theirs.

use std::net::TcpListener;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// All blocks are below the range that the system takes the ports of outgoing connections from: a port that is free now
/// stays free.
const FIRST: u16 = 20_000;
const BLOCKS: u16 = 6;
/// Ports in a block.
const BLOCK: u16 = 2_000;

/// The ports of this process.
struct Ports {
    first: u16,
    next: AtomicU16,
    /// Listens on the block's first port, so that no other test run takes the block.
    _claim: TcpListener,
}

static PORTS: LazyLock<Ports> = LazyLock::new(|| {
    let claims =
        (0..BLOCKS).map(|block| FIRST + block * BLOCK).filter_map(|first| Some((first, bind(first)?)));
    let (first, claim) =
        claims.into_iter().next().expect("a block of ports that no other test run has claimed");
    Ports { first, next: AtomicU16::new(0), _claim: claim }
});

/// A port that nothing listens on; it is given out once before all others of the block were.
pub fn free_port() -> u16 {
    let ports = &*PORTS;
    let candidates =
        (1..BLOCK).map(|_| ports.first + 1 + ports.next.fetch_add(1, Ordering::Relaxed) % (BLOCK - 1));
    let mut free = candidates.filter(|port| bind(*port).is_some());
    free.next().expect("a free port in the block")
}

fn bind(port: u16) -> Option<TcpListener> {
    TcpListener::bind(("127.0.0.1", port)).ok()
}
