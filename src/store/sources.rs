//! Shared state of the sources of change events: how far each was read, by which replica, when it was last heard of,
//! and which signed events were accepted.

use std::time::Duration;

/// A replica's report about a source, and its query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceUpdate {
    /// The name of the source.
    pub source: String,
    /// Identifies the replica for as long as it runs.
    pub reader: String,
    /// Events up to here have been purged. `None`: nothing new.
    pub progress: Option<StreamProgress>,
    /// The position is the one to go on from, also if it lies before the one that is known.
    pub(crate) rewinds: bool,
    pub(crate) contact: bool,
    /// An event came.
    pub event: bool,
    /// For how long it will read, if nobody else does. Zero: it does not, any more.
    pub(crate) reader_lease: Duration,
}

/// The known state of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceState {
    /// How far it was read; `None`: nobody has read it.
    pub progress: Option<StreamProgress>,
    /// It is this replica that reads.
    pub(crate) is_reader: bool,
    /// How long ago any replica heard of it.
    pub(crate) contact_ago: Option<Duration>,
    pub(crate) event_ago: Option<Duration>,
}

/// How far a stream was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamProgress {
    /// The last entry that was read.
    pub position: StreamPosition,
    /// How many entries were ever added up to the position, if the server counts them and nobody has lost count.
    pub added: Option<u64>,
}

/// A place in a Redis stream: the id of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamPosition {
    /// Milliseconds since 1970, unless whoever adds entries names them otherwise.
    pub millis: u64,
    /// The number of the entry within the millisecond.
    pub number: u64,
}

impl StreamPosition {
    /// Before all entries.
    pub const START: Self = Self { millis: 0, number: 0 };

    /// Parses `millis-number`.
    pub fn parse(text: &str) -> Option<Self> {
        let (millis, number) = text.split_once('-')?;
        Some(Self { millis: millis.parse().ok()?, number: number.parse().ok()? })
    }
}

impl std::fmt::Display for StreamPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.millis, self.number)
    }
}

/// The state for a replica that shares its store with no other.
impl SourceState {
    pub(crate) fn for_single_replica(word: &SourceUpdate) -> Self {
        Self { is_reader: !word.reader_lease.is_zero(), ..Self::default() }
    }
}
