//! Runs the parsing of contents for templates: small ones inline, large ones on a blocking thread.

use std::thread;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Contents up to this size are parsed faster than they are handed to another thread.
const MAX_INLINE_BYTES: usize = 32 * 1024;

/// Parses at most one large content for each core at a time: parsed, it takes many times its size.
pub(super) struct ContentParser(Semaphore);

impl ContentParser {
    pub(super) fn new() -> Self {
        Self(Semaphore::new(thread::available_parallelism().map_or(1, usize::from)))
    }

    pub(super) fn is_inline(length: usize) -> bool {
        length <= MAX_INLINE_BYTES
    }

    /// Runs `parse` on a content of `length` bytes. Returns at once if that is inline; `None` if `parse` panicked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        length: usize,
        parse: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if Self::is_inline(length) {
            return Some(parse());
        }
        let _permit = self.0.acquire().await.ok()?;
        spawn_blocking(parse).await.ok()
    }
}
