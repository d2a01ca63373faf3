//! REMEMBERS. The contract that every store fulfils, one trait for each of its purposes.
//!
//! - [`ResponseStore::get`] finds valid responses only: no purge that was acknowledged before the call names them.
//! - Only a [`FetchToken`] may write. It is taken before the fetch begins and carries the version of the purge index
//!   at that moment, so a slow fetch can't bring back what was purged meanwhile.
//! - A purge is acknowledged once it holds for every later `get`.
//! - Losing data can only cause misses.

mod absence_log;
mod audit_log;
pub mod encoding;
mod entry;
mod fetch_lease;
mod first_tier;
pub mod memory;
mod redis;
pub mod remote_status;
pub mod replica;
mod sized_cache;
pub mod sources;
pub mod tiered;

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::memory_budget::MemoryBudget;
use crate::policy::CacheKey;
use crate::policy::miss_reason::MissReason;
use crate::policy::rate_budget::BudgetId;
use crate::policy::rate_limit::Charge;
use crate::purge::{AuditFilter, Purge, PurgeIntent, PurgeVersion, ReadVersion, TargetId, Validity};
use crate::stored_response::{StoredEntry, StoredResponse};
pub use audit_log::AuditPage;
pub(crate) use entry::Tier;
pub use entry::{FetchToken, GetResult, InspectedEntry, ValidEntry};
pub use fetch_lease::{FetchLease, LeaseDecision, LeaseOutcome};
#[cfg(test)]
pub(crate) use redis::StreamState;
pub(crate) use redis::inspect;
#[doc(hidden)]
pub use redis::{
    Address, Admission, ChannelMessage, ConnectionEvent, ConnectionEvents, Redirect, RedisConnection,
    RedisError, RedisRequest, RespValue, SendOptions, simulate_redis,
};
pub(crate) use redis::{
    Census, ChannelEvent, FindingLevel, Inspection, LoginSource, RedisEventSource, Rule, ServerFinding,
    StreamEntry, StreamRead, build_tls, count_keys, explain_connection, find_rule, quote,
};
use remote_status::{RemoteStatus, ReplicaStatus};
use sources::{SourceState, SourceUpdate};

/// A future on the heap, for traits that are used as objects.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A whole store: all that a worker, the admin listener and the event sources ask for.
pub trait Store:
    ResponseStore + PurgeStore + FetchLocks + ReplicaRegistry + SourceOffsets + RateBudgets
{
}

impl<S: ResponseStore + PurgeStore + FetchLocks + ReplicaRegistry + SourceOffsets + RateBudgets> Store for S {}

/// Stored responses.
pub trait ResponseStore: Send + Sync + 'static {
    /// The valid entry under `key`. `Ready` where nothing must be waited for: a hit in the first tier costs no await.
    fn get(&self, key: &CacheKey) -> GetResult;

    /// [`ResponseStore::get`] in the first tier alone.
    fn get_local(&self, key: &CacheKey) -> Option<ValidEntry>;

    /// [`ResponseStore::get`] past the first tier: finds what another replica has stored since. The newer of both stays.
    fn get_remote(&self, key: &CacheKey) -> BoxFuture<Option<ValidEntry>> {
        Box::pin(ready(self.get_local(key)))
    }

    /// Why nothing valid is stored under `key`, as far as this replica remembers.
    fn find_absence(&self, _key: &CacheKey) -> Option<MissReason> {
        None
    }

    /// The permit to fetch and store one key. Take it before the fetch begins.
    fn begin_fetch(&self, key: &CacheKey) -> FetchToken;

    /// Stores `entry` under the token's key until it expires, unless it was purged since the token was taken.
    fn insert(&self, token: FetchToken, entry: StoredEntry) -> BoxFuture<Result<(), StoreError>>;

    /// The entry under `key`, valid or not, for people. Reading it does not count as a use.
    fn inspect(&self, _key: &CacheKey) -> BoxFuture<Option<InspectedEntry>> {
        Box::pin(ready(None))
    }

    /// The budget that the bodies of its entries count in.
    fn memory_budget(&self) -> &Arc<MemoryBudget>;

    /// The responses in the first tier, valid or not.
    fn local_responses(&self) -> Vec<StoredResponse> {
        Vec::new()
    }

    /// Whether entries stay in this process, and with them the record of their use.
    fn has_local_tier(&self) -> bool {
        true
    }

    /// Counters of the first tier and the purge index.
    fn stats(&self) -> StoreStats;
}

