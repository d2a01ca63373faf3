//! Surplus records of a view, as Bloom filters: bounded, never a false negative.
//!
//! A filter has one mark (a version, or the date of a doubt), the latest of all targets in it. Targets of about the same
//! time share a filter; when there are too many filters the two oldest become one. That costs needless misses only for
//! what was fetched before its mark.

use super::TargetId;

/// 512 KiB: 16 bits for each of its targets, which makes one false positive in some 2,000 look-ups.
const WORDS: usize = 1 << 16;
const TARGETS_PER_FILTER: usize = WORDS * 64 / 16;
const HASHES: u32 = 8;
const MAX_FILTERS: usize = 8;

/// The targets that were folded, the oldest filter first.
#[derive(Debug)]
pub(super) struct TargetFilters<Mark>(Vec<Filter<Mark>>);

#[derive(Debug)]
struct Filter<Mark> {
    bits: Box<[u64]>,
    targets: usize,
    mark: Mark,
}

impl<Mark> Default for TargetFilters<Mark> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<Mark: Copy + Ord> TargetFilters<Mark> {
    pub(super) fn insert(&mut self, id: &TargetId, mark: Mark) {
        if self.0.last().is_none_or(|filter| filter.targets >= TARGETS_PER_FILTER) {
            self.make_room();
            let bits = vec![0; WORDS].into_boxed_slice();
            self.0.push(Filter { bits, targets: 0, mark });
        }
        let Some(filter) = self.0.last_mut() else { return };
        for (word, bit) in places(id) {
            filter.bits[word] |= bit;
        }
        filter.targets += 1;
        filter.mark = filter.mark.max(mark);
    }

    /// The latest mark beyond `floor` that the target may have.
    pub(super) fn latest_after(&self, id: &TargetId, floor: Mark) -> Option<Mark> {
        let has = |filter: &&Filter<Mark>| places(id).all(|(word, bit)| filter.bits[word] & bit != 0);
        self.0.iter().filter(|filter| filter.mark > floor).filter(has).map(|filter| filter.mark).max()
    }

    fn make_room(&mut self) {
        if self.0.len() < MAX_FILTERS {
            return;
        }
        let oldest = self.0.remove(0);
        let next = &mut self.0[0];
        next.bits.iter_mut().zip(&oldest.bits).for_each(|(word, other)| *word |= other);
        next.mark = next.mark.max(oldest.mark);
    }
}

/// Double hashing: the id is a hash itself.
fn places(id: &TargetId) -> impl Iterator<Item = (usize, u64)> {
    let hash = u64::from_le_bytes(id.0);
    let (first, step) = (hash as u32, (hash >> 32) as u32 | 1);
    (0..HASHES).map(move |number| {
        let bit = first.wrapping_add(number.wrapping_mul(step)) as usize % (WORDS * 64);
        (bit / 64, 1 << (bit % 64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::purge::Target;

    fn id(number: usize) -> TargetId {
        Target::tag(number.to_string()).id()
    }

    #[test]
    fn a_target_is_found_however_many_follow_and_others_hardly_ever() {
        let mut filters = TargetFilters::default();
        let until = |number: usize| Timestamp::from_secs(1_000 + number as u64);
        let count = TARGETS_PER_FILTER * (MAX_FILTERS + 2);
        for number in 0..count {
            filters.insert(&id(number), until(number / TARGETS_PER_FILTER));
        }
        assert_eq!(filters.0.len(), MAX_FILTERS);
        for number in (0..count).step_by(97) {
            let found = filters.latest_after(&id(number), Timestamp::default());
            assert!(found >= Some(until(number / TARGETS_PER_FILTER)), "{number}");
        }
        let recent = until(4);
        let is_found = |number: &usize| filters.latest_after(&id(*number), recent).is_some();
        let wrong = (count..count + 10_000).filter(is_found).count();
        assert!(wrong < 100, "{wrong} of 10,000");
    }
}
