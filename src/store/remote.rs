//! What is known of the server that a store shares with other replicas: for health and metrics.

use std::time::Duration;

use crate::purge::Position;

#[derive(Clone, Debug, PartialEq)]
pub struct Remote {
    pub breaker: Breaker,
    /// Why it is not asked; `None` while it is.
    pub trouble: Option<String>,
    /// How often the breaker was opened.
    pub opened: u64,
    /// Connections made so far; all but the first are reconnections.
    pub connections: u64,
    pub in_flight: usize,
    /// Targets of purges that it has not taken.
    pub purges_waiting: usize,
    /// How long ago all purges were known here; `None`: not since the last new index.
    pub confirmed_ago: Option<Duration>,
    /// How long that may be for a hit.
    pub max_lag: Duration,
    /// How often the purge index turned out to be a new one.
    pub new_indexes: u64,
    /// What it has in use; `None` while it does not say.
    pub memory: Option<ServerMemory>,
    pub commands: Vec<CommandFigure>,
}

/// In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerMemory {
    pub used: u64,
    /// `None`: as much as the machine has.
    pub limit: Option<u64>,
}

/// One larder of those that share a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    pub name: String,
    /// It knows all that was purged up to here.
    pub position: Position,
    /// How long ago it said so.
    pub silent_for: Duration,
}

/// The circuit breaker in front of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breaker {
    /// It answers.
    Closed,
    /// A probe is under way.
    HalfOpen,
    /// It does not answer, and nothing waits for it.
    Open,
}

/// Of one kind of command.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CommandFigure {
    pub command: &'static str,
    pub sent: u64,
    pub timed_out: u64,
    /// For another reason than time.
    pub failed: u64,
    /// In all.
    pub seconds: f64,
}

impl Remote {
    pub fn is_away(&self) -> bool {
        self.breaker != Breaker::Closed
    }
}

impl Breaker {
    pub const ALL: [Breaker; 3] = [Breaker::Closed, Breaker::HalfOpen, Breaker::Open];

    pub fn as_str(self) -> &'static str {
        match self {
            Breaker::Closed => "closed",
            Breaker::HalfOpen => "half-open",
            Breaker::Open => "open",
        }
    }
}
