//! The purge index: target → position of its last purge, bounded in memory.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::{Change, Hardness, Incarnation, MarkId, Position, Purge, Stamp, TargetId, Validity};
use crate::clock::Timestamp;

/// How much an index may hold.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Exact records; older ones are folded into buckets by hash, at the price of an unneeded miss now and then.
    pub records: usize,
    /// No stored response lives longer than this, so a record older than this can be forgotten.
    pub longest_lifetime: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { records: 100_000, longest_lifetime: Duration::from_secs(400 * 24 * 3600) }
    }
}

/// Positions of the last purges of one target.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    hard: Position,
    soft: Position,
}

impl Record {
    fn latest(self) -> Position {
        self.hard.max(self.soft)
    }
}

/// One for each value of a target's first two bytes.
const BUCKETS: usize = 1 << 16;

/// Old records leave in small steps with each purge, so that no purge pays for many.
const STEP: usize = 4;

#[derive(Debug)]
pub struct Index {
    incarnation: Incarnation,
    high_water: Position,
    records: HashMap<TargetId, Record>,
    /// The records again, by the position of their last purge.
    order: BTreeSet<(Position, TargetId)>,
    /// The highest position that was folded into each bucket; empty until something is folded.
    buckets: Vec<Position>,
    /// Targets of purges that were asked for and have no position yet, each with how many purges name it.
    unsettled: HashMap<TargetId, u32>,
    /// Marks of writes under way, each with its date, which lies beyond the high-water mark.
    marks: HashMap<TargetId, HashMap<MarkId, Position>>,
    bounds: Bounds,
}

impl Index {
    pub fn new(incarnation: Incarnation, now: Timestamp, bounds: Bounds) -> Self {
        Self {
            incarnation,
            high_water: Position(now.as_micros()),
            records: HashMap::new(),
            order: BTreeSet::new(),
            buckets: Vec::new(),
            unsettled: HashMap::new(),
            marks: HashMap::new(),
            bounds,
        }
    }

    /// A copy, of which nothing is known yet, of an index that is kept elsewhere.
    pub fn unknown(bounds: Bounds) -> Self {
        Self::new(Incarnation::NONE, Timestamp::default(), bounds)
    }

