//! One budget for what is held for clients: the bodies of responses (stored, being fetched, read from Redis, and evicted
//! but still being sent), the heads of requests that wait, and the contents of requests that are read.
//!
//! Beyond it, large responses that are fetched are only passed on, those in Redis count as absent, contents of requests
//! are not kept, and the clients that have read or sent nothing for longest are disconnected, until there is room again.
//!
//! Heads and contents have at most the part of it that is beside the store, and one client at most a quarter of that for
//! heads, contents, and responses that are fetched.

mod client_memory;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use client_memory::{Accounts, Charged};
pub(crate) use client_memory::{ClientMemory, HEAD_WITHOUT_ROOM_BYTES};

/// Bodies up to this size are admitted even beyond the budget: most of one fits into its client's socket buffer, so a
/// slow reader does not keep it. No client can switch off the cache for them.
const ALWAYS_ADMITTED: u64 = 64 * 1024;

/// A reader may be this slow when the budget has just been exceeded. The time halves with each second.
const MAX_STALL: Duration = Duration::from_secs(16);

/// A reader may be this slow however long the budget is exceeded.
const MIN_STALL: Duration = Duration::from_secs(2);

/// The bytes that the parts of one memory limit hold together.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: u64,
    accounts: Accounts,
    used: AtomicU64,
    started_at: Instant,
    /// Milliseconds since `started_at`; [`NEVER`] while the budget is not exceeded.
    exceeded_since: AtomicU64,
}

const NEVER: u64 = u64::MAX;

/// Bytes for fetches and slow readers, however small the store is.
const MIN_OUTSIDE: u64 = 16 * 1024 * 1024;

impl MemoryBudget {
    /// `store_bytes`: the size of the store. A quarter is added to it for bodies that are not in it, and at least
    /// 16 MiB.
    pub(crate) fn new(store_bytes: u64) -> Arc<Self> {
        let outside = (store_bytes / 4).max(MIN_OUTSIDE);
        Arc::new(Self {
            limit: store_bytes.saturating_add(outside),
            accounts: Accounts::new(outside),
            used: AtomicU64::new(0),
            started_at: Instant::now(),
            exceeded_since: AtomicU64::new(NEVER),
        })
    }

    /// Counts `body` until its last copy is dropped. The bytes are not copied.
    pub(crate) fn count(self: &Arc<Self>, body: Bytes) -> Bytes {
        if body.is_empty() {
            return body;
        }
        let mut reservation = self.reserve();
        reservation.grow(body.len() as u64);
        reservation.attach(body)
    }

    /// Begins to count what grows while it is held.
    pub(crate) fn reserve(self: &Arc<Self>) -> Reservation {
        self.reserve_as(None)
    }

    fn reserve_as(self: &Arc<Self>, charged: Option<Charged>) -> Reservation {
        Reservation { bytes: 0, budget: self.clone(), charged }
    }

    /// Whether there is room for more.
    pub(crate) fn has_room(&self) -> bool {
        !self.is_exceeded()
    }

    /// Whether there is room to keep a body that has this size as far as it is known.
    pub(crate) fn admits(&self, bytes: u64) -> bool {
        bytes <= ALWAYS_ADMITTED || !self.is_exceeded()
    }

    fn is_exceeded(&self) -> bool {
        self.exceeded_since.load(Ordering::Relaxed) != NEVER
    }

    /// The time without progress after which a reader is disconnected; `None` while there is room.
    pub(crate) fn max_stall(&self) -> Option<Duration> {
        let since = Some(self.exceeded_since.load(Ordering::Relaxed)).filter(|since| *since != NEVER)?;
        let seconds = self.elapsed_millis().saturating_sub(since) / 1000;
        let halvings = u32::try_from(seconds).unwrap_or(u32::MAX).min(8);
        Some((MAX_STALL / 2_u32.pow(halvings)).max(MIN_STALL))
    }

    fn add(&self, bytes: u64) {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if used > self.limit && !self.is_exceeded() {
            self.exceeded_since.store(self.elapsed_millis(), Ordering::Relaxed);
        }
    }

    fn subtract(&self, bytes: u64) {
        let used = self.used.fetch_sub(bytes, Ordering::Relaxed) - bytes;
        if used <= self.limit && self.is_exceeded() {
            self.exceeded_since.store(NEVER, Ordering::Relaxed);
        }
    }

    fn elapsed_millis(&self) -> u64 {
        u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(NEVER - 1)
    }
}

/// Bytes that count until it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    bytes: u64,
    budget: Arc<MemoryBudget>,
    /// The accounts in which they count, too.
    charged: Option<Charged>,
}

impl Reservation {
    pub(crate) fn grow(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.budget.add(bytes);
        if let Some(charged) = self.charged {
            self.budget.accounts.add(charged, bytes);
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Grows to `bytes` in total; it never shrinks.
    pub(crate) fn grow_to(&mut self, bytes: u64) {
        self.grow(bytes.saturating_sub(self.bytes));
    }

    /// The reservation lasts until the last copy of `body` is dropped.
    pub(crate) fn attach(self, body: Bytes) -> Bytes {
        Bytes::from_owner(CountedBody { body, _reservation: self })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.subtract(self.bytes);
        if let Some(charged) = self.charged {
            self.budget.accounts.subtract(charged, self.bytes);
        }
    }
}

struct CountedBody {
    body: Bytes,
    _reservation: Reservation,
}

impl AsRef<[u8]> for CountedBody {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bodies_count_until_their_last_copy_is_gone() {
        let budget = MemoryBudget::new(0);
        let small: Vec<_> = (0..100).map(|_| budget.count(Bytes::from(vec![0; 100]))).collect();
        let stored = budget.count(Bytes::from(vec![1; MIN_OUTSIDE as usize - 20_000]));
        assert!(budget.admits(1 << 20) && !stored.is_empty() && small.len() == 100);
        let fetched = budget.count(Bytes::from(vec![2; 10_001]));
        assert_eq!(budget.max_stall(), Some(MAX_STALL), "small bodies count");
        assert!(budget.admits(ALWAYS_ADMITTED) && !budget.admits(ALWAYS_ADMITTED + 1));
        advance(Duration::from_secs(2)).await;
        assert_eq!(budget.max_stall(), Some(MAX_STALL / 4));
        advance(Duration::from_secs(60)).await;
        assert_eq!(budget.max_stall(), Some(MIN_STALL));
        let slice = fetched.slice(..10);
        drop(fetched);
        assert!(budget.is_exceeded());
        drop(slice);
        assert_eq!(budget.max_stall(), None);
    }
}
