//! The beginning of a fetch, by which a purge dooms it: a request that comes later starts another one beside it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use crate::purge::ReadVersion;

/// When a fetch began, and beside which other one.
#[derive(Default)]
pub(super) struct FetchStart {
    /// The purge index then. Empty while the fetch has not begun.
    at: OnceLock<ReadVersion>,
    /// The fetch that waited for the upstream still when it took the place of a doomed or refused one.
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

    pub(super) fn set_beside(&self, other: &Arc<Self>) {
        _ = self.beside.set(Arc::downgrade(other));
    }

    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether another fetch waits beside it, whose lease it does not wait for.
    pub(super) fn is_beside_another(&self) -> bool {
        self.beside.get().is_some()
    }

    /// Whether the fetch beside it waits for the upstream still: there is no third one beside both.
    pub(super) fn is_one_of_two(&self) -> bool {
        self.waiting_beside().is_some()
    }

    /// The fetch that the one in its place begins beside: itself, or the other one, if it waits for the upstream still.
    pub(super) fn still_waiting(self: &Arc<Self>) -> Option<Arc<Self>> {
        if self.is_over() { self.waiting_beside() } else { Some(self.clone()) }
    }

    fn waiting_beside(&self) -> Option<Arc<Self>> {
        self.beside.get().and_then(Weak::upgrade).filter(|other| !other.is_over())
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}
