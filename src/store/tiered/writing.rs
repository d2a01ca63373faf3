//! Writing entries to Redis. The caller has decided that they may be stored.

use std::time::Duration;

use bytes::Bytes;

use super::Tiers;
use crate::clock::Timestamp;
use crate::policy::CacheKey;
use crate::random::random_bytes;
use crate::store::encoding::{self, ClockOffset};
use crate::store::redis::{Admission, CommandKind, REPLACE, RedisError};
use crate::store::{FetchToken, StoreError};
use crate::stored_response::StoredEntry;

/// Time to live of a staged value, in case this process ends before the value takes its place.
const STAGED_VALUE_TTL: Duration = Duration::from_secs(60);

/// A value ready to be written. Times are on Redis' clock.
struct EncodedEntry {
    value: Bytes,
    requested_at: Timestamp,
    expires_at_millis: i64,
    staged_until_millis: i64,
}

impl Tiers {
    pub(super) async fn write(&self, token: &FetchToken, entry: &StoredEntry) -> Result<(), StoreError> {
        let key = token.key();
        let failed = |reason: String| StoreError::WriteFailed(reason);
        let Some(clocks) = self.index.clocks() else {
            return Err(failed("Redis' clock has not been read yet".to_owned()));
        };
        let value = encoding::encode(key, entry, &clocks);
        let value = value.filter(|value| value.len() <= encoding::MAX_VALUE_BYTES);
        let Some(value) = value else { return Err(StoreError::TooLarge) };
        // Counted from here on: it may wait to be compressed, and then for Redis.
        let mut value = self.memory.count(value);
        if let Some(compressed) = self.compress(&value).await {
            value = self.memory.count(compressed);
        }
        if let Some(seal) = &self.seal {
            let sealed = seal.seal(key, &value, token.encryption());
            value = self.memory.count(sealed.ok_or_else(|| failed("encryption failed".to_owned()))?);
        } else if token.encryption() == Some(true) {
            // The configuration was changed, and `store` with its keys takes effect at a restart.
            return Err(failed("the route encrypts, and this process has no keys yet".to_owned()));
        }
        let (name, expires_at) = (self.keys.response(key), store_millis(&clocks, entry.expires_at()));
        if let (true, StoredEntry::Response(response)) = (token.yields_to_newer(), entry) {
            let staged_until = store_millis(&clocks, self.clock.now().plus(STAGED_VALUE_TTL));
            let encoded = EncodedEntry {
                value,
                requested_at: clocks.to_store_upper_bound(response.head.terms().requested_at),
                expires_at_millis: expires_at,
                staged_until_millis: staged_until.min(expires_at),
            };
            let replaced = self.replace_older(key, encoded).await;
            if matches!(&replaced, Err(RedisError::ErrorReply(reason)) if reason.contains("WRONGTYPE")) {
                self.delete_corrupt_value(name, Bytes::new());
            }
            let is_written = replaced.map_err(|error| failed(error.to_string()))?;
            return if is_written { Ok(()) } else { Err(StoreError::Outdated) };
        }
        let written = self.servers.set(name, value, expires_at, self.deadline).await;
        written.map_err(|error| failed(error.to_string()))
    }

    /// Compresses a value if that is wanted, it shrinks, and it need not wait for long: not at all while memory is short.
    async fn compress(&self, value: &Bytes) -> Option<Bytes> {
        let max_wait = if self.memory.has_room() { self.deadline } else { Duration::ZERO };
        self.compressor.as_ref()?.compress(value, max_wait).await
    }

    /// Writes a value unless a later fetch is stored. Reports whether it was written. The value is staged under a name
    /// of its own first, so that it does not pass through a script.
    async fn replace_older(&self, key: &CacheKey, entry: EncodedEntry) -> Result<bool, RedisError> {
        let token = random_bytes().map_err(|error| RedisError::ErrorReply(error.to_string()))?;
        let token = format!("{:016x}", u64::from_le_bytes(token));
        let (name, staged) = (self.keys.response(key), self.keys.staged_value(key, &token));
        let prefix = entry.value.slice(..entry.value.len().min(encoding::FETCH_TIME_END));
        self.servers.set(staged.clone(), entry.value, entry.staged_until_millis, self.deadline).await?;
        let numbers = [entry.requested_at.as_micros().to_string(), entry.expires_at_millis.to_string()];
        let args = [prefix].into_iter().chain(numbers.map(Bytes::from)).collect();
        let keys = [name.as_str(), staged.as_str()];
        let replaced = self
            .servers
            .run(CommandKind::Replace, &REPLACE, &keys, args, Admission::IfHealthy, self.deadline)
            .await?;
        Ok(replaced.number() == Some(1))
    }
}

pub(super) fn store_millis(clocks: &ClockOffset, time: Timestamp) -> i64 {
    i64::try_from(clocks.to_store(time).as_micros() / 1000).unwrap_or(i64::MAX)
}
