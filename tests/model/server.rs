//! The purge index on one server: one atomic function for each script.

use crate::scope::{Fix, Scope};

/// Ids that purges name: the tag under the first rules, the tag under the second, the first rules, the second rules.
pub const TARGETS: usize = 4;

/// How long a mark lasts.
pub const MARK_LASTS: u8 = 1;

/// The target of the tag under these rules.
pub fn tag(rules: usize) -> usize {
    rules
}

/// The rules that a purge was rendered by: it reaches everything that is stored under the others.
pub fn rendered_by(rules: usize) -> usize {
    2 + rules
}

/// The last purge of one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    pub version: u8,
    /// Nothing fetched before this time is valid.
    pub until: u8,
    /// When it was purged, where responses may be stale for a while (`settle`).
    pub at: Option<u8>,
}

/// A write under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    pub rules: usize,
    pub until: u8,
    pub reaches_others: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    pub known: u8,
    pub epoch: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Index {
    pub epoch: u8,
    pub version: u8,
    pub records: [Record; TARGETS],
    /// By the replica that writes.
    pub marks: [Option<Mark>; 2],
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Server {
    pub is_primary: bool,
    pub index: Index,
    pub began: u8,
    pub roll: [Option<Member>; 2],
}

impl Mark {
    fn names(&self, target: usize) -> bool {
        tag(self.rules) == target || self.reaches_others && rendered_by(self.rules) == target
    }
}

impl Index {
    /// The latest date until which the target is in doubt.
    pub fn doubted_until(&self, target: usize) -> u8 {
        let marks = self.marks.iter().flatten();
        let marked = marks.filter(|mark| mark.names(target));
        marked.map(|mark| mark.until).max().unwrap_or_default().max(self.records[target].until)
    }
}

impl Server {
    /// A server whose index began at `now`. Earlier purges are not known.
    pub fn new(scope: &Scope, epoch: u8, now: u8) -> Self {
        let at = (scope.settle > 0 && scope.has(Fix::SettleOutlivesIndex)).then_some(now);
        let index =
            Index { epoch, records: [Record { at, ..Record::default() }; TARGETS], ..Index::default() };
        Self { is_primary: true, index, began: now, ..Self::default() }
    }

    /// Puts the caller on the roll: every script begins with it.
    pub fn register(&mut self, replica: usize, member: Member) {
        self.roll[replica] = Some(member);
    }

    /// Records a purge at `now` by targets that were rendered under `rules`, and ends the caller's mark. Returns its
    /// version.
    pub fn purge(&mut self, scope: &Scope, replica: usize, rules: usize, now: u8) -> u8 {
        self.index.version += 1;
        let version = self.index.version;
        self.index.marks[replica] = None;
        let at = (scope.settle > 0).then_some(now);
        let others = scope.has(Fix::OtherRulesPurged).then_some(rendered_by(rules));
        for target in [tag(rules)].into_iter().chain(others) {
            let record = &mut self.index.records[target];
            *record = Record { version, at, ..*record };
        }
        version
    }

    pub fn mark(&mut self, scope: &Scope, replica: usize, rules: usize, now: u8) -> u8 {
        self.index.version += 1;
        let (until, reaches_others) = (now + MARK_LASTS, scope.has(Fix::OtherRulesMarked));
        self.index.marks[replica] = Some(Mark { rules, until, reaches_others });
        until
    }

    /// The writer is gone: its mark stays until its date, and acts as a purge with that date.
    pub fn orphan_mark(&mut self, scope: &Scope, replica: usize) {
        let Some(mark) = self.index.marks[replica].take() else { return };
        if scope.has(Fix::MarksOutliveReplicas) {
            for target in (0..TARGETS).filter(|target| mark.names(*target)) {
                let record = &mut self.index.records[target];
                record.until = record.until.max(mark.until);
            }
        }
    }
}
