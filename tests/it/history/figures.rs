//! Figures of a run, which show that it exercised enough.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use super::record::{End, Harm, History, Seen, Span};

#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub runs: usize,
    pub reads: usize,
    hits: usize,
    failed: usize,
    abandoned: usize,
    /// Reads that no fault overlaps, and the hits among them.
    untroubled: usize,
    untroubled_hits: usize,
    /// Reads that began within 10 ms after a write of their key was acknowledged.
    pub soon_after: usize,
    /// Fetches by the upstream's count.
    fetches: usize,
    writes: BTreeMap<&'static str, usize>,
    purges: usize,
    purges_acknowledged: usize,
    faults: BTreeMap<String, usize>,
    /// How long after the last fault the last read was that was not a hit of the newest; the worst run, in ms.
    converged_after: u64,
}

impl Figures {
    pub fn from_history(history: &History) -> Self {
        let trouble = troubled(history);
        let mut figures = Self { runs: 1, reads: history.reads.len(), ..Self::default() };
        let soon = SoonAfter::from_history(history);
        for read in &history.reads {
            let untroubled = !trouble.iter().any(|span| span.overlaps(&read.span));
            figures.hits += usize::from(read.hit);
            figures.failed += usize::from(matches!(read.seen, Seen::Failed(_)));
            figures.untroubled += usize::from(untroubled);
            figures.untroubled_hits += usize::from(untroubled && read.hit);
            figures.soon_after += usize::from(soon.is(read.key, read.span.inv));
        }
        for write in &history.writes {
            let end = match &write.end {
                End::Acknowledged => "acknowledged",
                End::NotRecorded => "done, purge waits",
                End::Refused => "refused",
                End::Unknown(_) => "unknown",
            };
            *figures.writes.entry(end).or_default() += 1;
        }
        for fault in &history.faults {
            let kind = fault.what.split(' ').next().unwrap_or_default();
            *figures.faults.entry(kind.to_owned()).or_default() += 1;
        }
        figures.abandoned = history.abandoned.len();
        figures.fetches = history.fetches.len();
        figures.purges = history.purges.len();
        figures.purges_acknowledged = history.purges.iter().filter(|purge| purge.acknowledged).count();
        figures.converged_after = converged_after(history);
        figures
    }

    /// In percent, of the reads that no fault overlaps.
    pub fn hit_ratio(&self) -> f64 {
        100.0 * self.untroubled_hits as f64 / self.untroubled.max(1) as f64
    }
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.runs += other.runs;
        self.reads += other.reads;
        self.hits += other.hits;
        self.failed += other.failed;
        self.abandoned += other.abandoned;
        self.untroubled += other.untroubled;
        self.untroubled_hits += other.untroubled_hits;
        self.soon_after += other.soon_after;
        self.fetches += other.fetches;
        self.purges += other.purges;
        self.purges_acknowledged += other.purges_acknowledged;
        self.converged_after = self.converged_after.max(other.converged_after);
        for (end, count) in other.writes {
            *self.writes.entry(end).or_default() += count;
        }
        for (kind, count) in other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} reads: {} hits, {} failed, {} within 10 ms after an acknowledgement, {} more abandoned",
            self.reads, self.hits, self.failed, self.soon_after, self.abandoned
        )?;
        writeln!(
            f,
            "  outside the faults: {} reads, {:.1} % hits; {} fetches; the newest stored everywhere {} ms after the last \
             fault",
            self.untroubled,
            self.hit_ratio(),
            self.fetches,
            self.converged_after
        )?;
        let Self { purges, purges_acknowledged, .. } = self;
        writeln!(f, "  writes {:?}, {purges} purges ({purges_acknowledged} acknowledged)", self.writes)?;
        write!(f, "  faults {:?}", self.faults)
    }
}

/// While something was wrong.
fn troubled(history: &History) -> Vec<Span> {
    let faults = history.faults.iter().filter(|fault| fault.harms != Harm::Nothing);
    faults.map(|fault| fault.span).collect()
}

fn converged_after(history: &History) -> u64 {
    let Some(well_since) = history.well_since else { return 0 };
    let newest = |key| {
        history.applies.iter().filter(|apply| apply.key == key).map(|apply| apply.version).max().unwrap_or(0)
    };
    let late = history.reads.iter().filter(|read| read.span.inv > well_since);
    let is_wrong =
        |seen: &Seen, key| !matches!(seen, Seen::Content(content) if content.version == newest(key));
    let late = late.filter(|read| !read.hit || is_wrong(&read.seen, read.key));
    late.map(|read| (read.span.inv - well_since) / 1000).max().unwrap_or(0)
}

/// When writes were acknowledged, by key.
struct SoonAfter(Vec<(usize, u64)>);

impl SoonAfter {
    fn from_history(history: &History) -> Self {
        let writes = history.writes.iter().filter(|write| write.end == End::Acknowledged);
        let mut acknowledged: Vec<(usize, u64)> = writes.map(|write| (write.key, write.span.ret)).collect();
        acknowledged.sort_unstable();
        Self(acknowledged)
    }

    fn is(&self, key: usize, inv: u64) -> bool {
        let next = self.0.partition_point(|at| *at < (key, inv));
        next.checked_sub(1).is_some_and(|last| {
            let (named, ret) = self.0[last];
            named == key && inv - ret <= 10_000
        })
    }
}
