//! The record of a simulation, checked against the promises of docs/coherence.md.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::process::{millis, trace};
use crate::setting::Setting;
use crate::upstream::list_items;

/// A point of a history: its place in the order of all, and its time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub order: u64,
    pub at: u64,
}

/// A response: when its fetch began, when larder had its head, in milliseconds, and the versions of the items in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    pub begun: Point,
    pub received: u64,
    pub versions: Vec<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obtained {
    Hit,
    /// From the store, although other rules are in use.
    HitUnderOtherRules,
    Fetched,
}

/// A process: the place of the replica, and how often it was started.
pub type ProcessId = (usize, u64);

#[derive(Clone, Debug)]
pub struct Read {
    pub by: ProcessId,
    pub resource: usize,
    pub asked: Point,
    pub answered: Point,
    pub body: Body,
    pub obtained: Obtained,
    /// The client has brought the position of this write.
    pub after: Option<(usize, u64)>,
}

/// A version of an item, or a purge of resources, that must be seen from some point on.
#[derive(Clone, Debug)]
pub struct Duty {
    pub cause: &'static str,
    pub seen: Seen,
    /// The process that took it, and since when it holds there.
    pub there: Option<(ProcessId, Point)>,
    /// Since when it holds for everybody, up to `max_lag`.
    pub everywhere: Option<Point>,
    /// Since when it holds for everybody without a lag.
    pub applied: Option<Point>,
}

#[derive(Clone, Copy, Debug)]
pub enum Seen {
    Version {
        item: usize,
        version: u64,
    },
    /// Fetches from before this point are gone; `None`: of all resources.
    Purged {
        resource: Option<usize>,
        begun: Point,
    },
}

#[derive(Default)]
pub struct History {
    order: AtomicU64,
    pub reads: Mutex<Vec<Read>>,
    pub duties: Mutex<Vec<Duty>>,
    /// Faults and other events, for people.
    pub notes: Mutex<Vec<(Point, String)>>,
}

#[derive(Clone, Debug)]
pub struct Violation {
    pub read: Read,
    pub duty: Duty,
}

impl Body {
    pub fn encode(&self) -> String {
        let versions = self.versions.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        format!("{} {} {} {versions}", self.begun.order, self.begun.at, self.received)
    }

    pub fn decode(text: &[u8]) -> Self {
        let text = std::str::from_utf8(text).expect("a body");
        let mut numbers = text.split([' ', ',']).map(|number| number.parse().expect("a number"));
        let mut next = || numbers.next().expect("a number");
        let begun = Point { order: next(), at: next() };
        Self { begun, received: next(), versions: numbers.collect() }
    }
}

impl History {
    pub fn now(&self) -> Point {
        Point { order: self.order.fetch_add(1, Ordering::SeqCst) + 1, at: millis() }
    }

    pub fn note(&self, text: impl Into<String>) {
        let (text, now) = (text.into(), self.now());
        trace(now.order ^ text.len() as u64);
        self.notes.lock().push((now, text));
    }

    pub fn read(&self, read: Read) {
        trace(
            read.body.versions.iter().fold(read.asked.order, |sum, version| sum.wrapping_mul(31) ^ version),
        );
        self.reads.lock().push(read);
    }

    /// Adds what must be seen from now on, and returns its number.
    pub fn require(&self, duty: Duty) -> usize {
        let mut duties = self.duties.lock();
        duties.push(duty);
        duties.len() - 1
    }

    pub fn is_applied(&self, duty: usize) {
        let now = self.now();
        self.duties.lock()[duty].applied = Some(now);
    }

    /// The share of reads that were answered from the store.
    pub fn hits(&self) -> (u64, u64) {
        let reads = self.reads.lock();
        let hits = reads.iter().filter(|read| read.obtained != Obtained::Fetched).count();
        (hits as u64, reads.len() as u64)
    }

    /// The first read that is older than it may be.
    pub fn check(&self, setting: &Setting) -> Option<Violation> {
        let (reads, duties) = (self.reads.lock(), self.duties.lock());
        let hits = reads.iter().filter(|read| read.obtained != Obtained::Fetched);
        let seen = if setting.is_monotonic() { seen_versions(&reads) } else { Vec::new() };
        hits.into_iter().find_map(|read| {
            let missed = duties
                .iter()
                .chain(&seen)
                .find(|duty| duty.applies(read, setting) && !duty.seen.is_seen_by(read))
                .cloned();
            let is_foreign = read.obtained == Obtained::HitUnderOtherRules;
            let missed =
                missed.or_else(|| is_foreign.then(|| Duty::broken_by(read, "other rules are in use")));
            let missed = missed.or_else(|| setting.outlived(read));
            missed.map(|duty| Violation { read: read.clone(), duty })
        })
    }
}

/// Versions that were seen by a read: guarded and strict, nobody sees older ones after that.
fn seen_versions(reads: &[Read]) -> Vec<Duty> {
    let versions = reads.iter().flat_map(|read| {
        list_items(read.resource).zip(&read.body.versions).map(|(item, version)| Duty {
            cause: "another read has seen it",
            seen: Seen::Version { item, version: *version },
            there: None,
            everywhere: Some(read.answered),
            applied: None,
        })
    });
    versions.collect()
}

impl Duty {
    /// A promise about the response itself that the read breaks.
    pub fn broken_by(read: &Read, cause: &'static str) -> Self {
        let seen = Seen::Purged { resource: None, begun: read.body.begun };
        Self { cause, seen, there: None, everywhere: None, applied: None }
    }

    fn applies(&self, read: &Read, setting: &Setting) -> bool {
        let before = |point: Point| point < read.asked;
        let brought = |(item, version): (usize, u64)| matches!(self.seen, Seen::Version { item: its, version: that } if its == item && that <= version);
        self.applied.is_some_and(before)
            || self.there.is_some_and(|(by, since)| by == read.by && before(since))
            || self.everywhere.is_some_and(|since| before(since) && since.at + setting.lag() <= read.asked.at)
            || read.after.is_some_and(brought)
    }
}

impl Seen {
    fn is_seen_by(self, read: &Read) -> bool {
        match self {
            Seen::Version { item, version } => {
                let mut parts = list_items(read.resource).zip(&read.body.versions);
                parts.all(|(its, seen)| its != item || *seen >= version)
            }
            Seen::Purged { resource, begun } => {
                resource.is_some_and(|resource| resource != read.resource) || read.body.begun > begun
            }
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { read, duty } = self;
        writeln!(f, "{} ({:?}),", duty.cause, duty.seen)?;
        writeln!(
            f,
            "  taken by {:?}, for all {:?}, applied {:?},",
            duty.there, duty.everywhere, duty.applied
        )?;
        write!(f, "  but process {:?} asked at {:?} got {:?} of ", read.by, read.asked, read.body)?;
        write!(f, "resource {} at {:?}", read.resource, read.answered)
    }
}
