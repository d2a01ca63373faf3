//! The purge index as this replica sees it: a view, kept up to date by confirmations, and purges that go through Redis.
//!
//! One confirmation is under way at a time, and serves all who wait for one. It is sent on a timer, when another
//! replica's purge wakes this one, when the connection is a new one, and when somebody asks.

mod roll;
mod waiters;
mod writing;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};

use super::batcher::Batcher;
use super::command_stats::CommandKind;
use super::connection::Admission;
use super::error::RedisError;
use super::journal::Journal;
use super::keys::KeyNames;
use super::recent_purges::RecentPurges;
use super::replicas::Membership;
use super::scripts::{Call, PURGE, RespValue, SYNC, Script, ScriptReply, parse_reply};
use super::servers::Servers;
use crate::clock::{Clock, Moment};
use crate::purge::{Epoch, Index, IndexBounds, Position, PurgeVersion, PurgeView, Target};
use crate::random::random_token;
use crate::store::encoding::ClockOffset;
use crate::store::remote_status::RemoteStatus;
use waiters::Waiter;

/// Records in one reply: some 50 kB.
const RECORDS_PER_REPLY: usize = 1000;

/// A hundred replicas that hear of every purge at once are not to ask for each of a thousand.
const MIN_WAKE_UP_INTERVAL: Duration = Duration::from_millis(1);

/// Between probes of a server that does not answer.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);

pub(crate) struct RedisIndex {
    pub servers: Arc<Servers>,
    pub view: PurgeView,
    pub(super) keys: KeyNames,
    pub(super) membership: Membership,
    /// Purges that Redis has not taken; those that leave their targets in doubt are apart.
    journals: [Journal; 2],
    recent_purges: RecentPurges,
    /// Targets that may be on their way to Redis at the same time.
    room: Semaphore,
    /// Held while the view may go from one epoch to another, and by who must know that it does not.
    epoch_switch: Mutex<()>,
    bounds: IndexBounds,
    clock: Clock,
    /// For every command.
    pub(super) deadline: Duration,
    /// Without another reason, a confirmation is sent this long after the last.
    interval: Duration,
    waiters: Arc<Batcher<Waiter>>,
    /// Somebody waits for a confirmation.
    pub(super) sync_requested: Notify,
    /// Another replica has purged.
    wake_up: Notify,
    /// Notified of every confirmation and of every failure to get one. It wakes waiters in their order, so that a
    /// simulation repeats itself.
    pub(super) sync_ended: Notify,
    clocks: Mutex<Option<ClockOffset>>,
    new_indexes: AtomicU64,
}

impl RedisIndex {
    pub(crate) fn new(
        servers: Arc<Servers>,
        keys: KeyNames,
        membership: Membership,
        bounds: IndexBounds,
        clock: Clock,
        deadline: Duration,
        interval: Duration,
    ) -> Self {
        Self {
            servers,
            view: PurgeView::new(Index::new_replica(bounds)),
            keys,
            membership,
            journals: Default::default(),
            recent_purges: RecentPurges::default(),
            room: Semaphore::new(writing::MAX_TARGETS_PER_SCRIPT),
            epoch_switch: Mutex::default(),
            bounds,
            clock,
            deadline,
            interval,
            waiters: Arc::default(),
            sync_requested: Notify::new(),
            wake_up: Notify::new(),
            sync_ended: Notify::new(),
            clocks: Mutex::default(),
            new_indexes: AtomicU64::new(0),
        }
    }

    /// The store's clock beside ours; `None` before the first word from Redis.
    pub(crate) fn clocks(&self) -> Option<ClockOffset> {
        *self.clocks.lock()
    }

    /// Whether the server that has the index answers.
    pub(crate) fn is_reachable(&self) -> bool {
        self.servers.index_node().health.is_healthy()
    }

