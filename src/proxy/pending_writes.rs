//! Writes that were forwarded and whose purge is not recorded yet.
//!
//! If one ends without a decision (a panic, the end of larder), it may have happened: its targets are purged as in doubt.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::task::JoinSet;

use crate::metrics::PurgeSource;
use crate::policy::Route;
use crate::purge::Purge;
use crate::purging::Purger;

/// All pending writes of the process.
#[derive(Default)]
pub(super) struct PendingWrites {
    writes: Mutex<Writes>,
    next: AtomicU64,
}

#[derive(Default)]
struct Writes {
    by_number: HashMap<u64, UnconfirmedWrite>,
    /// larder ends: no more are sent, since nobody would purge what they change.
    are_over: bool,
}

/// A write that was sent, and its purge if nobody sees its end.
#[derive(Clone)]
pub(super) struct UnconfirmedWrite {
    pub purge: Purge,
    pub route: Option<Arc<Route>>,
}

/// The registration of one write.
#[derive(Clone)]
pub(super) struct PendingWrite {
    all: Arc<PendingWrites>,
    number: u64,
    /// Its client was answered without it. Read and written under the lock of `all`.
    is_abandoned: Arc<AtomicBool>,
}

impl PendingWrites {
    pub(super) fn register(self: &Arc<Self>) -> PendingWrite {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        PendingWrite { all: self.clone(), number, is_abandoned: Arc::default() }
    }

    pub(super) fn next_number(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Whether a write with a number below `mark` is pending.
    pub(super) fn is_any_before(&self, mark: u64) -> bool {
        self.writes().by_number.keys().any(|number| *number < mark)
    }

    /// Purges the targets of all writes that are pending; larder ends, and no more are sent. Each stays until its purge is
    /// recorded, so that nothing else takes it for settled.
    pub(super) async fn purge_all(self: &Arc<Self>, purger: &Purger) {
        let pending: Vec<_> = {
            let mut writes = self.writes();
            writes.are_over = true;
            writes.by_number.iter().map(|(number, write)| (*number, write.clone())).collect()
        };
        let mut purges = JoinSet::new();
        for (number, write) in pending {
            let (all, purger) = (self.clone(), purger.clone());
            purges.spawn(async move {
                write.purge(&purger).await;
                all.writes().by_number.remove(&number);
            });
        }
        purges.join_all().await;
    }

    fn writes(&self) -> MutexGuard<'_, Writes> {
        self.writes.lock()
    }
}

impl PendingWrite {
    /// The write may take effect from now on. `false`: it must not, since its client was answered without it, or larder ends.
    #[must_use]
    pub(super) fn mark_sent(&self, write: UnconfirmedWrite) -> bool {
        let mut writes = self.all.writes();
        let may_be_sent = !writes.are_over && !self.is_abandoned.load(Ordering::Relaxed);
        if may_be_sent {
            writes.by_number.insert(self.number, write);
        }
        may_be_sent
    }

    /// The client is answered without the write. Returns it if it was sent and its purge is not recorded; if it was not
    /// sent, it never is.
    pub(super) fn abandon(&self) -> Option<UnconfirmedWrite> {
        let writes = self.all.writes();
        self.is_abandoned.store(true, Ordering::Relaxed);
        writes.by_number.get(&self.number).cloned()
    }

    /// The purge is recorded, waits in the journal, or is not needed.
    pub(super) fn settle(&self) {
        self.all.writes().by_number.remove(&self.number);
    }

    /// The write ended, and its outcome is unknown.
    pub(super) async fn purge_as_in_doubt(&self, purger: &Purger) {
        let unconfirmed = self.all.writes().by_number.remove(&self.number);
        if let Some(write) = unconfirmed {
            write.purge(purger).await;
        }
    }
}

impl UnconfirmedWrite {
    pub(super) async fn purge(self, purger: &Purger) {
        // A failure is counted and logged by `purge`.
        let _ = purger.purge(self.purge, PurgeSource::Write, self.route.as_ref()).await;
    }
}
