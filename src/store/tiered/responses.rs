//! Look-ups through both tiers, and the entries they find.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::yield_now;

use super::{TieredStore, Tiers};
use crate::clock::Moment;
use crate::memory_budget::MemoryBudget;
use crate::policy::CacheKey;
use crate::policy::miss_reason::MissReason;
use crate::purge::Epoch;
use crate::store::encoding::SealError;
use crate::store::first_tier::{find_purge, retain_valid};
use crate::store::redis::{Admission, CommandKind, REMOVE, RedisError};
use crate::store::{
    BoxFuture, FetchToken, GetResult, InspectedEntry, ResponseStore, StoreError, StoreStats, Tier,
    ValidEntry, encoding,
};
use crate::stored_response::{StoredEntry, StoredResponse, Terms, Variants};
use crate::tasks::spawn;

/// The first bytes of a corrupt value: of a sealed one up to its nonce or MAC. It is deleted only while they are still the
/// same.
const DELETE_COMPARE_BYTES: usize = 136;

/// A value that can't be used.
struct Rejected {
    /// It is sealed with a key that is not configured here, or not at all.
    is_foreign: bool,
}

impl ResponseStore for TieredStore {
    fn get(&self, key: &CacheKey) -> GetResult {
        let (tiers, arrived) = (&self.tiers, Moment::now());
        if !tiers.lag.is_strict() {
            // Read before the look-up, compared after it: the entry is judged by this confirmation or a later one.
            let confirmed = tiers.index.view.confirmed_at();
            let found = tiers.get_local(key);
            if tiers.lag.is_within_lag(confirmed, Moment::now()) {
                match found {
                    Some(found) => return GetResult::Ready(Some(found)),
                    None if !tiers.index.is_reachable() => return GetResult::Ready(None),
                    None => {}
                }
            }
        }
        if !tiers.index.is_reachable() {
            return GetResult::Ready(tiers.get_without_redis(key, arrived));
        }
        let (tiers, key) = (tiers.clone(), *key);
        GetResult::Pending(Box::pin(async move { tiers.get_synced(&key, arrived, false).await }))
    }

    fn get_local(&self, key: &CacheKey) -> Option<ValidEntry> {
        let confirmed = self.tiers.index.view.confirmed_at();
        let found = self.tiers.get_local(key)?;
        self.tiers.may_serve_local(confirmed).then_some(found)
    }

    fn get_remote(&self, key: &CacheKey) -> BoxFuture<Option<ValidEntry>> {
        if !self.tiers.index.is_reachable() {
            return Box::pin(ready(self.get_local(key)));
        }
        let (tiers, key, arrived) = (self.tiers.clone(), *key, Moment::now());
        Box::pin(async move { tiers.get_synced(&key, arrived, true).await })
    }

    fn find_absence(&self, key: &CacheKey) -> Option<MissReason> {
        let (first, is_away) = (&self.tiers.first, !self.tiers.index.is_reachable());
        match is_away && first.peek(key).is_some() {
            true => Some(MissReason::StoreUnavailable),
            false => first.absences.find(key).or(is_away.then_some(MissReason::StoreUnavailable)),
        }
    }

    /// The version is that of the last confirmation, which lies before the fetch. Before the first reply from Redis the
    /// token is void.
    fn begin_fetch(&self, key: &CacheKey) -> FetchToken {
        FetchToken::new(*key, self.tiers.index.view.read().read_version())
    }

    fn insert(&self, token: FetchToken, entry: StoredEntry) -> BoxFuture<Result<(), StoreError>> {
        if token.read_version().epoch == Epoch::NONE {
            let reason = "it was fetched before the first reply from Redis".to_owned();
            return Box::pin(ready(Err(StoreError::WriteFailed(reason))));
        }
        let tiers = self.tiers.clone();
        if !token.yields_to_newer() {
            tiers.insert_local(&token, &entry);
            return Box::pin(async move { tiers.write(&token, &entry).await });
        }
        Box::pin(async move {
            let written = tiers.write(&token, &entry).await;
            if !matches!(written, Err(StoreError::Outdated)) {
                tiers.insert_local(&token, &entry);
            }
            written
        })
    }

    fn inspect(&self, key: &CacheKey) -> BoxFuture<Option<InspectedEntry>> {
        let (tiers, key) = (self.tiers.clone(), *key);
        Box::pin(async move { tiers.inspect(&key).await })
    }

    fn memory_budget(&self) -> &Arc<MemoryBudget> {
        &self.tiers.memory
    }