    /// `max_lag` is not the index's to know.
    pub(crate) fn figures(&self, max_lag: Duration) -> RemoteStatus {
        RemoteStatus {
            pending_purges: self.pending_targets(),
            synced_ago: self.view.confirmed_at().map(|confirmed| Moment::now().since(confirmed)),
            max_lag,
            index_resets: self.new_indexes.load(Ordering::Relaxed),
            ..self.servers.status()
        }
    }

    /// A purge took place at `version`; it may be one of our own.
    pub(crate) fn on_wake_up(&self, version: PurgeVersion) {
        if version > self.view.read().high_water() {
            self.wake_up.notify_one();
        }
    }

    /// Waits until Redis is unavailable.
    pub(crate) async fn wait_until_unreachable(&self) {
        loop {
            let mut ended = pin!(self.sync_ended.notified());
            ended.as_mut().enable();
            if !self.is_reachable() {
                return;
            }
            ended.await;
        }
    }

    /// Somebody waits until all replicas report this version.
    pub(crate) fn on_heartbeat_request(&self, version: PurgeVersion) {
        self.membership.request(version);
        self.wake_up.notify_one();
    }

    /// Whether the view has everything up to this position: of this epoch by its version, or of an epoch that it has left,
    /// from which nothing is valid.
    pub(crate) fn has_applied(&self, position: &Position) -> bool {
        let (epoch, high_water) = {
            let index = self.view.read();
            (index.epoch(), index.high_water())
        };
        match position.has_epoch(epoch) {
            true => position.version <= high_water,
            false => self.view.confirmed_at().is_some() && self.recent_purges.has_left(position),
        }
    }

