//! Responses on their way to Redis. It decides nothing: what comes here may be stored.

use std::time::Duration;

use bytes::Bytes;

use super::Tiers;
use crate::clock::Timestamp;
use crate::policy::CacheKey;
use crate::store::encoding::{self, Clocks};
use crate::store::redis::{Command, Failure, REPLACE, Sent};
use crate::store::{Fill, StoreError};
use crate::stored_response::Stored;

/// A larger value would hold up the small ones behind it on the connection.
const LARGEST_VALUE: usize = 4 * 1024 * 1024;

/// How long a value stands beside its place at the most.
const BESIDE: Duration = Duration::from_secs(60);

impl Tiers {
    pub(super) async fn write(&self, fill: &Fill, stored: &Stored) -> Result<(), StoreError> {
        let key = fill.key();
        let not_stored = |reason: String| StoreError::NotStored(reason);
        let Some(clocks) = self.index.clocks() else {
            return Err(not_stored("nothing is known of Redis' clock".to_owned()));
        };
        let value = encoding::encode(key, stored, &clocks).filter(|value| value.len() <= LARGEST_VALUE);
        let Some(value) = value else { return Err(StoreError::TooLarge) };
        let (name, expires_at) = (self.keys.response(key), millis(&clocks, stored.expires_at()));
        if let (true, Stored::Response(response)) = (fill.yields, stored) {
            let asked_for = clocks.to_store_at_most(response.head.terms().requested_at);
            let replaced = self.replace(key, value, expires_at, asked_for, &clocks).await;
            if matches!(&replaced, Err(Failure::Refused(reason)) if reason.contains("WRONGTYPE")) {
                self.remove(name, Bytes::new());
            }
            let took_its_place = replaced.map_err(|failure| not_stored(failure.to_string()))?;
            return if took_its_place { Ok(()) } else { Err(StoreError::Outdated) };
        }
        let written = self.servers.set(name, value, expires_at, self.deadline).await;
        written.map_err(|failure| not_stored(failure.to_string()))
    }
    /// The value stands beside its place first, so that it does not go through a script. Whether it took its place.
    async fn replace(
        &self,
        key: &CacheKey,
        value: Bytes,
        expires_at: i64,
        asked_for: Timestamp,
        clocks: &Clocks,
    ) -> Result<bool, Failure> {
        let mut token = [0; 8];
        getrandom::fill(&mut token).map_err(|error| Failure::Refused(error.to_string()))?;
        let (name, new) = (
            self.keys.response(key),
            self.keys.new_value(key, &format!("{:016x}", u64::from_le_bytes(token))),
        );
        let beginning = value.slice(..value.len().min(encoding::TIMED));
        // Should this process end in between, it is gone soon.
        let soon = millis(clocks, self.clock.now().plus(BESIDE)).min(expires_at);
        self.servers.set(new.clone(), value, soon, self.deadline).await?;
        let args = vec![beginning, asked_for.as_micros().to_string().into(), expires_at.to_string().into()];
        let keys = [name.as_str(), new.as_str()];
        let replaced =
            self.servers.run(Command::Replace, &REPLACE, &keys, args, Sent::IfHealthy, self.deadline).await?;
        Ok(replaced.number() == Some(1))
    }
}

fn millis(clocks: &Clocks, expires_at: Timestamp) -> i64 {
    i64::try_from(clocks.to_store(expires_at).as_micros() / 1000).unwrap_or(i64::MAX)
}
