//! The embedded store: the first tier alone, and the purge index beside it. A purge is acknowledged when the view has
//! it.

use std::future::ready;
use std::sync::Arc;

use super::audit_log::{AuditLog, AuditPage};
use super::first_tier::FirstTier;
use super::{
    BoxFuture, FetchLocks, FetchToken, GetResult, InspectedEntry, PurgeStore, RateBudgets, ReplicaRegistry,
    ResponseStore, SourceOffsets, StoreError, StoreStats, Tier, ValidEntry,
};
use crate::clock::Clock;
use crate::memory_budget::MemoryBudget;
use crate::policy::CacheKey;
use crate::policy::miss_reason::MissReason;
use crate::purge::{
    AuditFilter, AuditRecord, Epoch, Index, IndexBounds, Purge, PurgeIntent, PurgeVersion, PurgeView,
    ReadVersion, Target, TargetId, Validity,
};
use crate::stored_response::{StoredEntry, StoredResponse};

/// A store in the memory of this process.
pub struct MemoryStore {
    view: PurgeView,
    responses: FirstTier,
    memory: Arc<MemoryBudget>,
    clock: Clock,
    history: AuditLog,
    replica: String,
}

impl MemoryStore {
    /// `capacity` is in bytes, headers and bookkeeping included.
    pub fn new(capacity: u64, epoch: Epoch, clock: Clock) -> Self {
        Self::with_replica_name(String::new(), capacity, epoch, clock)
    }

    /// `replica`: what the records of purges call this one.
    pub(crate) fn with_replica_name(replica: String, capacity: u64, epoch: Epoch, clock: Clock) -> Self {
        let mut index = Index::new(epoch, clock.now(), IndexBounds::default());
        // Purges from before the start are not known. A fetch that may be as stale as from then on (`settle`) began too early.
        index.purge(&Purge::hard(vec![Target::Everything]), clock.now());
        let (view, responses) = (PurgeView::new(index), FirstTier::new(capacity));
        let memory = MemoryBudget::new(capacity);
        Self { view, responses, memory, clock, history: AuditLog::default(), replica }
    }
}

impl ResponseStore for MemoryStore {
    fn get(&self, key: &CacheKey) -> GetResult {
        GetResult::Ready(self.get_local(key))
    }

    fn get_local(&self, key: &CacheKey) -> Option<ValidEntry> {
        self.responses.get(key, &self.view, self.clock.now())
    }

    fn find_absence(&self, key: &CacheKey) -> Option<MissReason> {
        self.responses.absences.find(key)
    }

    fn begin_fetch(&self, key: &CacheKey) -> FetchToken {
        FetchToken::new(*key, self.view.read_version(self.clock.now()))
    }

    fn insert(&self, fill: FetchToken, stored: StoredEntry) -> BoxFuture<Result<(), StoreError>> {
        let fits = self.responses.insert(*fill.key(), stored, &self.view, self.clock.now());
        Box::pin(ready(if fits { Ok(()) } else { Err(StoreError::TooLarge) }))
    }

    fn inspect(&self, key: &CacheKey) -> BoxFuture<Option<InspectedEntry>> {
        let stored = self.responses.peek(key);
        let seen = stored.map(|stored| InspectedEntry::inspect(stored, Tier::Memory, &self.view));
        Box::pin(ready(seen))
    }

    fn memory_budget(&self) -> &Arc<MemoryBudget> {
        &self.memory
    }

    fn local_responses(&self) -> Vec<StoredResponse> {
        self.responses.responses()
    }

    fn stats(&self) -> StoreStats {
        self.responses.stats(&self.view).with_budget(&self.memory)
    }
}

impl PurgeStore for MemoryStore {
    fn validity(&self, stamp: &ReadVersion, targets: &[TargetId]) -> Validity {
        self.view.check_validity(stamp, targets)
    }

    fn is_unpurged_since(&self, stamp: &ReadVersion) -> bool {
        self.view.read().is_unpurged_since(stamp)
    }

    fn was_purged_since(&self, stamp: &ReadVersion, targets: &[TargetId]) -> bool {
        self.view.read().was_purged_since(stamp, targets)
    }

    fn purge(&self, purge: Purge) -> BoxFuture<Result<PurgeVersion, StoreError>> {
        let now = self.clock.now();
        let position = self.view.purge(&purge, now);
        if let Some(record) = AuditRecord::from_purge(&purge, &self.replica) {
            self.history.add(AuditRecord { position, at: now, ..record });
        }
        Box::pin(ready(Ok(position)))
    }

    fn record_intent(&self, intent: PurgeIntent) -> BoxFuture<Result<(), StoreError>> {
        let until = self.clock.now().plus(intent.expires_in);
        self.view.change(|index| {
            let version = index.high_water();
            index.add_intent(intent.id, &intent.targets, version, until);
        });
        Box::pin(ready(Ok(())))
    }

    fn use_rules(&self, rules: TargetId) {
        self.view.set_rules(rules);
    }

    fn recent_purges(&self, asked: AuditFilter) -> BoxFuture<AuditPage> {
        let records = self.history.read(&asked);
        Box::pin(ready(AuditPage { records, of_all_replicas: true }))
    }

    fn latest_version(&self) -> PurgeVersion {
        self.view.read().high_water()
    }
}

impl FetchLocks for MemoryStore {}
impl ReplicaRegistry for MemoryStore {}
impl SourceOffsets for MemoryStore {}

impl RateBudgets for MemoryStore {}