    /// Keeps the view up to date, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut changes = self.servers.changes();
        loop {
            let node = self.servers.index_node();
            let pause = match self.sync().await {
                Ok(()) => {
                    node.health.on_probe_success();
                    self.watch_roll().await;
                    self.interval
                }
                Err(failure) => {
                    if !matches!(failure, RedisError::TooManyInFlight | RedisError::IndexReplaced) {
                        node.health.on_probe_failure(&failure);
                    }
                    if node.health.should_reconnect() {
                        node.reconnect();
                    }
                    self.sync_ended.notify_waiters();
                    PROBE_INTERVAL
                }
            };
            let is_good = node.health.is_healthy();
            let told_at = Instant::now();
            // Only who is woken has a timer: each new one wakes the thread that sets it.
            let woken = async {
                self.wake_up.notified().await;
                sleep_until(told_at + MIN_WAKE_UP_INTERVAL).await;
            };
            tokio::select! {
                biased;
                () = sleep(pause) => {}
                _ = changes.changed() => {}
                // Waiters were told that the server is unavailable.
                () = self.sync_requested.notified(), if is_good => {}
                () = woken, if is_good => {}
            }
        }
    }

    /// Purges that Redis has not taken go first: until it has them, it is not trusted.
    async fn sync(&self) -> Result<(), RedisError> {
        self.servers.index_node().health.start_probe();
        if self.membership.has_conflict() {
            self.watch_roll().await;
            if self.membership.has_conflict() {
                return Err(RedisError::NameTaken);
            }
        }
        loop {
            for journal in &self.journals {
                self.flush_journal(journal).await?;
            }
            // This confirmation serves everybody who has asked so far.
            tokio::select! { biased; () = self.sync_requested.notified() => {} () = std::future::ready(()) => {} }
            let reply = self.run_script(CommandKind::Confirm, &SYNC, Vec::new(), Admission::Probe).await?;
            self.apply(&reply);
            let is_report_due = self.membership.is_report_due(self.view.read().high_water());
            // Another epoch is told what was purged before it counts.
            if reply.sync.is_complete && !is_report_due && self.pending_targets() == 0 {
                return Ok(());
            }
        }
    }

    /// One script on the index, and what it told.
    async fn run_script(
        &self,
        command: CommandKind,
        script: &'static Script,
        more: Vec<Bytes>,
        admission: Admission,
    ) -> Result<ScriptReply, RedisError> {
        let before = self.clock.now();
        let (reply, call) = self.call(command, script, more, admission, self.deadline).await?;
        let reply = parse_reply(&reply, &call).ok_or_else(|| self.lost_track())?;
        let clocks = ClockOffset::from_exchange(before, reply.sync.server_time, self.clock.now());
        *self.clocks.lock() = Some(clocks);
        Ok(reply)
    }

    /// Calls a script that begins with `begin.lua`, and returns its reply and the call that it must be the reply to.
    pub(super) async fn call(
        &self,
        command: CommandKind,
        script: &'static Script,
        more: Vec<Bytes>,
        admission: Admission,
        deadline: Duration,
    ) -> Result<(RespValue, Call), RedisError> {
        let nonce = random_token().map_err(|error| RedisError::ErrorReply(error.to_string()))?;
        let (epoch, known) = {
            let index = self.view.read();
            (index.epoch(), index.high_water())
        };
        let is_report_due = self.membership.is_report_due(known);
        let registration = self.membership.registration();
        let call = Call { nonce, sent_at: Moment::now(), registers: !registration.is_empty() };
        let mut args = vec![
            Bytes::from(call.nonce.clone()),
            Bytes::from(epoch.to_string()),
            integer_arg(known.0),
            integer_arg(RECORDS_PER_REPLY as u64),
            self.membership.process(),
            registration,
            Bytes::from_static(if is_report_due { b"1" } else { b"" }),
            Bytes::copy_from_slice(&Target::Everything.id().0),
        ];
        args.extend(more);
        let keys =
            [&self.keys.index, &self.keys.former_index, &self.keys.former_replicas, &self.keys.history];
        let keys = keys.map(String::as_str);
        let keys = if std::ptr::eq(script, &PURGE) { &keys[..] } else { &keys[..3] };
        let reply = match self.servers.run(command, script, keys, args.clone(), admission, deadline).await {
            // While a cluster moves the slot, the other keys may not be where the index is. It can do without them.
            Err(RedisError::ErrorReply(reason)) if reason.contains("TRYAGAIN") => {
                self.servers.run(command, script, &keys[..1], args, admission, deadline).await?
            }
            reply => reply?,
        };
        if is_report_due {
            self.membership.record_report(known);
        }
        Ok((reply, call))
    }

    /// A reply was not the one to its command: nobody knows whose it is, nor whose the next one will be.
    pub(super) fn lost_track(&self) -> RedisError {
        self.servers.index_node().reconnect();
        RedisError::ConnectionLost("a reply was not the one to its command".into())
    }

    fn apply(&self, reply: &ScriptReply) {
        let epoch = self.lock_epoch();
        let before = self.view.epoch();
        // First, so that what it names is valid at no moment under the other epoch.
        if self.view.would_reset_epoch(&reply.sync) {
            self.replay_purges(before, reply.sync.epoch);
        }
        let is_new = self.view.apply(&reply.sync);
        if is_new {
            self.membership.record_epoch(reply.sync.server_time.since(reply.epoch_began));
        }
        drop(epoch);
        if is_new {
            self.new_indexes.fetch_add(1, Ordering::Relaxed);
            tracing::info!("the purge index is a new one: nothing stored before is valid");
        }
        self.sync_ended.notify_waiters();
    }

    fn lock_epoch(&self) -> MutexGuard<'_, ()> {
        self.epoch_switch.lock()
    }

    /// Replays under epoch `to` the purges that this replica made under `from`.
    fn replay_purges(&self, from: Epoch, to: Epoch) {
        if from != Epoch::NONE {
            let again = self.recent_purges.on_epoch_change(from, to, Moment::now());
            self.journals[0].add(&again.targets, Duration::ZERO, &self.view);
            self.journals[1].add(&again.in_doubt, again.in_doubt_for, &self.view);
        }
    }
}

pub(super) fn integer_arg(number: u64) -> Bytes {
    Bytes::from(number.to_string())
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
