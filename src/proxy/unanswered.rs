//! Counts a request whose client leaves before it is answered.

use std::sync::Arc;
use std::time::Instant;

use super::worker::Worker;

/// A request that waits for its answer. If it is dropped before that, the client has left: it is counted with status 499.
pub(super) struct Unanswered {
    worker: Arc<Worker>,
    route: Option<usize>,
    since: Instant,
    is_answered: bool,
}

impl Unanswered {
    pub(super) fn new(worker: &Arc<Worker>, route: Option<usize>) -> Self {
        Self { worker: worker.clone(), route, since: Instant::now(), is_answered: false }
    }

    /// The answer is there, and counted by itself.
    pub(super) fn end(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if !self.is_answered {
            self.worker.proxy.metrics.record_left_client(self.route, self.since.elapsed());
        }
    }
}
