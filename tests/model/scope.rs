//! How much a search covers, and which parts of the protocol are in force.

/// A part of the protocol. Without it a promise is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fix {
    /// V1: a response is valid only under the rules it was stored under.
    RulesInValidity,
    /// V1: a purge reaches the responses under all rules but those that rendered its targets.
    OtherRulesPurged,
    /// V1: so does a mark.
    OtherRulesMarked,
    /// V2: nothing counts as applied in an epoch that is younger than the longest trust.
    YoungEpochWaits,
    /// V2: the roll has a replica before its first confirmation counts.
    RollBeforeConfirmation,
    /// V4: a response is valid only if no purge came less than `settle` before its fetch.
    Settle,
    /// V4: nor did the index begin then.
    SettleOutlivesIndex,
    /// V5: a write is sent only under a mark that has not expired.
    FencedWrites,
    /// V5: the mark of a replica that died stays until its date.
    MarksOutliveReplicas,
    /// V7: a former primary refuses scripts (`min-replicas-to-write`).
    FencedPrimary,
    /// A purge that Redis did not take holds here, and is told before Redis is trusted again.
    Journal,
}

/// Bounds of a search.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope {
    pub writes: u8,
    /// The clock stops here.
    pub ticks: u8,
    pub reloads: u8,
    pub flushes: u8,
    pub crashes: u8,
    pub failovers: u8,
    pub outages: u8,
    /// `max_lag`; zero: strict.
    pub lag: u8,
    /// The upstream reads from copies that lag by so much at most.
    pub settle: u8,
    pub guarded: bool,
    pub without: Option<Fix>,
}

impl Scope {
    pub fn has(&self, fix: Fix) -> bool {
        self.without != Some(fix)
    }
}
