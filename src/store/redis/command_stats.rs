//! Counters of the commands sent to Redis.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::error::RedisError;
use crate::clock::saturating_micros;
use crate::store::remote_status::{CommandStats, ServerMemory};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandKind {
    Get,
    /// MGET.
    GetMany,
    Set,
    Confirm,
    Purge,
    Remove,
    Load,
    /// Queries about the servers themselves.
    Query,
    History,
    Replicas,
    Lease,
    Replace,
    Source,
    Rate,
}

impl CommandKind {
    pub(crate) const ALL: [CommandKind; 14] = [
        CommandKind::Get,
        CommandKind::GetMany,
        CommandKind::Set,
        CommandKind::Confirm,
        CommandKind::Purge,
        CommandKind::Remove,
        CommandKind::Load,
        CommandKind::Query,
        CommandKind::History,
        CommandKind::Replicas,
        CommandKind::Lease,
        CommandKind::Replace,
        CommandKind::Source,
        CommandKind::Rate,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            CommandKind::Get => "get",
            CommandKind::GetMany => "mget",
            CommandKind::Set => "set",
            CommandKind::Confirm => "sync",
            CommandKind::Purge => "purge",
            CommandKind::Remove => "remove",
            CommandKind::Load => "load",
            CommandKind::Query => "info",
            CommandKind::History => "purge-log",
            CommandKind::Replicas => "replicas",
            CommandKind::Lease => "lease",
            CommandKind::Replace => "replace",
            CommandKind::Source => "event-source",
            CommandKind::Rate => "rate",
        }
    }
}

/// A command that takes longer is slow: Redis' own default for its SLOWLOG.
const SLOW_AFTER: Duration = Duration::from_millis(10);

/// Counters by `CommandKind as usize`.
#[derive(Debug, Default)]
pub(crate) struct CommandCounters {
    counts: [CommandCounts; CommandKind::ALL.len()],
    /// The server's last report.
    memory: Mutex<Option<ServerMemory>>,
}

#[derive(Debug, Default)]
struct CommandCounts {
    sent: AtomicU64,
    timed_out: AtomicU64,
    redirected: AtomicU64,
    failed: AtomicU64,
    slow: AtomicU64,
    micros: AtomicU64,
}

impl CommandCounters {
    pub(super) fn count(&self, command: CommandKind, took: Duration, failure: Option<&RedisError>) {
        let counts = &self.counts[command as usize];
        counts.sent.fetch_add(1, Ordering::Relaxed);
        counts.micros.fetch_add(saturating_micros(took), Ordering::Relaxed);
        if took > SLOW_AFTER {
            counts.slow.fetch_add(1, Ordering::Relaxed);
        }
        match failure {
            None => {}
            Some(RedisError::TimedOut) => _ = counts.timed_out.fetch_add(1, Ordering::Relaxed),
            Some(RedisError::Redirected(_)) => _ = counts.redirected.fetch_add(1, Ordering::Relaxed),
            Some(_) => _ = counts.failed.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub(super) fn set_memory(&self, memory: Option<ServerMemory>) {
        *self.memory.lock() = memory;
    }

    pub(crate) fn memory(&self) -> Option<ServerMemory> {
        *self.memory.lock()
    }

    /// Adds up the counters of several servers.
    pub(crate) fn sum<'a>(all: impl Iterator<Item = &'a CommandCounters> + Clone) -> Vec<CommandStats> {
        let figure = |command: CommandKind| {
            let counts = all.clone().map(|figures| &figures.counts[command as usize]);
            let sum = |of: fn(&CommandCounts) -> &AtomicU64| -> u64 {
                counts.clone().map(|counts| of(counts).load(Ordering::Relaxed)).sum()
            };
            CommandStats {
                command: command.as_str(),
                sent: sum(|counts| &counts.sent),
                timed_out: sum(|counts| &counts.timed_out),
                redirected: sum(|counts| &counts.redirected),
                failed: sum(|counts| &counts.failed),
                slow: sum(|counts| &counts.slow),
                seconds: sum(|counts| &counts.micros) as f64 / 1e6,
            }
        };
        CommandKind::ALL.map(figure).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_of_more_than_ten_milliseconds_is_slow() {
        let counters = CommandCounters::default();
        for micros in [1, 10_000, 10_001, 2_000_000] {
            counters.count(CommandKind::Get, Duration::from_micros(micros), None);
        }
        counters.count(CommandKind::Set, Duration::from_millis(50), Some(&RedisError::TimedOut));
        let figures = CommandCounters::sum([&counters].into_iter());
        let figure = |command: &str| figures.iter().find(|figure| figure.command == command).unwrap();
        assert_eq!((figure("get").sent, figure("get").slow, figure("set").slow), (4, 2, 1));
    }
}
