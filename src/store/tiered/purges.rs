//! Purges through Redis, and what this replica's view says of them.

use std::time::Duration;

use tokio::time::sleep;

use super::{TieredStore, Tiers};
use crate::clock::Moment;
use crate::purge::{
    AuditFilter, AuditRecord, Purge, PurgeIntent, PurgeVersion, ReadVersion, TargetId, Validity,
};
use crate::store::redis::read_purges;
use crate::store::{AuditPage, BoxFuture, PurgeStore, StoreError};

/// All who bring a position that this replica can't check ask for one confirmation together, this often. Invented
/// positions cause no more than that.
const UNCHECKED_POSITION_INTERVAL: Duration = Duration::from_millis(10);

impl PurgeStore for TieredStore {
    /// `Dead` while the view is not confirmed.
    fn validity(&self, version: &ReadVersion, targets: &[TargetId]) -> Validity {
        let view = &self.tiers.index.view;
        let confirmed = view.confirmed_at();
        let validity = view.check_validity(version, targets);
        if self.tiers.may_serve_local(confirmed) { validity } else { Validity::Dead }
    }

    fn is_unpurged_since(&self, version: &ReadVersion) -> bool {
        let view = &self.tiers.index.view;
        let confirmed = view.confirmed_at();
        let is_unpurged = view.read().is_unpurged_since(version);
        self.tiers.may_serve_local(confirmed) && is_unpurged
    }

    fn was_purged_since(&self, version: &ReadVersion, targets: &[TargetId]) -> bool {
        self.tiers.index.view.read().was_purged_since(version, targets)
    }

    fn purge(&self, purge: Purge) -> BoxFuture<Result<PurgeVersion, StoreError>> {
        let tiers = self.tiers.clone();
        Box::pin(async move {
            let purged = tiers.index.purge(&purge).await;
            let position = purged.map_err(|error| StoreError::PurgeRejected(error.to_string()))?;
            if let Some(record) = AuditRecord::from_purge(&purge, &tiers.replica) {
                tiers.audit.add(AuditRecord { position, at: tiers.clock.now(), ..record });
            }
            Ok(position)
        })
    }

    fn record_intent(&self, intent: PurgeIntent) -> BoxFuture<Result<(), StoreError>> {
        let index = self.tiers.index.clone();
        Box::pin(async move {
            index.add_intent(&intent).await.map_err(|error| StoreError::IntentRejected(error.to_string()))
        })
    }

    fn sync(&self) -> BoxFuture<bool> {
        let (tiers, arrived) = (self.tiers.clone(), Moment::now());
        Box::pin(async move {
            tiers.index.is_reachable()
                && tiers.index.wait_confirmed_since(arrived, arrived.plus(tiers.deadline)).await
        })
    }

    fn position(&self, version: PurgeVersion) -> String {
        self.tiers.position_key.write(self.tiers.index.view.epoch(), version)
    }

    fn sync_to(&self, position: &str) -> BoxFuture<bool> {
        let (tiers, arrived) = (self.tiers.clone(), Moment::now());
        let position =
            tiers.position_key.parse(position).filter(|position| !tiers.index.has_applied(position));
        let Some(position) = position else { return Box::pin(std::future::ready(true)) };
        Box::pin(async move {
            if !position.is_authentic && tiers.index.is_reachable() {
                sleep(time_to_next_turn(arrived)).await;
            }
            let asked = Moment::now();
            if tiers.index.is_reachable()
                && tiers.index.wait_confirmed_since(arrived, asked.plus(tiers.deadline)).await
            {
                return true;
            }
            !position.is_authentic
                && tiers.lag.is_within_store_loss(tiers.index.view.confirmed_at(), Moment::now())
        })
    }

    fn recent_purges(&self, filter: AuditFilter) -> BoxFuture<AuditPage> {
        let tiers = self.tiers.clone();
        Box::pin(async move { tiers.recent_purges(&filter).await })
    }

    fn use_rules(&self, rules: TargetId) {
        self.tiers.index.view.set_rules(rules);
    }

    fn latest_version(&self) -> PurgeVersion {
        self.tiers.index.view.read().high_water()
    }
}

/// The time from `arrived` to the next turn of those whose position can't be checked.
fn time_to_next_turn(arrived: Moment) -> Duration {
    let turn = UNCHECKED_POSITION_INTERVAL.as_nanos() as u64;
    Duration::from_nanos(turn - arrived.as_nanos() % turn)
}

impl Tiers {
    /// The purges of all replicas; this replica's own if Redis can't be read.
    async fn recent_purges(&self, filter: &AuditFilter) -> AuditPage {
        match read_purges(&self.servers, &self.keys, filter).await {
            Ok(records) => AuditPage { records, of_all_replicas: true },
            Err(error) => {
                tracing::debug!(%error, "failed to read the audit log in Redis");
                AuditPage { records: self.audit.read(filter), of_all_replicas: false }
            }
        }
    }
}