    fn local_responses(&self) -> Vec<StoredResponse> {
        self.tiers.first.responses()
    }

    fn has_local_tier(&self) -> bool {
        self.tiers.has_local_tier
    }

    fn stats(&self) -> StoreStats {
        self.tiers.first.stats(&self.tiers.index.view).with_budget(self.memory_budget())
    }
}

impl Tiers {
    fn get_local(&self, key: &CacheKey) -> Option<ValidEntry> {
        if self.has_local_tier { self.first.get(key, &self.index.view, self.clock.now()) } else { None }
    }

    fn insert_local(&self, token: &FetchToken, entry: &StoredEntry) {
        self.first.insert(*token.key(), entry.clone(), &self.index.view, self.clock.now());
    }

    /// Answers from the first tier alone, as far as `on_store_loss` allows.
    fn get_without_redis(&self, key: &CacheKey, arrived: Moment) -> Option<ValidEntry> {
        self.lag.record_timeout(arrived);
        let confirmed = self.index.view.confirmed_at();
        let found = self.get_local(key);
        if self.lag.is_within_store_loss(confirmed, Moment::now()) { found } else { None }
    }

    /// Looks up a key once the view is confirmed, all within one deadline. `past_local`: reads Redis also if the first
    /// tier has the key.
    async fn get_synced(&self, key: &CacheKey, arrived: Moment, past_local: bool) -> Option<ValidEntry> {
        let view = &self.index.view;
        let required = self.lag.required_confirmation(arrived);
        if view.confirmed_at().is_none_or(|confirmed| confirmed < required)
            && !self.index.wait_confirmed_since(required, arrived.plus(self.deadline)).await
        {
            self.record_unavailable(key);
            return self.get_without_redis(key, Moment::now());
        }
        let mut found = self.get_local(key);
        if found.is_none() || past_local {
            let read = self.read_redis(key, self.deadline.saturating_sub(Moment::now().since(arrived)));
            found = read.await.or(found);
            if found.is_some() {
                // Yield once so that the whole batch is decoded before responses are written: one wake-up per
                // connection.
                yield_now().await;
            }
        }
        // Time has passed: judge the entry again, by the confirmation that is the latest now.
        let confirmed = view.confirmed_at();
        let found = retain_valid(found?.stored, view);
        if self.lag.is_strict() || self.lag.is_within_lag(confirmed, Moment::now()) { found } else { None }
    }

    async fn inspect(&self, key: &CacheKey) -> Option<InspectedEntry> {
        let view = &self.index.view;
        if let Some(stored) = self.first.peek(key) {
            return Some(InspectedEntry::inspect(stored, Tier::Memory, view));
        }
        let value = self.servers.get(self.keys.response(key), self.deadline).await.ok()??;
        let stored = self.decode(key, &value)?.ok()?;
        Some(InspectedEntry::inspect(stored, Tier::Redis, view))
    }

    /// Reads a key from Redis. A valid entry goes to the first tier as well, unless that has a newer one. A value that the
    /// memory budget does not admit is a miss, and its fetch is only passed on.
    async fn read_redis(&self, key: &CacheKey, timeout: Duration) -> Option<ValidEntry> {
        let timeout = timeout.max(Duration::from_millis(1));
        let value = match self.servers.get(self.keys.response(key), timeout).await {
            Ok(Some(value)) => value,
            Ok(None) => {
                self.first.absences.remove(key, MissReason::StoreUnavailable);
                return None;
            }
            Err(RedisError::ErrorReply(reason)) => {
                if reason.contains("WRONGTYPE") {
                    self.delete_corrupt_value(self.keys.response(key), Bytes::new());
                }
                return None;
            }
            Err(_) => {
                self.record_unavailable(key);
                return None;
            }
        };
        if !self.memory.admits(encoding::plain_size(&value)) {
            return None;
        }
        let entry = match self.decode(key, &value)? {
            Ok(entry) => entry,
            Err(Rejected { is_foreign }) => {
                self.rejected_values.fetch_add(1, Ordering::Relaxed);
                // A replica with other keys may be able to read it.
                if !is_foreign {
                    let prefix = Bytes::copy_from_slice(&value[..value.len().min(DELETE_COMPARE_BYTES)]);
                    self.delete_corrupt_value(self.keys.response(key), prefix);
                }
                return None;
            }
        };
        if !self.is_current(&entry) {
            self.first.record_absence(key, MissReason::Expired);
            return None;
        }
        let Some(found) = retain_valid(entry.clone(), &self.index.view) else {
            self.first.record_absence(key, find_purge(&entry, &self.index.view));
            return None;
        };
        let Some(local) = self.get_local(key) else {
            self.first.insert(*key, entry, &self.index.view, self.clock.now());
            return Some(found);
        };
        // Clients may have been served this entry already: don't go back to an older fetch of another replica.
        let Some(newer) = select_newer(entry, &local.stored) else { return Some(local) };
        self.first.insert(*key, newer.clone(), &self.index.view, self.clock.now());
        Some(ValidEntry { stored: newer, ..found })
    }