/// The purge index.
pub trait PurgeStore: Send + Sync + 'static {
    /// Whether a purge since `version` names one of `targets`: for a response that is not stored yet.
    fn validity(&self, version: &ReadVersion, targets: &[TargetId]) -> Validity;

    /// Whether it is certain that nothing at all was purged or is in doubt since `version`: for a response whose targets
    /// are not all known yet.
    fn is_unpurged_since(&self, _version: &ReadVersion) -> bool {
        false
    }

    /// Whether a purge since `version` names one of `targets`, as far as it is known here; doubts and writes under way do
    /// not count. A fetch from before such a purge answers nobody who comes after it.
    fn was_purged_since(&self, _version: &ReadVersion, _targets: &[TargetId]) -> bool {
        false
    }

    /// Purges; `Ok` is the acknowledgement.
    fn purge(&self, purge: Purge) -> BoxFuture<Result<PurgeVersion, StoreError>>;

    /// Records the intent of a write to purge, or moves the date of one that stands. `Ok`: it holds for every later
    /// `get`, also if this process ends now. The purge that resolves it ends it.
    fn record_intent(&self, intent: PurgeIntent) -> BoxFuture<Result<(), StoreError>>;

    /// Waits until everything that was purged before the call is known here. `false`: that can't be confirmed, so no
    /// stored response may answer.
    fn sync(&self) -> BoxFuture<bool> {
        Box::pin(ready(true))
    }

    /// The last purges, for people.
    fn recent_purges(&self, _filter: AuditFilter) -> BoxFuture<AuditPage> {
        Box::pin(ready(AuditPage::default()))
    }

    /// `Larder-Position`: the version of an acknowledged purge, as a client may bring it back.
    fn position(&self, version: PurgeVersion) -> String {
        version.0.to_string()
    }

    /// Waits until this store knows what was purged up to a position, if it was given out here or by another replica.
    /// `false`: that can't be had, so stored responses must not be used.
    fn sync_to(&self, _position: &str) -> BoxFuture<bool> {
        Box::pin(std::future::ready(true))
    }

    /// Takes rules into use: responses that do not carry this target are not served from now on.
    fn use_rules(&self, _rules: TargetId) {}

    /// The version of the latest purge that is known here.
    fn latest_version(&self) -> PurgeVersion {
        PurgeVersion::default()
    }
}

/// One fetch for all replicas.
pub trait FetchLocks: Send + Sync + 'static {
    /// Decides which replica fetches `key`. Waits up to `timeout` for another replica's fetch. `has_looked`: the caller
    /// knows the stored entry and can't use it.
    fn acquire_fetch_lease(
        &self,
        _key: &CacheKey,
        _has_looked: bool,
        _timeout: Duration,
    ) -> BoxFuture<LeaseDecision> {
        Box::pin(ready(LeaseDecision::FetchLocally))
    }
}

