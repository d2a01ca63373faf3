//! The one upstream, ready to be asked: its address, the way there, and the limits that all workers share.

use std::io;
use std::sync::Arc;

use http::Uri;
use http::uri::{Authority, Scheme};
use tokio::sync::Semaphore;

use super::breaker::Breaker;
use super::connect::Connector;
use crate::config::{UpstreamAddress, UpstreamSettings};

pub struct Destination {
    pub(super) settings: UpstreamSettings,
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    pub(super) connector: Connector,
    /// Bounds the requests under way; those that wait are served in their order.
    pub(super) slots: Arc<Semaphore>,
    pub(super) breaker: Breaker,
}

impl Destination {
    /// Fails where the system's certificates can't be read and the upstream wants TLS.
    pub fn new(settings: &UpstreamSettings) -> io::Result<Arc<Self>> {
        let (scheme, authority) = match &settings.address {
            UpstreamAddress::Http { authority } => (Scheme::HTTP, authority.as_str()),
            UpstreamAddress::Https { authority } => (Scheme::HTTPS, authority.as_str()),
            UpstreamAddress::Unix(_) => (Scheme::HTTP, "localhost"),
        };
        Ok(Arc::new(Self {
            scheme,
            authority: authority.parse().map_err(io::Error::other)?,
            connector: Connector::new(settings)?,
            slots: Arc::new(Semaphore::new(settings.max_connections)),
            breaker: Breaker::new(settings.breaker),
            settings: settings.clone(),
        }))
    }

    /// Scheme and authority.
    pub(super) fn origin(&self) -> Uri {
        let origin =
            Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone()).path_and_query("/");
        origin.build().unwrap_or_default()
    }

    /// How many more requests may be under way, of how many.
    pub fn room(&self) -> (usize, usize) {
        (self.slots.available_permits(), self.settings.max_connections)
    }

    pub fn is_for(&self, settings: &UpstreamSettings) -> bool {
        self.settings == *settings
    }
}
