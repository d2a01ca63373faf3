//! Where contents are read for templates: small ones at once, large ones on a thread where nobody waits for anything else.
//!
//! It never says what is read in them.

use std::thread;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Up to this many bytes take less time to read than to hand over.
const AT_ONCE: usize = 32 * 1024;

/// At most one large content a core is read at a time: as values it takes many times its size.
pub(super) struct Reading(Semaphore);

impl Reading {
    pub fn new() -> Self {
        Self(Semaphore::new(thread::available_parallelism().map_or(1, usize::from)))
    }

    pub fn is_at_once(length: usize) -> bool {
        length <= AT_ONCE
    }

    /// What `read` makes of `length` bytes; `None` if it stopped in the middle. Never waits where that is at once.
    pub async fn run<T: Send + 'static>(
        &self,
        length: usize,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if Self::is_at_once(length) {
            return Some(read());
        }
        let _place = self.0.acquire().await.ok()?;
        spawn_blocking(read).await.ok()
    }
}
