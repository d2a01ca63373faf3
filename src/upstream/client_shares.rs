//! The part of the upstream's connections, uploads and streams that one client may use at a time, so that the others find
//! some.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::UpstreamError;
use crate::config::UpstreamSettings;

/// The client on whose behalf a request is sent: its address, or an IPv6 /64. A request without one is not bounded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientNetwork(pub IpAddr);

pub(super) struct ClientShares {
    /// Clients with a request in flight, and at most as many again without one.
    clients: Mutex<HashMap<IpAddr, Arc<ClientPermits>>>,
    size: Option<ShareSize>,
}

#[derive(Clone, Copy)]
struct ShareSize {
    all: usize,
    uploads: usize,
    streams: usize,
}

struct ClientPermits {
    all: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

/// A client's right to use a connection; it ends when this is dropped.
pub(super) struct SharePermit {
    share: Arc<ClientPermits>,
    _permit: OwnedSemaphorePermit,
    _upload: Option<OwnedSemaphorePermit>,
}

impl ClientShares {
    /// `max_uploads`: the connections that uploads may use.
    pub(super) fn new(settings: &UpstreamSettings, max_uploads: usize) -> Self {
        let size = |total: usize| settings.max_per_client.resolve(total);
        let size = match (size(settings.max_connections), size(max_uploads), size(settings.max_streams)) {
            (Some(all), Some(uploads), Some(streams)) => Some(ShareSize { all, uploads, streams }),
            _ => None,
        };
        Self { clients: Mutex::default(), size }
    }

    fn find(&self, ClientNetwork(client): ClientNetwork) -> Option<Arc<ClientPermits>> {
        let size = self.size?;
        let mut clients = self.clients.lock();
        if let Some(share) = clients.get(&client) {
            return Some(share.clone());
        }
        // Amortised: the table is swept when it would grow.
        if clients.len() == clients.capacity() {
            clients.retain(|_, share| Arc::strong_count(share) > 1);
        }
        let share = Arc::new(ClientPermits::new(size));
        clients.insert(client, share.clone());
        Some(share)
    }

    /// Waits for a connection of the client's share.
    ///
    /// # Errors
    /// All of them are in use until `deadline`.
    pub(super) async fn acquire(
        &self,
        client: Option<ClientNetwork>,
        is_upload: bool,
        deadline: Instant,
    ) -> Result<Option<SharePermit>, UpstreamError> {
        let Some(share) = client.and_then(|client| self.find(client)) else { return Ok(None) };
        let upload = match is_upload {
            true => Some(acquire(&share.uploads, deadline).await?),
            false => None,
        };
        let permit = acquire(&share.all, deadline).await?;
        Ok(Some(SharePermit { share, _permit: permit, _upload: upload }))
    }

    /// Whether the client would have to wait.
    pub(super) fn is_used_up(&self, client: ClientNetwork) -> bool {
        let clients = self.clients.lock();
        clients.get(&client.0).is_some_and(|share| share.all.available_permits() == 0)
    }
}

async fn acquire(part: &Arc<Semaphore>, deadline: Instant) -> Result<OwnedSemaphorePermit, UpstreamError> {
    let permit = timeout_at(deadline, part.clone().acquire_owned()).await;
    permit.ok().and_then(Result::ok).ok_or(UpstreamError::ClientBusy)
}

impl ClientPermits {
    fn new(size: ShareSize) -> Self {
        let part = |permits: usize| Arc::new(Semaphore::new(permits));
        Self { all: part(size.all), uploads: part(size.uploads), streams: part(size.streams) }
    }
}

impl SharePermit {
    /// The right to a stream in its place; `None` if the client has no more of them.
    pub(super) fn for_stream(&self) -> Option<Self> {
        let permit = self.share.streams.clone().try_acquire_owned().ok()?;
        Some(Self { share: self.share.clone(), _permit: permit, _upload: None })
    }
}
