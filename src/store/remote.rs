//! What is known of the servers that a store shares with other replicas: for health and metrics.

use std::time::Duration;

use crate::purge::Position;

#[derive(Clone, Debug, PartialEq)]
pub struct Remote {
    /// Of the server that has the purge index.
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
    /// What it has in use, of several the one that is nearest to its limit; `None` while none says.
    pub memory: Option<ServerMemory>,
    pub commands: Vec<CommandFigure>,
    pub leases: LeaseFigures,
    /// The masters of a cluster; empty where there is one server.
    pub nodes: Vec<RemoteNode>,
}

/// Fetches for all replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseFigures {
    pub taken: u64,
    /// How often another's fetch was waited for.
    pub waited: u64,
    /// How often this replica then fetched for itself.
    pub apart: u64,
    pub lost: u64,
}

/// In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerMemory {
    pub used: u64,
    /// `None`: as much as the machine has.
    pub limit: Option<u64>,
}

impl ServerMemory {
    /// The part of the limit that is in use.
    pub fn fullness(&self) -> f64 {
        self.limit.map_or(0.0, |limit| self.used as f64 / limit as f64)
    }
}

/// One master of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteNode {
    /// `host:port`
    pub name: String,
    /// It has the purge index.
    pub has_index: bool,
    pub breaker: Breaker,
    pub trouble: Option<String>,
    pub in_flight: usize,
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
    /// Nothing is shared: the server that has the purge index does not answer.
    pub fn is_away(&self) -> bool {
        self.breaker != Breaker::Closed
    }

    /// Something that should answer does not.
    pub fn is_degraded(&self) -> bool {
        self.is_away() || self.nodes.iter().any(|node| node.breaker != Breaker::Closed)
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
