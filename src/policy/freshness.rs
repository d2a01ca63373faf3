//! RFC 9111 §4.2: lifetime and age. All arithmetic saturates.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::stored_response::Terms;

impl Terms {
    /// §4.2.3 `current_age`.
    pub fn age(&self, _now: Timestamp) -> Duration {
        todo!()
    }

    /// Seconds of freshness left, negative when stale (RFC 9211 `ttl`).
    pub fn ttl(&self, _now: Timestamp) -> i64 {
        todo!()
    }
}
