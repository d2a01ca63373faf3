//! Purges and intents on their way to Redis.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::{RedisIndex, integer_arg};
use crate::clock::{Moment, Timestamp, saturating_micros};
use crate::purge::{
    AuditRecord, IndexChange, Purge, PurgeCause, PurgeIntent, PurgeMode, PurgeVersion, Target, TargetId,
};
use crate::store::audit_log::MAX_AUDIT_RECORDS;
use crate::store::redis::audit_log;
use crate::store::redis::command_stats::CommandKind;
use crate::store::redis::connection::Admission;
use crate::store::redis::error::RedisError;
use crate::store::redis::journal::{Journal, JournalBatch};
use crate::store::redis::scripts::{PURGE, ScriptReply};

/// One script blocks Redis for a millisecond or two with this many targets. Nor are there more on their way at a time: a
/// crowd of writes waits here, and not in Redis, where it would make every other command late.
pub(super) const MAX_TARGETS_PER_SCRIPT: usize = 1000;

/// How targets are recorded.
#[derive(Clone)]
struct WriteOptions {
    mode: PurgeMode,
    in_doubt_for: Duration,
    resolves: Option<PurgeIntent>,
    audit: Option<AuditRecord>,
    /// The channels on which the record is announced.
    channels: Vec<String>,
}

impl RedisIndex {
    /// `Ok`: Redis has it, and so has the view. Otherwise it waits until Redis takes it, and holds here meanwhile.
    pub(crate) async fn purge(&self, purge: &Purge) -> Result<PurgeVersion, RedisError> {
        let targets = purge.ids();
        let channels = self.keys.publish.select(&purge.targets);
        let options = WriteOptions {
            mode: purge.mode,
            in_doubt_for: purge.in_doubt_for,
            resolves: purge.resolves.as_ref().map(bound_intent),
            audit: AuditRecord::from_purge(purge, &self.membership.name),
            channels: channels.clone(),
        };
        let recorded = self.write_purge(&targets, options, self.admission()).await;
        if recorded.is_err() && !targets.is_empty() {
            let journal = &self.journals[usize::from(!purge.in_doubt_for.is_zero())];
            journal.add(&targets, purge.in_doubt_for, &self.view);
            journal.add_names(purge.describe_targets(), channels);
            self.sync_requested.notify_one();
        }
        recorded
    }

    /// `Ok`: Redis has the intent. Otherwise it may have it all the same; the intent ends at its date.
    pub(crate) async fn add_intent(&self, intent: &PurgeIntent) -> Result<(), RedisError> {
        let intent = bound_intent(intent);
        let options = WriteOptions {
            mode: PurgeMode::Hard,
            in_doubt_for: intent.expires_in,
            resolves: None,
            audit: None,
            channels: Vec::new(),
        };
        let mut args = self.purge_args(&intent.targets, &options);
        (args[1], args[5]) = (Bytes::from_static(b"m"), Bytes::copy_from_slice(&intent.id.0));
        let reply = self.run_purge(intent.targets.len(), args, self.admission()).await?;
        self.apply(&reply);
        if self.view.epoch() != reply.sync.epoch {
            return Err(RedisError::IndexReplaced);
        }
        if !reply.sync.is_complete {
            let until = reply.sync.server_time.plus(intent.expires_in);
            self.view.change(|index| index.add_intent(intent.id, &intent.targets, reply.version, until));
        }
        Ok(())
    }

    pub(super) async fn flush_journal(&self, journal: &Journal) -> Result<(), RedisError> {
        while let Some(batch) = journal.take() {
            let options = WriteOptions {
                mode: PurgeMode::Hard,
                in_doubt_for: batch.in_doubt_for,
                resolves: None,
                audit: Some(self.late_audit_record(&batch)),
                channels: batch.channels.clone(),
            };
            match self.write_purge(&batch.targets, options, Admission::Probe).await {
                Ok(_) => journal.complete(&batch, &self.view),
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

    /// The record of purges that Redis takes later than they were asked for.
    fn late_audit_record(&self, batch: &JournalBatch) -> AuditRecord {
        AuditRecord {
            position: PurgeVersion::default(),
            at: Timestamp::default(),
            cause: PurgeCause { source: "late".to_owned(), ..PurgeCause::default() },
            soft: false,
            targets: batch.named.clone(),
            target_count: batch.targets.iter().filter(|id| !id.is_rules()).count(),
            replica: self.membership.name.clone(),
        }
    }

    /// A breaker that has just opened is no reason to refuse a purge, which Redis may well take.
    fn admission(&self) -> Admission {
        if self.servers.index_node().health.opened_within(self.deadline) {
            Admission::Probe
        } else {
            Admission::IfHealthy
        }
    }

    async fn write_purge(
        &self,
        targets: &[TargetId],
        options: WriteOptions,
        admission: Admission,
    ) -> Result<PurgeVersion, RedisError> {
        let mut version = PurgeVersion::default();
        let mut chunks: Vec<&[TargetId]> = targets.chunks(MAX_TARGETS_PER_SCRIPT).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        let last = chunks.len() - 1;
        for (number, targets) in chunks.into_iter().enumerate() {
            // The intent is resolved when all of the purge is there.
            let args = match number == last {
                true => self.purge_args(targets, &options),
                false => {
                    self.purge_args(targets, &WriteOptions { resolves: None, audit: None, ..options.clone() })
                }
            };
            let reply = self.run_purge(targets.len(), args, admission).await?;
            self.apply_purge(targets, options.mode, options.in_doubt_for, &reply)?;
            version = reply.version;
        }
        Ok(version)
    }

    /// Runs `purge.lua` when there is room for its targets.
    async fn run_purge(
        &self,
        targets: usize,
        args: Vec<Bytes>,
        admission: Admission,
    ) -> Result<ScriptReply, RedisError> {
        let permits = u32::try_from(targets).unwrap_or(u32::MAX);
        let room = timeout(self.deadline, self.room.acquire_many(permits)).await;
        let _room = room.map_err(|_| RedisError::TimedOut)?.ok();
        self.run_script(CommandKind::Purge, &PURGE, args, admission).await
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

    /// The arguments of `purge.lua`.
    fn purge_args(&self, targets: &[TargetId], options: &WriteOptions) -> Vec<Bytes> {
        let (intent, resolved) = match &options.resolves {
            Some(intent) => (Bytes::copy_from_slice(&intent.id.0), &intent.targets[..]),
            None => (Bytes::new(), &[][..]),
        };
        let kind: &[u8] = match options.mode {
            PurgeMode::Hard => b"h",
            PurgeMode::Soft => b"s",
        };
        let mut args = vec![
            integer_arg(saturating_micros(options.in_doubt_for.min(self.bounds.max_lifetime))),
            Bytes::from_static(kind),
            integer_arg(self.bounds.max_records as u64),
            integer_arg(saturating_micros(self.bounds.max_lifetime)),
            Bytes::copy_from_slice(self.keys.wake.as_bytes()),
            intent,
            audit_log::encode_record(options.audit.as_ref()),
            integer_arg(MAX_AUDIT_RECORDS as u64),
            options.channels.join("\n").into(),
            integer_arg(resolved.len() as u64),
        ];
        args.extend(resolved.iter().chain(targets).map(|id| Bytes::copy_from_slice(&id.0)));
        args
    }
}

/// Bounds the intent to what one script can record: everything if it has too many targets.
fn bound_intent(intent: &PurgeIntent) -> PurgeIntent {
    let mut intent = intent.clone();
    if intent.targets.len() > MAX_TARGETS_PER_SCRIPT {
        intent.targets = vec![Target::Everything.id()];
    }
    intent
}
