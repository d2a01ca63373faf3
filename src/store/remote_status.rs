//! The state of the servers that replicas share a store through, for health checks and metrics.

use std::fmt;
use std::time::Duration;

use super::encoding::CompressionStats;
use crate::purge::PurgeVersion;

/// The state of all servers of a shared store.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteStatus {
    /// The breaker of the server that has the purge index.
    pub(crate) breaker: BreakerState,
    /// Why it is unavailable, or what is wrong although it is available.
    pub(crate) failure: Option<FailureReason>,
    /// Why wake-ups of other replicas are not received. Purges are noticed by polling meanwhile.
    pub(crate) wake_up_failure: Option<FailureReason>,
    /// Number of times that a breaker has opened.
    pub(crate) times_opened: u64,
    /// Connections made since the start; all but the first are reconnections.
    pub connections: u64,
    pub(crate) in_flight: usize,
    /// Number of purge targets that Redis has not accepted yet.
    pub pending_purges: usize,
    /// Time since the last confirmation of the view; `None` before the first one of the present epoch.
    pub(crate) synced_ago: Option<Duration>,
    /// The largest `synced_ago` at which hits are served.
    pub max_lag: Duration,
    /// Number of values in Redis that were forged, damaged, or encrypted with other keys.
    pub(crate) rejected_values: u64,
    /// `None` if values are not compressed.
    pub(crate) compression: Option<CompressionStats>,
    /// Number of new epochs of the purge index.
    pub index_resets: u64,
    /// Memory of the server that is nearest to its limit; `None` while unknown.
    pub(crate) memory: Option<ServerMemory>,
    /// Counters by kind of command.
    pub commands: Vec<CommandStats>,
    pub(crate) leases: LeaseStats,
    /// The masters of a cluster; empty for a single server.
    pub(crate) nodes: Vec<NodeStatus>,
}

/// The code of a [`FailureReason`] while the first attempt to connect is under way.
pub(crate) const CONNECTING: &str = "connecting";

/// Why something about Redis does not work, in words for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailureReason {
    /// Stable, for metrics and alerts: `refused`, `unknown-ca`, …
    pub code: &'static str,
    /// A sentence that says what was found and what to do.
    pub message: String,
}

impl FailureReason {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn map_message(self, map: impl FnOnce(String) -> String) -> Self {
        Self { message: map(self.message), ..self }
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Counters of fetch leases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaseStats {
    pub taken: u64,
    /// Waits for another replica's fetch.
    pub waited: u64,
    /// Waits after which this replica fetched for itself.
    pub fell_back: u64,
    pub lost: u64,
}

/// Memory of a server, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerMemory {
    pub used: u64,
    /// `maxmemory`; `None` if it is unlimited.
    pub limit: Option<u64>,
    /// Keys of all databases, the purge index and other applications' keys included.
    pub keys: Option<u64>,
}

impl ServerMemory {
    /// The fraction of the limit that is in use; 0 without a limit.
    pub(crate) fn used_fraction(&self) -> f64 {
        self.limit.map_or(0.0, |limit| self.used as f64 / limit as f64)
    }
}

/// One master of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeStatus {
    /// `host:port`
    pub name: String,
    /// Whether it has the purge index.
    pub has_index: bool,
    pub breaker: BreakerState,
    pub failure: Option<FailureReason>,
    pub in_flight: usize,
}

/// One of the larders that share a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// The value of `store.replica`.
    pub name: String,
    /// It knows all purges up to this version.
    pub position: PurgeVersion,
    /// Time since its last heartbeat.
    pub(crate) last_seen_ago: Duration,
}

/// The state of the circuit breaker in front of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BreakerState {
    /// The server answers; commands are sent.
    Closed,
    /// A probe is under way.
    HalfOpen,
    /// The server does not answer; commands fail at once.
    Open,
}

/// Counters of one kind of command.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CommandStats {
    /// The kind of command.
    pub command: &'static str,
    /// Commands that were sent.
    pub sent: u64,
    pub(crate) timed_out: u64,
    /// Answered by a node of a cluster that names another.
    pub redirected: u64,
    /// Failures other than these.
    pub failed: u64,
    /// Those that took longer than 10 ms, whatever came of them.
    pub(crate) slow: u64,
    /// Total time waited for replies.
    pub seconds: f64,
}

impl RemoteStatus {
    /// Whether the server that has the purge index does not answer, so that nothing is shared.
    pub fn is_unavailable(&self) -> bool {
        self.breaker != BreakerState::Closed
    }

    /// Whether any server does not answer, or answers in a way that larder can't fully use.
    pub(crate) fn is_degraded(&self) -> bool {
        self.is_unavailable()
            || self.failure.is_some()
            || self.nodes.iter().any(|node| node.breaker != BreakerState::Closed)
    }
}

impl BreakerState {
    pub(crate) const ALL: [BreakerState; 3] =
        [BreakerState::Closed, BreakerState::HalfOpen, BreakerState::Open];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::HalfOpen => "half-open",
            BreakerState::Open => "open",
        }
    }
}
