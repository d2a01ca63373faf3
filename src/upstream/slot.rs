//! The right to use a connection to the upstream.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::instance::{InFlight, Instance};

/// A connection in use; free when it is dropped.
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
    _upload: Option<OwnedSemaphorePermit>,
    /// The request at the instance that it goes to.
    in_flight: Option<InFlight>,
}

impl Slot {
    pub(super) fn new(permit: OwnedSemaphorePermit, upload: Option<OwnedSemaphorePermit>) -> Self {
        Self { _permit: permit, _upload: upload, in_flight: None }
    }

    /// The same request under a permit of another pool.
    pub(super) fn with_permit(self, permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: permit, _upload: None, in_flight: self.in_flight }
    }

    /// Counts the request as one of `instance`, instead of the one before.
    pub(super) fn assign(&mut self, instance: &Arc<Instance>) {
        self.in_flight = Some(instance.begin_request());
    }
}
