//! Things that replicas share besides responses and purges: fetch leases, heartbeats, offsets of event sources.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::writing::store_millis;
use super::{TieredStore, unavailable};
use crate::policy::CacheKey;
use crate::policy::rate_budget::BudgetId;
use crate::policy::rate_limit::Charge;
use crate::purge::PurgeVersion;
use crate::store::encoding::ValueCompressor;
use crate::store::redis::{rates, sources};
use crate::store::remote_status::{RemoteStatus, ReplicaStatus};
use crate::store::sources::{SourceState, SourceUpdate};
use crate::store::{
    BoxFuture, FetchLocks, LeaseDecision, RateBudgets, ReplicaRegistry, SourceOffsets, StatsReports,
    StoreError,
};

/// How long a replica's counters outlive their last report.
const STATS_TTL: Duration = Duration::from_secs(30);

impl FetchLocks for TieredStore {
    fn acquire_fetch_lease(
        &self,
        key: &CacheKey,
        has_looked: bool,
        timeout: Duration,
    ) -> BoxFuture<LeaseDecision> {
        Box::pin(self.tiers.leases.clone().acquire(*key, has_looked, timeout))
    }
}

impl ReplicaRegistry for TieredStore {
    fn replica_name(&self) -> Option<&str> {
        Some(&self.tiers.replica)
    }

    fn replicas(&self) -> BoxFuture<Result<Vec<ReplicaStatus>, StoreError>> {
        let index = self.tiers.index.clone();
        Box::pin(async move { index.list_replicas().await.map_err(unavailable) })
    }

    fn wait_replicated(
        &self,
        version: PurgeVersion,
        timeout: Duration,
    ) -> BoxFuture<Result<Vec<ReplicaStatus>, StoreError>> {
        let index = self.tiers.index.clone();
        Box::pin(async move { index.wait_replicated(version, timeout).await.map_err(unavailable) })
    }

    fn report_stats(&self, report: Bytes) -> BoxFuture<Result<(), StoreError>> {
        let tiers = self.tiers.clone();
        Box::pin(async move {
            let Some(clocks) = tiers.index.clocks() else { return Ok(()) };
            let end = store_millis(&clocks, tiers.clock.now().plus(STATS_TTL));
            let key = tiers.keys.stats(&tiers.replica);
            tiers.servers.set(key, report, end, tiers.deadline).await.map_err(unavailable)
        })
    }

    fn stats_reports(&self) -> BoxFuture<Result<StatsReports, StoreError>> {
        let tiers = self.tiers.clone();
        Box::pin(async move {
            let roll = tiers.index.list_replicas().await.map_err(unavailable)?;
            let mut others = Vec::new();
            // A replica that did not leave is there twice after its restart, for a while.
            let names: BTreeSet<_> = roll.into_iter().map(|replica| replica.name).collect();
            for name in names.into_iter().filter(|name| *name != tiers.replica) {
                let report = tiers.servers.get(tiers.keys.stats(&name), tiers.deadline).await;
                others.push((name, report.map_err(unavailable)?));
            }
            Ok(StatsReports { own_name: tiers.replica.clone(), others })
        })
    }

    fn deregister(&self) -> BoxFuture<()> {
        let index = self.tiers.index.clone();
        Box::pin(async move { index.deregister().await })
    }

    fn remote_status(&self) -> Option<RemoteStatus> {
        let status = self.tiers.index.figures(self.tiers.lag.max_lag());
        let rejected_values = self.tiers.rejected_values.load(Ordering::Relaxed);
        let compression = self.tiers.compressor.as_ref().map(ValueCompressor::stats);
        Some(RemoteStatus { leases: self.tiers.leases.figures(), rejected_values, compression, ..status })
    }
}

impl RateBudgets for TieredStore {
    fn charge(
        &self,
        id: BudgetId,
        price: Duration,
        capacity: Duration,
    ) -> BoxFuture<Result<Charge, StoreError>> {
        let (tiers, key) = (self.tiers.clone(), self.tiers.keys.rate(&id));
        Box::pin(async move {
            let charged = rates::charge(&tiers.servers, &key, [price, capacity], tiers.deadline).await;
            charged.map_err(unavailable)
        })
    }
}

impl SourceOffsets for TieredStore {
    fn update_source(&self, update: SourceUpdate) -> BoxFuture<Result<SourceState, StoreError>> {
        let tiers = self.tiers.clone();
        Box::pin(async move {
            let state = sources::update_source(&tiers.servers, &tiers.keys, &update, tiers.deadline).await;
            state.map_err(unavailable)
        })
    }

    fn was_event_seen(&self, id: &str) -> BoxFuture<Result<bool, StoreError>> {
        let (tiers, key) = (self.tiers.clone(), self.tiers.keys.seen(id));
        Box::pin(async move {
            sources::was_event_seen(&tiers.servers, key, tiers.deadline).await.map_err(unavailable)
        })
    }

    fn mark_event_seen(&self, id: &str, ttl: Duration) -> BoxFuture<Result<(), StoreError>> {
        let (tiers, key) = (self.tiers.clone(), self.tiers.keys.seen(id));
        Box::pin(async move {
            sources::mark_event_seen(&tiers.servers, &key, ttl, tiers.deadline).await.map_err(unavailable)
        })
    }
}