    /// Forgets everything, because the index that this is a copy of is another one now. What is unsettled here stays
    /// unsettled.
    pub fn begin_again(&mut self, incarnation: Incarnation) {
        let unsettled = std::mem::take(&mut self.unsettled);
        *self = Self { incarnation, unsettled, ..Self::unknown(self.bounds) };
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    pub fn high_water(&self) -> Position {
        self.high_water
    }

    /// Takes the next position, records the purge there (or, in doubt, that much later), and makes room.
    pub fn purge(&mut self, purge: &Purge, now: Timestamp) -> Position {
        self.confirm(now);
        let position = Position(now.as_micros().max(self.high_water.0 + 1));
        self.high_water = position;
        let dated = Timestamp::from_micros(position.0).plus(purge.in_doubt_for);
        for target in &purge.targets {
            self.record(target.id(), Position(dated.as_micros()), purge.hardness);
        }
        self.forget(now, STEP + purge.targets.len());
        position
    }

    /// Takes over what the index that this is a copy of says: everything up to `high_water` that was not known yet.
    /// What is in doubt lies beyond it and is told again each time.
    pub fn learn(&mut self, changes: &[Change], high_water: Position, now: Timestamp) {
        for change in changes {
            match *change {
                Change::Purged { id, position, hardness } => self.record(id, position, hardness),
                Change::Folded { bucket, position } => self.raise(bucket, position),
                Change::Marked { id, date, .. } if date <= high_water => {
                    self.record(id, date, Hardness::Hard)
                }
                // Those who have the latest word on marks say so by `know_marks`.
                Change::Marked { .. } => {}
            }
        }
        self.high_water = self.high_water.max(high_water);
        self.forget(now, STEP + changes.len());
    }

    /// Until [`Index::lift`], or until something is fetched after `date`, nothing that one of `targets` names is valid.
    pub fn mark(&mut self, targets: &[TargetId], mark: MarkId, date: Position) {
        for id in targets {
            self.marks.entry(*id).or_default().insert(mark, date);
        }
    }

    pub fn lift(&mut self, targets: &[TargetId], mark: MarkId) {
        for id in targets {
            if let Some(marks) = self.marks.get_mut(id) {
                marks.remove(&mark);
                if marks.is_empty() {
                    self.marks.remove(id);
                }
            }
        }
    }

    /// These are all the marks that there are beyond the high-water mark.
    pub fn know_marks(&mut self, changes: &[Change]) {
        self.marks.clear();
        for change in changes {
            if let Change::Marked { id, mark, date } = *change
                && date > self.high_water
            {
                self.mark(&[id], mark, date);
            }
        }
    }

    /// Until [`Index::settle`], nothing that one of `targets` names is valid.
    pub fn unsettle(&mut self, targets: &[TargetId]) {
        for id in targets {
            *self.unsettled.entry(*id).or_default() += 1;
        }
    }

    pub fn settle(&mut self, targets: &[TargetId]) {
        for id in targets {
            if let Some(count) = self.unsettled.get_mut(id) {
                *count -= 1;
                if *count == 0 {
                    self.unsettled.remove(id);
                }
            }
        }
    }

    /// Moves the high-water mark over the dates that have passed: what is fetched from now on is out of doubt.
    pub fn confirm(&mut self, now: Timestamp) {
        if let Some(date) = self.last_date_passed(now) {
            self.high_water = date;
        }
    }

    /// Whether [`Index::confirm`] would change anything.
    pub fn last_date_passed(&self, now: Timestamp) -> Option<Position> {
        let now = Position(now.as_micros());
        let marked = self.marks.values().flat_map(HashMap::values).copied().filter(|date| *date <= now).max();
        let in_doubt = self.order.last().is_some_and(|(newest, _)| *newest > self.high_water);
        let until = (now, TargetId([u8::MAX; TargetId::LENGTH]));
        let dated = in_doubt.then(|| self.order.range(..=until).next_back().map(|(date, _)| *date)).flatten();
        marked.max(dated).filter(|date| *date > self.high_water)
    }

    /// What a fetch that begins now must carry.
    pub fn stamp(&self) -> Stamp {
        Stamp { incarnation: self.incarnation, as_of: self.high_water }
    }

    /// Was one of `targets` purged after `stamp`?
    pub fn judge(&self, stamp: &Stamp, targets: &[TargetId]) -> Validity {
        if stamp.incarnation != self.incarnation || stamp.incarnation == Incarnation::NONE {
            return Validity::Dead;
        }
        if !self.unsettled.is_empty() && targets.iter().any(|id| self.unsettled.contains_key(id)) {
            return Validity::Dead;
        }
        let is_marked =
            |id| self.marks.get(id).is_some_and(|marks| marks.values().any(|date| *date > stamp.as_of));
        if !self.marks.is_empty() && targets.iter().any(is_marked) {
            return Validity::Dead;
        }
        let mut validity = Validity::Valid;
        for id in targets {
            let record = self.records.get(id).copied().unwrap_or_default();
            if record.hard > stamp.as_of || self.folded(id) > stamp.as_of {
                return Validity::Dead;
            }
            if record.soft > stamp.as_of {
                validity = Validity::Stale;
            }
        }
        validity
    }

    /// The last purge after `stamp` that names one of `targets`, as far as it is on record.
    pub fn last_purge(&self, stamp: &Stamp, targets: &[TargetId]) -> Option<(TargetId, Position)> {
        let last = |id: &TargetId| {
            let record = self.records.get(id).copied().unwrap_or_default();
            let marked = self.marks.get(id).and_then(|marks| marks.values().max().copied());
            record.latest().max(self.folded(id)).max(marked.unwrap_or_default())
        };
        let purged = targets.iter().map(|id| (*id, last(id))).filter(|(_, at)| *at > stamp.as_of);
        purged.max_by_key(|(_, at)| *at)
    }

    /// Whether nothing at all was purged after `stamp`, nor is in doubt then.
    pub fn is_unpurged(&self, stamp: &Stamp) -> bool {
        let newest = self.order.last().map_or(self.high_water, |(position, _)| *position);
        stamp.incarnation == self.incarnation
            && stamp.incarnation != Incarnation::NONE
            && newest.max(self.high_water) <= stamp.as_of
            && self.unsettled.is_empty()
            && self.marks.is_empty()
    }

    fn record(&mut self, id: TargetId, position: Position, hardness: Hardness) {
        let record = self.records.entry(id).or_default();
        let before = record.latest();
        match hardness {
            Hardness::Hard => record.hard = record.hard.max(position),
            Hardness::Soft => record.soft = record.soft.max(position),
        }
        let after = record.latest();
        if after != before {
            self.order.remove(&(before, id));
            self.order.insert((after, id));
        }
    }

    /// Drops records that outlived every response, and folds the oldest while there are too many. A record that
    /// is still in doubt is the newest there is; it stays.
    fn forget(&mut self, now: Timestamp, at_most: usize) {
        let dead_before = Position(now.minus(self.bounds.longest_lifetime).as_micros());
        for _ in 0..at_most {
            let Some(&(position, id)) = self.order.first() else { return };
            let outlived = position < dead_before;
            let surplus = self.records.len() > self.bounds.records && position <= self.high_water;
            if !outlived && !surplus {
                return;
            }
            if !outlived {
                // A soft purge is folded as a hard one: a fetch too many, never a stale answer.
                self.raise(bucket_of(&id), position);
            }
            self.order.remove(&(position, id));
            self.records.remove(&id);
        }
    }

    fn raise(&mut self, bucket: u16, position: Position) {
        if self.buckets.is_empty() {
            self.buckets = vec![Position::default(); BUCKETS];
        }
        let bucket = &mut self.buckets[usize::from(bucket)];
        *bucket = position.max(*bucket);
    }

    fn folded(&self, id: &TargetId) -> Position {
        self.buckets.get(usize::from(bucket_of(id))).copied().unwrap_or_default()
    }
}

fn bucket_of(id: &TargetId) -> u16 {
    u16::from_le_bytes([id.0[0], id.0[1]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purge::Target;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn index() -> Index {
        Index::new(Incarnation(1), NOW, Bounds::default())
    }

    fn tag(name: &str) -> Vec<Target> {
        vec![Target::tag(name)]
    }

    fn ids(name: &str) -> Vec<TargetId> {
        vec![Target::tag(name).id()]
    }

    #[test]
    fn nothing_is_purged_since_a_stamp_until_anything_is_purged_marked_or_in_doubt() {
        let mut index = index();
        let before = index.stamp();
        assert!(index.is_unpurged(&before));
        assert!(!index.is_unpurged(&Stamp { incarnation: Incarnation(2), ..before }));
        index.unsettle(&ids("a"));
        assert!(!index.is_unpurged(&before));
        index.settle(&ids("a"));
        index.mark(&ids("a"), MarkId([1; 8]), Position(before.as_of.0 + 5_000_000));
        assert!(!index.is_unpurged(&before));
        index.lift(&ids("a"), MarkId([1; 8]));
        assert!(index.is_unpurged(&before));
        index.purge(&Purge { in_doubt_for: SECOND, ..Purge::soft(tag("a")) }, NOW);
        assert!(!index.is_unpurged(&before));
        // In doubt until its date, also for what begins now.
        assert!(!index.is_unpurged(&index.stamp()));
        index.confirm(NOW.plus(SECOND).plus(SECOND));
        assert!(index.is_unpurged(&index.stamp()));
    }

    #[test]
    fn a_fetch_from_before_a_purge_is_dead_and_one_from_after_it_is_valid() {
        let mut index = index();
        let before = index.stamp();
        index.purge(&Purge::hard(tag("a")), NOW);
        let after = index.stamp();
        assert_eq!(index.judge(&before, &ids("a")), Validity::Dead);
        assert_eq!(index.judge(&before, &ids("b")), Validity::Valid);
        assert_eq!(index.judge(&after, &ids("a")), Validity::Valid);
    }

    #[test]
    fn a_clock_that_steps_back_undoes_no_purge() {
        let mut index = index();
        let first = index.purge(&Purge::hard(tag("a")), NOW);
        let between = index.stamp();
        let second = index.purge(&Purge::hard(tag("a")), NOW.minus(3600 * SECOND));
        assert!(second > first);
        assert_eq!(index.judge(&between, &ids("a")), Validity::Dead);
    }

    #[test]
    fn two_purges_in_one_microsecond_have_two_positions() {
        let mut index = index();
        let first = index.purge(&Purge::hard(tag("a")), NOW);
        assert!(index.purge(&Purge::hard(tag("a")), NOW) > first);
    }

    #[test]
    fn a_soft_purge_makes_stale_and_a_hard_one_after_it_kills() {
        let mut index = index();
        let stamp = index.stamp();
        index.purge(&Purge::soft(tag("a")), NOW);
        assert_eq!(index.judge(&stamp, &ids("a")), Validity::Stale);
        index.purge(&Purge::hard(tag("a")), NOW);
        assert_eq!(index.judge(&stamp, &ids("a")), Validity::Dead);
    }

    #[test]
    fn in_doubt_nothing_fetched_before_the_date_is_valid() {
        let mut index = index();
        let purge = Purge { in_doubt_for: 30 * SECOND, ..Purge::hard(tag("a")) };
        index.purge(&purge, NOW);
        let in_doubt = index.stamp();
        assert_eq!(index.judge(&in_doubt, &ids("a")), Validity::Dead);
        index.confirm(NOW.plus(29 * SECOND));
        assert_eq!(index.judge(&index.stamp(), &ids("a")), Validity::Dead);
        index.confirm(NOW.plus(31 * SECOND));
        assert_eq!(index.judge(&index.stamp(), &ids("a")), Validity::Valid);
        assert_eq!(index.judge(&in_doubt, &ids("a")), Validity::Dead);
    }

    #[test]
    fn a_purge_while_in_doubt_does_not_end_the_doubt() {
        let mut index = index();
        index.purge(&Purge { in_doubt_for: 30 * SECOND, ..Purge::hard(tag("a")) }, NOW);
        index.purge(&Purge::hard(tag("a")), NOW.plus(SECOND));
        assert_eq!(index.judge(&index.stamp(), &ids("a")), Validity::Dead);
    }

    #[test]
    fn a_mark_puts_in_doubt_until_it_is_lifted_or_its_date_has_passed() {
        let mut index = index();
        let before = index.stamp();
        let (first, second) = (MarkId([1; 8]), MarkId([2; 8]));
        let date = Position(NOW.plus(30 * SECOND).as_micros());
        index.mark(&ids("a"), first, date);
        index.mark(&ids("a"), second, date);
        assert_eq!(index.judge(&index.stamp(), &ids("a")), Validity::Dead);
        assert_eq!(index.judge(&index.stamp(), &ids("b")), Validity::Valid);
        index.lift(&ids("a"), first);
        assert_eq!(index.judge(&before, &ids("a")), Validity::Dead, "the other write goes on");
        index.lift(&ids("a"), second);
        assert_eq!(index.judge(&before, &ids("a")), Validity::Valid, "neither changed anything");
        index.mark(&ids("a"), first, date);
        index.confirm(NOW.plus(31 * SECOND));
        assert_eq!(index.judge(&before, &ids("a")), Validity::Dead);
        assert_eq!(index.judge(&index.stamp(), &ids("a")), Validity::Valid);
    }

    #[test]
    fn another_incarnation_kills_everything() {
        let stamp = index().stamp();
        let other = Index::new(Incarnation(2), NOW, Bounds::default());
        assert_eq!(other.judge(&stamp, &ids("a")), Validity::Dead);
    }

    #[test]
    fn beyond_its_bound_it_forgets_no_purge_and_does_not_grow() {
        let bounds = Bounds { records: 100, ..Bounds::default() };
        let mut index = Index::new(Incarnation(1), NOW, bounds);
        let before = index.stamp();
        for n in 0..5_000 {
            index.purge(&Purge::hard(tag(&n.to_string())), NOW.plus(Duration::from_micros(n)));
        }
        assert!(index.len() <= 101, "{}", index.len());
        for n in 0..5_000 {
            assert_eq!(index.judge(&before, &ids(&n.to_string())), Validity::Dead, "{n}");
        }
        let untouched =
            (0..5_000).filter(|n| index.judge(&before, &ids(&format!("other{n}"))) == Validity::Valid);
        assert!(untouched.count() > 4_500, "folding cost too many");
        assert_eq!(index.judge(&index.stamp(), &ids("7")), Validity::Valid);
    }

    #[test]
    fn a_record_in_doubt_is_never_folded() {
        let bounds = Bounds { records: 10, ..Bounds::default() };
        let mut index = Index::new(Incarnation(1), NOW, bounds);
        index.purge(&Purge { in_doubt_for: 30 * SECOND, ..Purge::hard(tag("doubt")) }, NOW);
        for n in 0..200 {
            index.purge(&Purge::hard(tag(&n.to_string())), NOW.plus(SECOND));
        }
        assert_eq!(index.judge(&index.stamp(), &ids("doubt")), Validity::Dead);
        index.confirm(NOW.plus(31 * SECOND));
        assert_eq!(index.judge(&index.stamp(), &ids("doubt")), Validity::Valid);
    }

    #[test]
    fn records_that_outlived_every_response_are_dropped() {
        let bounds = Bounds { longest_lifetime: 60 * SECOND, ..Bounds::default() };
        let mut index = Index::new(Incarnation(1), NOW, bounds);
        for n in 0..50 {
            index.purge(&Purge::hard(tag(&n.to_string())), NOW);
        }
        for n in 0..20 {
            index.purge(&Purge::hard(tag("late")), NOW.plus(120 * SECOND + Duration::from_micros(n)));
        }
        assert_eq!(index.len(), 1);
    }
}
