//! Purges and intents on their way to Redis.

use std::time::Duration;

use super::RedisIndex;
use super::purge_call::{PurgeCall, RecordKind};
use super::queue::{MAX_TARGETS_IN_FLIGHT, Turn};
use crate::clock::{Moment, Timestamp};
use crate::purge::{
    AuditRecord, IndexChange, IntentId, Purge, PurgeCause, PurgeIntent, PurgeMode, PurgeVersion, Target,
    TargetId,
};
use crate::store::redis::command_stats::CommandKind;
use crate::store::redis::connection::Admission;
use crate::store::redis::error::RedisError;
use crate::store::redis::journal::{Journal, JournalBatch};
use crate::store::redis::scripts::{PURGE, ScriptReply};

/// Targets of one intent, which is one script.
const MAX_TARGETS_PER_INTENT: usize = 1000;

impl RedisIndex {
    /// `Ok`: Redis has it, and so has the view. Otherwise it waits until Redis takes it, and holds here meanwhile.
    pub(crate) async fn purge(&self, purge: &Purge) -> Result<PurgeVersion, RedisError> {
        let call = PurgeCall {
            targets: purge.ids(),
            kind: RecordKind::Purge(purge.mode),
            in_doubt_for: purge.in_doubt_for,
            resolves: purge.resolves.as_ref().map(bound_intent),
            audit: AuditRecord::from_purge(purge, &self.membership.name).into_iter().collect(),
        };
        let targets = call.targets.clone();
        let recorded = self.send_in_parts(call).await;
        if recorded.is_err() && !targets.is_empty() {
            let journal = &self.journals[usize::from(!purge.in_doubt_for.is_zero())];
            journal.add(&targets, purge.in_doubt_for, &self.view);
            journal.add_names(purge.describe_targets());
            self.sync_requested.notify_one();
        }
        recorded
    }

    /// `Ok`: Redis has the intent. Otherwise it may have it all the same; the intent ends at its date.
    pub(crate) async fn add_intent(&self, intent: &PurgeIntent) -> Result<(), RedisError> {
        let intent = bound_intent(intent);
        let call = PurgeCall {
            targets: intent.targets,
            kind: RecordKind::Intent(intent.id),
            in_doubt_for: intent.expires_in,
            resolves: None,
            audit: Vec::new(),
        };
        self.send_in_turn(call).await.map(drop)
    }

    /// A part at a time: what Redis has taken is not sent again, and once it takes any, later purges do not join these.
    pub(super) async fn flush_journal(&self, journal: &Journal) -> Result<(), RedisError> {
        while let Some(batch) = journal.take(MAX_TARGETS_IN_FLIGHT) {
            let call = PurgeCall {
                targets: batch.targets.clone(),
                kind: RecordKind::Purge(PurgeMode::Hard),
                in_doubt_for: batch.in_doubt_for,
                resolves: None,
                audit: self.late_audit_record(&batch).into_iter().collect(),
            };
            // It waits for no turn: no confirmation counts before it.
            match self.send(&call, Admission::Probe).await {
                Ok(_) => {
                    journal.complete(&batch, &self.view);
                    self.servers.index_node().health.on_probe_success();
                }
                Err(failure) => {
                    journal.put_back(&batch, &self.view);
                    return Err(failure);
                }
            }
        }
        Ok(())
    }

    /// How many targets Redis has not taken.
    pub(super) fn pending_targets(&self) -> usize {
        self.journals.iter().map(Journal::len).sum()
    }

    /// The record of purges that Redis takes later than they were asked for; the last part has it.
    fn late_audit_record(&self, batch: &JournalBatch) -> Option<AuditRecord> {
        Some(AuditRecord {
            position: PurgeVersion::default(),
            at: Timestamp::default(),
            cause: PurgeCause { source: "late".to_owned(), ..PurgeCause::default() },
            soft: false,
            targets: batch.named.clone(),
            target_count: batch.total?,
            replica: self.membership.name.clone(),
        })
    }