    /// Records that Redis did not answer what it has under `key`, unless more is known.
    fn record_unavailable(&self, key: &CacheKey) {
        if self.first.absences.find(key).is_none() {
            self.first.record_absence(key, MissReason::StoreUnavailable);
        }
    }

    /// Opens, expands and decodes a value. `None` before Redis' clock is known.
    fn decode(&self, key: &CacheKey, value: &Bytes) -> Option<Result<StoredEntry, Rejected>> {
        let clocks = self.index.clocks()?;
        // The value is a slice of the connection's read buffer, and would keep all of that alive: each step copies it.
        let (value, is_foreign) = match &self.seal {
            None if encoding::is_sealed(value) => (None, true),
            None => (encoding::decompress(value), false),
            Some(seal) => match seal.open(key, value) {
                Ok(value) => (encoding::into_plain(value), false),
                Err(error) => (None, error == SealError::UnknownKey),
            },
        };
        let entry = value.and_then(|value| encoding::decode(key, &self.memory.count(value), &clocks));
        Some(entry.ok_or(Rejected { is_foreign }))
    }

    /// Whether an entry is neither expired nor received in the future. The latter happens after a clock was set back,
    /// and makes the entry's age unknown.
    fn is_current(&self, entry: &StoredEntry) -> bool {
        let now = self.clock.now();
        let has_known_age = match entry {
            StoredEntry::Variants(_) => true,
            StoredEntry::Response(response) => response.head.terms().received_at <= now,
        };
        has_known_age && entry.expires_at() > now
    }

    /// Deletes a value in the background, if it still begins with `prefix`.
    pub(super) fn delete_corrupt_value(&self, name: String, prefix: Bytes) {
        tracing::warn!(key = name, "deleting a corrupt value in Redis");
        let (servers, timeout) = (self.servers.clone(), self.deadline);
        spawn(async move {
            let keys = [name.as_str()];
            let deleted = servers
                .run(CommandKind::Remove, &REMOVE, &keys, vec![prefix], Admission::IfHealthy, timeout)
                .await;
            if let Err(error) = deleted {
                tracing::debug!(%error, key = name, "failed to delete a corrupt value");
            }
        });
    }
}

/// The entry in Redis, if it takes the place of the one in memory: it was fetched later, or another replica found that the
/// resource is gone.
fn select_newer(remote: StoredEntry, local: &StoredEntry) -> Option<StoredEntry> {
    match (&remote, local) {
        (StoredEntry::Response(one), StoredEntry::Response(other)) => {
            let is_later = one.head.terms().requested_at > other.head.terms().requested_at;
            (is_later || is_withdrawn_from(one, other)).then_some(remote)
        }
        (StoredEntry::Variants(one), StoredEntry::Variants(other)) => {
            // Other kinds may be known here.
            let (withdrawn_at, expires_at) = (one.withdrawn_at, one.expires_at.max(other.expires_at));
            (withdrawn_at > other.withdrawn_at).then(|| {
                StoredEntry::Variants(Arc::new(Variants { withdrawn_at, expires_at, ..(**other).clone() }))
            })
        }
        _ => None,
    }
}

/// Whether it is the same response without its stale windows. Its times differ by as much as the replicas know Redis' clock.
fn is_withdrawn_from(one: &StoredResponse, other: &StoredResponse) -> bool {
    let has_windows = |terms: Terms| !(terms.stale_while_revalidate + terms.stale_if_error).is_zero();
    !has_windows(one.head.terms())
        && has_windows(other.head.terms())
        && one.head.status == other.head.status
        && one.head.fields.encoded_parts() == other.head.fields.encoded_parts()
        && one.body == other.body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_size<F>(_: impl Fn(&'static Tiers, &'static CacheKey, Moment, bool) -> F) -> usize {
        size_of::<F>()
    }

    /// There is one future for each waiting request; large ones miss the allocator's caches.
    #[test]
    fn the_lookup_future_is_small() {
        let size = future_size(Tiers::get_synced);
        assert!(size <= 1024, "{size}");
    }
}
