//! What is counted of the commands sent to Redis.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::failure::Failure;
use crate::clock::micros;
use crate::store::remote::{CommandFigure, ServerMemory};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Get,
    /// Of several values.
    GetMany,
    Set,
    Confirm,
    Purge,
    Remove,
    Load,
    /// A question about the servers themselves.
    Look,
    History,
    Replicas,
    Lease,
    Replace,
    Source,
}

impl Command {
    pub const ALL: [Command; 13] = [
        Command::Get,
        Command::GetMany,
        Command::Set,
        Command::Confirm,
        Command::Purge,
        Command::Remove,
        Command::Load,
        Command::Look,
        Command::History,
        Command::Replicas,
        Command::Lease,
        Command::Replace,
        Command::Source,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Command::Get => "get",
            Command::GetMany => "mget",
            Command::Set => "set",
            Command::Confirm => "confirm",
            Command::Purge => "purge",
            Command::Remove => "remove",
            Command::Load => "load",
            Command::Look => "look",
            Command::History => "history",
            Command::Replicas => "replicas",
            Command::Lease => "lease",
            Command::Replace => "replace",
            Command::Source => "source",
        }
    }
}

/// By `Command as usize`.
#[derive(Debug, Default)]
pub struct CommandFigures {
    counts: [Counts; Command::ALL.len()],
    /// What the server told last.
    memory: Mutex<Option<ServerMemory>>,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    timed_out: AtomicU64,
    failed: AtomicU64,
    micros: AtomicU64,
}

impl CommandFigures {
    pub(super) fn count(&self, command: Command, took: Duration, failure: Option<&Failure>) {
        let counts = &self.counts[command as usize];
        counts.sent.fetch_add(1, Ordering::Relaxed);
        counts.micros.fetch_add(micros(took), Ordering::Relaxed);
        match failure {
            None => {}
            Some(Failure::TimedOut) => _ = counts.timed_out.fetch_add(1, Ordering::Relaxed),
            Some(_) => _ = counts.failed.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub(super) fn set_memory(&self, memory: Option<ServerMemory>) {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = memory;
    }

    pub fn memory(&self) -> Option<ServerMemory> {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of several servers together.
    pub fn all_of<'a>(all: impl Iterator<Item = &'a CommandFigures> + Clone) -> Vec<CommandFigure> {
        let figure = |command: Command| {
            let counts = all.clone().map(|figures| &figures.counts[command as usize]);
            let sum = |of: fn(&Counts) -> &AtomicU64| -> u64 {
                counts.clone().map(|counts| of(counts).load(Ordering::Relaxed)).sum()
            };
            CommandFigure {
                command: command.as_str(),
                sent: sum(|counts| &counts.sent),
                timed_out: sum(|counts| &counts.timed_out),
                failed: sum(|counts| &counts.failed),
                seconds: sum(|counts| &counts.micros) as f64 / 1e6,
            }
        };
        Command::ALL.map(figure).into()
    }
}
