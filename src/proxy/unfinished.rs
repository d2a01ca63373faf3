//! Writes that were sent and whose purge is not taken yet. Should one end in no way that it decided itself (a panic, the
//! end of larder), it may have happened: what it may have changed is purged as in doubt.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Proxy;
use crate::metrics::PurgeSource;
use crate::policy::Route;
use crate::purge::Purge;
use crate::purging::purge;

/// All that are under way, on whichever thread.
#[derive(Default)]
pub struct Unfinished {
    writes: Mutex<HashMap<u64, Doubt>>,
    next: AtomicU64,
}

/// What an end that nobody saw would purge.
struct Doubt {
    purge: Purge,
    route: Option<Arc<Route>>,
}

/// One write's place.
#[derive(Clone)]
pub struct Write {
    all: Arc<Unfinished>,
    number: u64,
}

impl Unfinished {
    pub fn begin(self: &Arc<Self>) -> Write {
        Write { all: self.clone(), number: self.next.fetch_add(1, Ordering::Relaxed) }
    }

    fn writes(&self) -> MutexGuard<'_, HashMap<u64, Doubt>> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write {
    /// From now on it may happen.
    pub fn sent(&self, purge: Purge, route: Option<Arc<Route>>) {
        self.all.writes().insert(self.number, Doubt { purge, route });
    }

    /// What is to be purged is purged, or waits in the journal, or nothing is to be.
    pub fn settled(&self) {
        self.all.writes().remove(&self.number);
    }

    /// It has ended, and nobody decided how.
    pub async fn lost(&self, proxy: &Proxy) {
        let doubt = self.all.writes().remove(&self.number);
        if let Some(doubt) = doubt {
            proxy.purge_doubt(doubt).await;
        }
    }
}

impl Proxy {
    /// larder ends: those that are still under way are cut off.
    pub async fn cut_off_writes(&self) {
        let left: Vec<_> = self.unfinished.writes().drain().map(|(_, doubt)| doubt).collect();
        for doubt in left {
            self.purge_doubt(doubt).await;
        }
    }

    async fn purge_doubt(&self, Doubt { purge: doubted, route }: Doubt) {
        // Whether it was taken is counted and logged where it is done.
        let _ = purge(&self.store, &self.metrics, doubted, PurgeSource::Write, route.as_ref()).await;
    }
}
