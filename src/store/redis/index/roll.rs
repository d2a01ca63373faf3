//! This replica on the roll, and waiting until all of them know a purge.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};

use super::super::command_stats::CommandKind;
use super::super::connection::Admission;
use super::super::error::RedisError;
use super::super::replicas::{HEARTBEAT_REQUEST, PROCESS, parse_trust, status};
use super::super::request::millis_arg;
use super::super::scripts::{DEREGISTER, REPLICAS, RollEntry, RollReply, parse_roll};
use super::RedisIndex;
use crate::clock::Moment;
use crate::purge::PurgeVersion;
use crate::store::remote_status::ReplicaStatus;

/// Between looks at who knows a purge.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(2);
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// An operator can wait for longer than a request.
const ADMIN_DEADLINE: Duration = Duration::from_secs(1);

/// How long the index outlives the last replica. Without it everything stored is a miss, so nothing depends on it.
const ABANDONED_TTL: Duration = Duration::from_secs(24 * 60 * 60);

impl RedisIndex {
    /// Looks who is on the roll, if the last look was a while ago.
    pub(crate) async fn watch_roll(&self) {
        if self.membership.is_roll_due()
            && let Err(error) = self.fetch_roll("").await
        {
            tracing::debug!(%error, "cannot read the replica list");
        }
    }

    /// Ends the waits of others for this replica, which answers nothing from its view any more.
    pub(crate) async fn deregister(&self) {
        self.view.leave();
        self.membership.has_left.store(true, Ordering::Release);
        let keys = [self.keys.index.as_str(), self.keys.history.as_str()];
        let args = vec![self.membership.place(), self.membership.process(), millis_arg(ABANDONED_TTL)];
        let (kind, admission) = (CommandKind::Replicas, Admission::IfHealthy);
        let left = self.servers.run(kind, &DEREGISTER, &keys, args, admission, self.deadline).await;
        if let Err(error) = left {
            tracing::debug!(%error, "replica not deregistered; its entry expires");
        }
    }

    /// All that there are.
    pub(crate) async fn list_replicas(&self) -> Result<Vec<ReplicaStatus>, RedisError> {
        let roll = self.fetch_roll("").await?;
        Ok(roll.replicas.iter().map(status).collect())
    }

    /// Waits until every replica knows what was purged up to `version`; those that do not within the time.
    ///
    /// # Errors
    /// If the roll can't be read, or does not prove anything: another epoch has begun, and replicas that have not heard
    /// of it may still answer.
    pub(crate) async fn wait_replicated(
        &self,
        version: PurgeVersion,
        within: Duration,
    ) -> Result<Vec<ReplicaStatus>, RedisError> {
        let end = Instant::now() + within;
        let mut message = format!("{HEARTBEAT_REQUEST}{}", version.0);
        let mut pause = MIN_POLL_INTERVAL;
        let mut missing = Err(RedisError::TimedOut);
        loop {
            let Ok(roll) = timeout_at(end, self.fetch_roll(&message)).await else { return missing };
            if roll.is_ok() {
                message.clear();
            }
            missing = roll.and_then(|roll| self.missing(version, &roll));
            let is_over = missing.as_ref().is_ok_and(Vec::is_empty) || Instant::now() + pause >= end;
            if is_over {
                return missing;
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_POLL_INTERVAL);
        }
    }

    fn missing(&self, version: PurgeVersion, roll: &RollReply) -> Result<Vec<ReplicaStatus>, RedisError> {
        let membership = &self.membership;
        let trust = roll.replicas.iter().map(|entry| parse_trust(&entry.place)).max().unwrap_or_default();
        if roll.epoch != self.view.epoch()
            || !membership.is_epoch_settled(version, trust.max(membership.trust))
        {
            return Err(RedisError::IndexReplaced);
        }
        let is_own = |entry: &RollEntry| entry.place.get(PROCESS) == Some(&membership.process[..]);
        if !roll.replicas.iter().any(is_own) {
            return Err(RedisError::ErrorReply("this replica is not on the roll".to_owned()));
        }
        let knows = |entry: &&RollEntry| match is_own(entry) {
            true => self.view.read().high_water() >= version,
            false => entry.known >= version,
        };
        Ok(roll.replicas.iter().filter(|entry| !knows(entry)).map(status).collect())
    }

    /// Reads the roll, and has those forgotten that have been silent for too long.
    async fn fetch_roll(&self, message: &str) -> Result<RollReply, RedisError> {
        let mut forget = Vec::new();
        loop {
            let mut args =
                [&self.keys.wake, message].map(|arg| Bytes::copy_from_slice(arg.as_bytes())).to_vec();
            args.append(&mut forget);
            let admission = match self.membership.has_conflict() {
                true => Admission::Probe,
                false => Admission::IfHealthy,
            };
            let reply = self.call(CommandKind::Replicas, &REPLICAS, args, admission, ADMIN_DEADLINE);
            let (reply, call) = reply.await?;
            let roll = parse_roll(&reply, &call).ok_or_else(|| self.lost_track())?;
            forget = self.membership.observe(&roll.replicas, Moment::now());
            if forget.is_empty() {
                return Ok(roll);
            }
        }
    }
}
