//! The last purges, for people: of this replica alone, in memory. Nothing depends on it.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::purge::{AuditFilter, AuditRecord};

/// Number of purges that are kept.
pub(super) const MAX_AUDIT_RECORDS: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct AuditLog(Mutex<VecDeque<AuditRecord>>);

/// The last purges, the latest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditPage {
    pub(crate) records: Vec<AuditRecord>,
    /// Whether those of all replicas are among them.
    pub(crate) of_all_replicas: bool,
}

impl AuditLog {
    pub(super) fn add(&self, record: AuditRecord) {
        let mut records = self.0.lock();
        records.truncate(MAX_AUDIT_RECORDS - 1);
        records.push_front(record);
    }

    pub(super) fn read(&self, asked: &AuditFilter) -> Vec<AuditRecord> {
        let records = self.0.lock();
        records.iter().filter(|record| record.matches(asked)).take(asked.limit).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purge::{Purge, PurgeVersion, Target};

    #[test]
    fn the_latest_come_first_and_the_oldest_are_forgotten() {
        let history = AuditLog::default();
        for position in 1..=MAX_AUDIT_RECORDS as u64 + 5 {
            let record = AuditRecord::from_purge(&Purge::hard(vec![Target::Everything]), "one").unwrap();
            history.add(AuditRecord { position: PurgeVersion(position), ..record });
        }
        let positions = |limit, since| -> Vec<u64> {
            let asked = AuditFilter { limit, since: PurgeVersion(since), tag: None };
            history.read(&asked).iter().map(|record| record.position.0).collect()
        };
        assert_eq!(positions(3, 0), [1005, 1004, 1003]);
        assert_eq!(positions(10, 1003), [1005, 1004]);
        assert_eq!((positions(9999, 0).len(), positions(9999, 0).last()), (MAX_AUDIT_RECORDS, Some(&6)));
    }
}
