//! Writes that were forwarded and whose purge is not recorded yet.
//!
//! If one ends without a decision (a panic, the end of larder), it may have happened: its targets are purged as in doubt.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::metrics::PurgeSource;
use crate::policy::Route;
use crate::purge::{Purge, Target};
use crate::purging::Purger;
use crate::store::BoxFuture;

/// How long the content of a write is read for targets. Large ones wait for each other, and the end of larder does not.
const MAX_CONTENT_WAIT: Duration = Duration::from_millis(300);

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
    pub by_content: Option<ContentTargets>,
}

/// Reads the content of a write for targets that its head does not name, as far as the upstream has it by then.
pub(super) type ContentTargets = Arc<dyn Fn() -> BoxFuture<Vec<Target>> + Send + Sync>;

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

    /// The write has ended, and these are its targets: no content has to be read for them any more.
    pub(super) fn name_targets(&self, targets: Vec<Target>) {
        if let Some(write) = self.all.writes().by_number.get_mut(&self.number) {
            (write.purge.targets, write.by_content) = (targets, None);
        }
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
    /// Purges what the head names and what the content names, unless that can't be read in time.
    pub(super) async fn purge(mut self, purger: &Purger) {
        if let Some(by_content) = self.by_content.take() {
            // On a task of its own: reading it may be what panicked.
            let reading = tokio::spawn(async move { by_content().await });
            let named =
                timeout(MAX_CONTENT_WAIT, reading).await.ok().and_then(Result::ok).unwrap_or_default();
            let known: HashSet<Target> = self.purge.targets.iter().cloned().collect();
            self.purge.targets.extend(named.into_iter().filter(|target| !known.contains(target)));
        }
        // A failure is counted and logged by `purge`.
        let _ = purger.purge(self.purge, PurgeSource::Write, self.route.as_ref()).await;
    }
}
