//! Bounds the requests in flight to the upstream, and keeps one kind of client from holding all of them.
//!
//! One client has a share of them. A quarter of the connections is closed to requests whose content still arrives from
//! a client. Event streams, gRPC and tunnels move to a pool of their own. When no connection is free, the response whose
//! client has read nothing for longest is cut.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::{Instant, timeout, timeout_at};

use super::UpstreamError;
use super::body::HeldResponse;
use super::client_shares::{ClientNetwork, ClientShares, SharePermit};
use super::slot::Slot;
use crate::config::UpstreamSettings;

/// A response whose client has read nothing for this long is cut when a request waits for a connection.
const STALLED_READER_GRACE: Duration = Duration::from_secs(5);

/// The interval at which a request that waits for a connection looks for stalled readers.
const STALLED_READER_CHECK: Duration = Duration::from_millis(250);

pub(super) struct UpstreamSlots {
    all: Arc<Semaphore>,
    /// The part of `all` that requests with content may use.
    uploads: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    shares: ClientShares,
    max_connections: usize,
    queue_timeout: Duration,
    /// Responses that are being read.
    responses: Mutex<Vec<Weak<HeldResponse>>>,
}

impl UpstreamSlots {
    pub(super) fn new(settings: &UpstreamSettings) -> Self {
        let max = settings.max_connections;
        let max_uploads = max - max / 4;
        Self {
            all: Arc::new(Semaphore::new(max)),
            uploads: Arc::new(Semaphore::new(max_uploads)),
            streams: Arc::new(Semaphore::new(settings.max_streams)),
            shares: ClientShares::new(settings, max_uploads),
            max_connections: max,
            queue_timeout: settings.queue_timeout,
            responses: Mutex::default(),
        }
    }

    /// Waits for a connection: for one of the client's share, then in the order of arrival.
    ///
    /// # Errors
    /// None is free within `queue_timeout`.
    pub(super) async fn acquire(
        &self,
        client: Option<ClientNetwork>,
        is_upload: bool,
    ) -> Result<Slot, UpstreamError> {
        let deadline = Instant::now() + self.queue_timeout;
        let share = self.shares.acquire(client, is_upload, deadline).await?;
        let slot = self.acquire_of_all(is_upload, deadline).await;
        slot.map(|(permit, upload)| Slot::new(permit, upload, share)).ok_or(UpstreamError::Busy)
    }

    /// Whether a request of this client would wait for others of the same client.
    pub(super) fn is_share_used_up(&self, client: ClientNetwork) -> bool {
        self.shares.is_used_up(client)
    }

    async fn acquire_of_all(
        &self,
        is_upload: bool,
        deadline: Instant,
    ) -> Option<(OwnedSemaphorePermit, Option<OwnedSemaphorePermit>)> {
        let upload = match is_upload {
            true => Some(timeout_at(deadline, self.uploads.clone().acquire_owned()).await.ok()?.ok()?),
            false => None,
        };
        if let Ok(permit) = self.all.clone().try_acquire_owned() {
            return Some((permit, upload));
        }
        let mut waiting = std::pin::pin!(self.all.clone().acquire_owned());
        while Instant::now() < deadline {
            self.cut_stalled_reader();
            let wait = STALLED_READER_CHECK.min(deadline.saturating_duration_since(Instant::now()));
            if let Ok(permit) = timeout(wait, &mut waiting).await {
                return Some((permit.ok()?, upload));
            }
        }
        None
    }

    /// Moves a long-lived response to the streams' pool.
    ///
    /// # Errors
    /// All of them, or of the client's share, are in use; `slot` comes back.
    pub(super) fn move_to_streams(&self, slot: Slot) -> Result<Slot, (Slot, UpstreamError)> {
        let share = match slot.share().map(SharePermit::for_stream) {
            Some(None) => return Err((slot, UpstreamError::ClientBusy)),
            share => share.flatten(),
        };
        match self.streams.clone().try_acquire_owned() {
            Ok(permit) => Ok(slot.with_permit(permit, share)),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => Err((slot, UpstreamError::Busy)),
        }
    }

    /// The number of free connections, and of all.
    pub(super) fn capacity(&self) -> (usize, usize) {
        (self.all.available_permits(), self.max_connections)
    }

    pub(super) fn register(&self, response: &Arc<HeldResponse>) {
        let mut responses = self.responses.lock();
        // Amortised: the list is swept when it would grow.
        if responses.len() == responses.capacity() {
            responses.retain(|response| response.strong_count() > 0);
        }
        responses.push(Arc::downgrade(response));
    }

    fn cut_stalled_reader(&self) {
        let stalled = {
            let mut responses = self.responses.lock();
            responses.retain(|response| response.strong_count() > 0);
            let stalled = responses.iter().filter_map(|response| {
                let response = response.upgrade()?;
                Some((response.unread_for()?, response))
            });
            stalled.max_by_key(|(unread_for, _)| *unread_for)
        };
        if let Some((unread_for, response)) = stalled
            && unread_for >= STALLED_READER_GRACE
            && response.cut()
        {
            tracing::debug!(
                ?unread_for,
                "response cut: all connections are in use and its client reads nothing"
            );
        }
    }
}