/// The replicas that share a store, and the server they share it through.
pub trait ReplicaRegistry: Send + Sync + 'static {
    /// The name of this replica; `None` where the store is not shared.
    fn replica_name(&self) -> Option<&str> {
        None
    }

    /// All replicas of a shared store; none where it is not shared.
    fn replicas(&self) -> BoxFuture<Result<Vec<ReplicaStatus>, StoreError>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    /// Waits up to `timeout` until every replica knows the purges up to `version`; returns those that don't. A replica
    /// that has been silent for so long that it can't answer from its view any more is not waited for.
    fn wait_replicated(
        &self,
        _version: PurgeVersion,
        _timeout: Duration,
    ) -> BoxFuture<Result<Vec<ReplicaStatus>, StoreError>> {
        self.replicas()
    }

    /// Tells the other replicas this one's counters. They forget them soon after the last report.
    fn report_stats(&self, _report: Bytes) -> BoxFuture<Result<(), StoreError>> {
        Box::pin(ready(Ok(())))
    }

    /// The last reports of the other replicas.
    fn stats_reports(&self) -> BoxFuture<Result<StatsReports, StoreError>> {
        Box::pin(ready(Ok(StatsReports::default())))
    }

    /// This replica answers nothing from its store any more: no other waits for it.
    fn deregister(&self) -> BoxFuture<()> {
        Box::pin(ready(()))
    }

    /// The state of the shared server; `None` if there is none.
    fn remote_status(&self) -> Option<RemoteStatus> {
        None
    }
}

/// Counters of replicas, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatsReports {
    pub(crate) own_name: String,
    /// `None`: the replica has not reported.
    pub others: Vec<(String, Option<Bytes>)>,
}

/// How far the sources of change events have been read, and which signed events were taken.
pub trait SourceOffsets: Send + Sync + 'static {
    /// Records an update of a source, and returns what all replicas know of it.
    fn update_source(&self, update: SourceUpdate) -> BoxFuture<Result<SourceState, StoreError>> {
        Box::pin(ready(Ok(SourceState::for_single_replica(&update))))
    }

    /// Whether any replica has taken the signed event `id` before.
    fn was_event_seen(&self, _id: &str) -> BoxFuture<Result<bool, StoreError>> {
        Box::pin(ready(Ok(false)))
    }

    /// Records for `ttl` that the signed event `id` was taken.
    fn mark_event_seen(&self, _id: &str, _ttl: Duration) -> BoxFuture<Result<(), StoreError>> {
        Box::pin(ready(Ok(())))
    }
}

/// The budgets of limited routes, for all replicas together.
pub trait RateBudgets: Send + Sync + 'static {
    /// Charges `price` to a budget, unless it would owe more than `capacity`. An error where nothing is shared.
    fn charge(
        &self,
        _id: BudgetId,
        _price: Duration,
        _capacity: Duration,
    ) -> BoxFuture<Result<Charge, StoreError>> {
        Box::pin(ready(Err(StoreError::Unavailable("there is one replica".to_owned()))))
    }
}

/// Why the store did not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The purge may not have taken effect.
    #[error("the store rejected the purge: {0}")]
    PurgeRejected(String),
    /// The intent may not have taken effect.
    #[error("the store rejected the purge intent: {0}")]
    IntentRejected(String),
    /// The response is older than the stored one.
    #[error("a later fetch has been stored already")]
    Outdated,
    /// The response exceeds the store's memory.
    #[error("the response is too large for the store")]
    TooLarge,
    /// The store can't be reached now.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The response could not be written.
    #[error("the store rejected the response: {0}")]
    WriteFailed(String),
}

/// Counters of the first tier and the purge index. Sizes are in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Stored responses and lists of variants.
    pub entries: u64,
    /// Memory of these.
    pub bytes: u64,
    pub(crate) capacity: u64,
    pub(crate) evicted: u64,
    /// Targets on record.
    pub purge_records: u64,
    /// Heads and contents of requests that are held.
    pub(crate) request_bytes: u64,
    /// The times that a client found no room in the memory budget.
    pub(crate) memory_refusals: u64,
}

impl StoreStats {
    #[must_use]
    fn with_budget(self, memory: &MemoryBudget) -> Self {
        Self { request_bytes: memory.request_bytes(), memory_refusals: memory.refusals(), ..self }
    }
}
