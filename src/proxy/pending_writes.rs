//! Writes that were forwarded and whose purge is not recorded yet.
//!
//! If one ends without a decision (a panic, the end of larder), it may have happened: its targets are purged as in doubt.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::metrics::PurgeSource;
use crate::policy::Route;
use crate::purge::Purge;
use crate::purging::Purger;

/// All pending writes of the process.
#[derive(Default)]
pub(super) struct PendingWrites {
    writes: Mutex<HashMap<u64, UnconfirmedWrite>>,
    next: AtomicU64,
}

/// The purge of a write whose end nobody saw.
struct UnconfirmedWrite {
    purge: Purge,
    route: Option<Arc<Route>>,
}

/// The registration of one write.
#[derive(Clone)]
pub(super) struct PendingWrite {
    all: Arc<PendingWrites>,
    number: u64,
}

impl PendingWrites {
    pub(super) fn register(self: &Arc<Self>) -> PendingWrite {
        PendingWrite { all: self.clone(), number: self.next.fetch_add(1, Ordering::Relaxed) }
    }

    pub(super) fn next_number(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Whether a write with a number below `mark` is pending.
    pub(super) fn is_any_before(&self, mark: u64) -> bool {
        self.writes().keys().any(|number| *number < mark)
    }

    /// Purges the targets of all writes that are pending; larder ends.
    pub(super) async fn purge_all(&self, purger: &Purger) {
        let pending: Vec<_> = self.writes().drain().map(|(_, write)| write).collect();
        for write in pending {
            write.purge(purger).await;
        }
    }

    fn writes(&self) -> MutexGuard<'_, HashMap<u64, UnconfirmedWrite>> {
        self.writes.lock()
    }
}

impl PendingWrite {
    /// The write may take effect from now on.
    pub(super) fn mark_sent(&self, purge: Purge, route: Option<Arc<Route>>) {
        self.all.writes().insert(self.number, UnconfirmedWrite { purge, route });
    }

    /// The purge is recorded, waits in the journal, or is not needed.
    pub(super) fn settle(&self) {
        self.all.writes().remove(&self.number);
    }

    /// The write ended, and its outcome is unknown.
    pub(super) async fn purge_as_in_doubt(&self, purger: &Purger) {
        let unconfirmed = self.all.writes().remove(&self.number);
        if let Some(write) = unconfirmed {
            write.purge(purger).await;
        }
    }
}

impl UnconfirmedWrite {
    async fn purge(self, purger: &Purger) {
        // A failure is counted and logged by `purge`.
        let _ = purger.purge(self.purge, PurgeSource::Write, self.route.as_ref()).await;
    }
}
