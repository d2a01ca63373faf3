//! The progress of a request's body on its way to the upstream.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::UpstreamError;

/// The progress of a request body, shared with the task that waits for the response. `None`: there is no body, and nobody
/// asks.
#[derive(Clone)]
pub(crate) struct RequestProgress(Option<Arc<Mutex<ProgressState>>>);

pub(super) struct ProgressState {
    last: Instant,
    pub(super) complete: bool,
    pub(super) cut: bool,
    /// A connection to the upstream has the request: some of it may have been sent.
    pub(super) handed_over: bool,
    /// The fault of a content that can't be read on.
    pub(super) fault: Option<&'static str>,
}

impl RequestProgress {
    pub(super) fn without_body() -> Self {
        Self(None)
    }

    pub(super) fn started() -> Self {
        Self::new(false)
    }

    /// There is no body, and it matters whether the request was handed over.
    pub(super) fn bodiless() -> Self {
        Self::new(true)
    }

    fn new(complete: bool) -> Self {
        let last = Instant::now();
        let state = ProgressState { last, complete, cut: false, handed_over: false, fault: None };
        Self(Some(Arc::new(Mutex::new(state))))
    }

    pub(super) fn state(&self) -> Option<MutexGuard<'_, ProgressState>> {
        self.0.as_ref().map(|state| state.lock())
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut ProgressState)) {
        if let Some(mut state) = self.state() {
            state.last = Instant::now();
            change(&mut state);
        }
    }

    /// The rest of `limit`, measured from `since` or from later progress.
    pub(crate) fn remaining_time(&self, limit: Duration, since: Instant) -> Duration {
        let last = self.state().map_or(since, |state| state.last.max(since));
        limit.saturating_sub(last.elapsed())
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.state().is_none_or(|state| state.complete)
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.state().is_some_and(|state| state.cut)
    }

    pub(super) fn set_handed_over(&self, handed_over: bool) {
        if let Some(mut state) = self.state() {
            state.handed_over = handed_over;
        }
    }

    /// Returns whether a connection to the upstream has the request. `true` also where that is not tracked.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.state().is_none_or(|state| state.handed_over)
    }

    /// The error of a request whose content did not arrive whole.
    pub(super) fn cut_error(&self) -> UpstreamError {
        match self.state().and_then(|state| state.fault) {
            Some(fault) => UpstreamError::RequestMalformed { fault, is_sent: true },
            None => UpstreamError::RequestCut,
        }
    }
}
