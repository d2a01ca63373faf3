//! The beginning of a fetch, by which a purge dooms it: a request that comes later starts another one beside it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use crate::purge::ReadVersion;

/// When a fetch began, and beside which other one.
#[derive(Default)]
pub(super) struct FetchStart {
    /// The purge index then. Empty while the fetch has not begun.
    at: OnceLock<ReadVersion>,
    /// The doomed fetch that it takes the place of.
    beside: OnceLock<Weak<FetchStart>>,
    /// The upstream has answered, or failed.
    is_over: AtomicBool,
}

impl FetchStart {
    pub(super) fn record(&self, at: ReadVersion) {
        _ = self.at.set(at);
    }

    pub(super) fn read_version(&self) -> Option<&ReadVersion> {
        self.at.get()
    }

    pub(super) fn set_beside(&self, doomed: &Arc<Self>) {
        _ = self.beside.set(Arc::downgrade(doomed));
    }

    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether it takes the place of a doomed fetch, whose lease it does not wait for.
    pub(super) fn is_beside_another(&self) -> bool {
        self.beside.get().is_some()
    }

    /// Whether the fetch that it took the place of waits for the upstream still: there is no third one beside both.
    pub(super) fn is_one_of_two(&self) -> bool {
        let other = self.beside.get().and_then(Weak::upgrade);
        other.is_some_and(|other| !other.is_over.load(Ordering::Relaxed))
    }
}
