//! The last purges, for people: of this replica alone, in memory. Nothing depends on it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::purge::{Asked, Record};

/// So many purges are remembered.
pub const KEPT: usize = 1000;

#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<Record>>);

/// What was purged, the latest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purges {
    pub records: Vec<Record>,
    /// Whether those of all replicas are among them.
    pub of_all_replicas: bool,
}

impl History {
    pub fn add(&self, record: Record) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.truncate(KEPT - 1);
        records.push_front(record);
    }

    pub fn read(&self, asked: &Asked) -> Vec<Record> {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().filter(|record| record.is_asked_for(asked)).take(asked.limit).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purge::{Position, Purge, Target};

    #[test]
    fn the_latest_come_first_and_the_oldest_are_forgotten() {
        let history = History::default();
        for position in 1..=KEPT as u64 + 5 {
            let record = Record::of(&Purge::hard(vec![Target::Everything]), "one").unwrap();
            history.add(Record { position: Position(position), ..record });
        }
        let positions = |limit, since| -> Vec<u64> {
            let asked = Asked { limit, since: Position(since), tag: None };
            history.read(&asked).iter().map(|record| record.position.0).collect()
        };
        assert_eq!(positions(3, 0), [1005, 1004, 1003]);
        assert_eq!(positions(10, 1003), [1005, 1004]);
        assert_eq!((positions(9999, 0).len(), positions(9999, 0).last()), (KEPT, Some(&6)));
    }
}
