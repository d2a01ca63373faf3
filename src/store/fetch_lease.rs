//! Whose turn it is to fetch, among all replicas that share a store. For load only: nothing that is valid or not depends
//! on it, and whoever can't find out fetches.

use std::time::Duration;

use tokio::sync::oneshot;

/// Whose turn it is to fetch.
pub enum LeaseDecision {
    /// This replica fetches; the others wait for it.
    Acquired(FetchLease),
    /// There is something that was not looked at yet: another replica's fetch has ended, most likely.
    LookAgain,
    /// Another replica found it not to be shareable: for so long, requests go side by side.
    NotShareable(Duration),
    /// Each replica fetches for itself: another's fetch failed or takes too long, or the store is in trouble.
    FetchLocally,
}

/// The right to fetch, kept up until it is ended. Dropping it says that the fetch failed.
#[derive(Debug)]
pub struct FetchLease(oneshot::Sender<LeaseOutcome>);

/// How a fetch under a lease ended, for those who wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// It was stored.
    Stored,
    /// Requests for this key go side by side, for so long.
    NotShareable(Duration),
    /// It is of no use to other replicas; they fetch for themselves, for so long.
    FetchLocally(Duration),
}

/// A failing upstream is asked by each replica for itself, for so long.
const FAILED_FETCH_BACKOFF: Duration = Duration::from_secs(1);

impl LeaseOutcome {
    /// The fetch failed.
    pub const FAILED: LeaseOutcome = LeaseOutcome::FetchLocally(FAILED_FETCH_BACKOFF);
}

impl FetchLease {
    /// The receiver hears how it ended; that it is dropped means that the fetch failed.
    pub(crate) fn new() -> (Self, oneshot::Receiver<LeaseOutcome>) {
        let (ended, hears) = oneshot::channel();
        (Self(ended), hears)
    }

    /// Ends the lease, and tells those who wait how.
    pub fn release(self, ended: LeaseOutcome) {
        // Where nobody hears it, the lease was lost: another replica fetches by now.
        let _lost = self.0.send(ended);
    }
}
