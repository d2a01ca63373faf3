//! The right to use a connection to the upstream.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::client_shares::SharePermit;
use super::instance::{InFlight, Instance};

/// A connection in use; free when it is dropped.
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
    _upload: Option<OwnedSemaphorePermit>,
    /// `None`: its client is not bounded.
    share: Option<SharePermit>,
    /// The request at the instance that it goes to.
    in_flight: Option<InFlight>,
}

impl Slot {
    pub(super) fn new(
        permit: OwnedSemaphorePermit,
        upload: Option<OwnedSemaphorePermit>,
        share: Option<SharePermit>,
    ) -> Self {
        Self { _permit: permit, _upload: upload, share, in_flight: None }
    }

    pub(super) fn share(&self) -> Option<&SharePermit> {
        self.share.as_ref()
    }

    /// The same request under a permit of another pool.
    pub(super) fn with_permit(self, permit: OwnedSemaphorePermit, share: Option<SharePermit>) -> Self {
        Self { _permit: permit, _upload: None, share, in_flight: self.in_flight }
    }

    /// Counts the request as one of `instance`, instead of the one before.
    pub(super) fn assign(&mut self, instance: &Arc<Instance>) {
        self.in_flight = Some(instance.begin_request());
    }
}
