//! The events of a run as the driver saw them, in microseconds of its one clock.

use std::fmt;

/// When an operation began and when its end was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub inv: u64,
    pub ret: u64,
}

impl Span {
    pub fn contains(&self, other: &Span) -> bool {
        self.inv <= other.inv && other.ret <= self.ret
    }

    pub fn overlaps(&self, other: &Span) -> bool {
        self.inv <= other.ret && other.inv <= self.ret
    }
}

#[derive(Clone, Debug)]
pub struct Read {
    pub replica: usize,
    pub key: usize,
    pub variant: usize,
    /// The caller, on a key that differs by caller.
    pub identity: Option<usize>,
    pub span: Span,
    pub seen: Seen,
    pub hit: bool,
}

#[derive(Clone, Debug)]
pub enum Seen {
    Content(Content),
    /// Not a whole answer with a 200.
    Failed(String),
}

/// The version that the upstream wrote into an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub key: usize,
    pub version: u64,
    pub variant: usize,
    pub owner: Option<usize>,
    /// When the upstream looked the version up.
    pub origin_at: u64,
    /// The padding is the one that the upstream wrote.
    pub intact: bool,
}

#[derive(Clone, Debug)]
pub struct Write {
    pub id: u64,
    pub replica: usize,
    pub key: usize,
    pub span: Span,
    pub end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Answered by the upstream, and the purge is recorded.
    Acknowledged,
    /// Answered by the upstream; the answer does not say that the purge is recorded.
    NotRecorded,
    /// Refused by larder before it was forwarded.
    Refused,
    /// The client left, or heard of an error: it may have happened.
    Unknown(String),
}

#[derive(Clone, Debug)]
pub struct Purge {
    pub replica: usize,
    /// `None`: every key.
    pub key: Option<usize>,
    pub span: Span,
    pub acknowledged: bool,
}

/// A version came to be at the upstream.
#[derive(Clone, Debug)]
pub struct Apply {
    pub key: usize,
    pub version: u64,
    pub at: u64,
    pub write: u64,
}

/// A GET that the upstream was asked.
#[derive(Clone, Copy, Debug)]
pub struct Fetch {
    pub key: usize,
    pub variant: usize,
    pub owner: Option<usize>,
    pub at: u64,
}

/// A fault, while it lasted.
#[derive(Clone, Debug)]
pub struct Fault {
    pub what: String,
    pub span: Span,
    /// During which of these things nothing is promised about answers.
    pub harms: Harm,
    /// While nothing of this replica's, or of any, could reach Redis.
    pub away: Option<(Option<usize>, Span)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Everything is as well as before.
    Nothing,
    /// Redis is slow or can't be reached, and has what it had.
    Store,
    /// Redis forgets, and with it what writes are under way.
    Index,
    Upstream,
    /// It stands still.
    Frozen(usize),
    /// It ends in good order.
    Ended(usize),
    /// It ends in the middle of everything.
    Killed(usize),
}

/// A wait of this many microseconds without a fault is the machine's, and may exceed the Redis deadline too.
pub const STALLED: u64 = 40_000;

#[derive(Clone, Debug, Default)]
pub struct History {
    pub reads: Vec<Read>,
    pub writes: Vec<Write>,
    pub purges: Vec<Purge>,
    pub applies: Vec<Apply>,
    pub faults: Vec<Fault>,
    pub fetches: Vec<Fetch>,
    /// Reads whose client may have left before the answer came.
    pub abandoned: Vec<(usize, Span)>,
    /// Since when nothing has been wrong or written any more.
    pub well_since: Option<u64>,
    /// While the driver did not come to run for long: nor did others, with their deadlines.
    pub stalls: Vec<Span>,
}

impl History {
    pub fn merge(&mut self, other: History) {
        self.reads.extend(other.reads);
        self.writes.extend(other.writes);
        self.purges.extend(other.purges);
        self.applies.extend(other.applies);
        self.faults.extend(other.faults);
        self.abandoned.extend(other.abandoned);
        self.stalls.extend(other.stalls);
    }

    /// While the machine had no time: seen by the driver itself, or by a read that took long.
    pub fn stalled(&self) -> impl Iterator<Item = Span> {
        let slow = self.reads.iter().map(|read| read.span).filter(|span| span.ret - span.inv > STALLED);
        self.stalls.iter().copied().chain(slow)
    }

    /// All that happened to `key` and around it, within `around`, in its order.
    pub fn excerpt(&self, key: usize, around: Span) -> String {
        let mut lines: Vec<(u64, String)> = Vec::new();
        let mut add = |span: Span, what: String| {
            if span.overlaps(&around) {
                lines.push((span.inv, format!("{:>10}..{:<10} {what}", span.inv, span.ret)));
            }
        };
        for read in self.reads.iter().filter(|read| read.key == key) {
            add(read.span, read.to_string());
        }
        for write in self.writes.iter().filter(|write| write.key == key) {
            add(write.span, write.to_string());
        }
        for purge in self.purges.iter().filter(|purge| purge.key.is_none_or(|named| named == key)) {
            add(purge.span, format!("purge {:?}, acknowledged: {}", purge.key, purge.acknowledged));
        }
        for Apply { version, at, write, .. } in self.applies.iter().filter(|apply| apply.key == key) {
            add(Span { inv: *at, ret: *at }, format!("upstream: write {write} makes version {version}"));
        }
        for fault in &self.faults {
            add(fault.span, format!("FAULT {}", fault.what));
        }
        lines.sort();
        lines.into_iter().map(|(_, line)| line + "\n").collect()
    }
}

impl fmt::Display for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Read { replica, key, variant, identity, seen, hit, .. } = self;
        write!(f, "read of key {key}/{variant} by {identity:?} on {replica}, hit: {hit}: ")?;
        match seen {
            Seen::Content(content) => write!(f, "{content:?}"),
            Seen::Failed(reason) => write!(f, "{reason}"),
        }
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write {} of key {} on {}: {:?}", self.id, self.key, self.replica, self.end)
    }
}