    /// A breaker that has just opened is no reason to refuse a purge, which Redis may well take.
    fn admission(&self) -> Admission {
        if self.servers.index_node().health.opened_within(self.deadline) {
            Admission::Probe
        } else {
            Admission::IfHealthy
        }
    }

    async fn send_in_parts(&self, call: PurgeCall) -> Result<PurgeVersion, RedisError> {
        let mut version = PurgeVersion::default();
        for part in call.into_parts(MAX_TARGETS_IN_FLIGHT) {
            version = self.send_in_turn(part).await?;
        }
        Ok(version)
    }

    /// Sends it when there is room, maybe with others.
    async fn send_in_turn(&self, call: PurgeCall) -> Result<PurgeVersion, RedisError> {
        match self.queue.wait(call).await {
            Some(Turn::Send(joined)) => {
                let result = self.send(&joined.call, self.admission()).await;
                joined.finish(&result);
                result
            }
            Some(Turn::Sent(result)) => result,
            None => Err(RedisError::Unavailable),
        }
    }

    /// Runs `purge.lua`. `Ok`: Redis has it, and so has the view.
    async fn send(&self, call: &PurgeCall, admission: Admission) -> Result<PurgeVersion, RedisError> {
        let args = call.args(&self.bounds, &self.keys);
        let reply = self.run_script(CommandKind::Purge, &PURGE, args, admission).await?;
        match call.kind {
            RecordKind::Purge(mode) => self.apply_purge(&call.targets, mode, call.in_doubt_for, &reply)?,
            RecordKind::Intent(id) => self.apply_intent(id, &call.targets, call.in_doubt_for, &reply)?,
        }
        Ok(reply.version)
    }

    fn apply_intent(
        &self,
        id: IntentId,
        targets: &[TargetId],
        expires_in: Duration,
        reply: &ScriptReply,
    ) -> Result<(), RedisError> {
        self.apply(reply);
        if self.view.epoch() != reply.sync.epoch {
            return Err(RedisError::IndexReplaced);
        }
        if !reply.sync.is_complete {
            let until = reply.sync.server_time.plus(expires_in);
            self.view.change(|index| index.add_intent(id, targets, reply.version, until));
        }
        Ok(())
    }

    /// An index has these. `Err`: no view uses it any more, so no replica has learned of them.
    pub(super) fn apply_purge(
        &self,
        targets: &[TargetId],
        mode: PurgeMode,
        in_doubt_for: Duration,
        reply: &ScriptReply,
    ) -> Result<(), RedisError> {
        self.apply(reply);
        // Purges recorded before the view leaves its epoch are replayed; later ones are refused here.
        let _stays = self.lock_epoch();
        if self.view.epoch() != reply.sync.epoch {
            return Err(RedisError::IndexReplaced);
        }
        // The reply may have been one page of many, without these.
        let (version, until) = (reply.version, reply.sync.server_time.plus(in_doubt_for));
        let change = |id: &TargetId| match in_doubt_for.is_zero() {
            true => IndexChange::Purged { id: *id, version, mode },
            false => IndexChange::Doubted { id: *id, version, until },
        };
        let changes: Vec<IndexChange> = targets.iter().map(change).collect();
        self.view.change(|index| index.apply(&changes, PurgeVersion::default(), reply.sync.server_time));
        self.recent_purges.record_purge(targets, in_doubt_for, Moment::now());
        self.membership.record_purge(version);
        Ok(())
    }
}

/// Bounds the intent to what one script can record: everything if it has too many targets.
fn bound_intent(intent: &PurgeIntent) -> PurgeIntent {
    let mut intent = intent.clone();
    if intent.targets.len() > MAX_TARGETS_PER_INTENT {
        intent.targets = vec![Target::Everything.id()];
    }
    intent
}
