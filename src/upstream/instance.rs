//! One instance of the upstream as all workers share it: its connector, its health, and the requests in flight to it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Uri;
use http::uri::{Authority, Scheme};

use super::breaker::Breaker;
use super::connect::Connector;
use crate::config::{UpstreamAddress, UpstreamSettings};

pub(super) struct Instance {
    /// Its URL, and its address if that was looked up.
    pub(super) name: String,
    pub(super) url: UpstreamAddress,
    /// The address that its connections go to; `None`: the one that the URL's name has at the time.
    pub(super) address: Option<SocketAddr>,
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    pub(super) connector: Arc<Connector>,
    pub(super) breaker: Breaker,
    in_flight: AtomicUsize,
}

/// A request in flight to an instance, until this is dropped.
pub(super) struct InFlight(Arc<Instance>);

impl Instance {
    /// # Errors
    /// If it wants TLS and its certificates can't be read.
    pub(super) fn new(settings: &UpstreamSettings, url: &UpstreamAddress) -> io::Result<Arc<Self>> {
        let (scheme, authority) = match url {
            UpstreamAddress::Http { authority } => (Scheme::HTTP, authority.as_str()),
            UpstreamAddress::Https { authority } => (Scheme::HTTPS, authority.as_str()),
            UpstreamAddress::Unix(_) => (Scheme::HTTP, "localhost"),
        };
        let authority: Authority = authority.parse().map_err(io::Error::other)?;
        let origin =
            Uri::builder().scheme(scheme.clone()).authority(authority.clone()).path_and_query("/").build();
        let connector = Connector::new(settings, url, origin.map_err(io::Error::other)?)?;
        let name = url.to_string();
        Ok(Arc::new(Self {
            breaker: Breaker::new(settings.breaker, settings.response_timeout, name.clone()),
            name,
            url: url.clone(),
            address: None,
            scheme,
            authority,
            connector: Arc::new(connector),
            in_flight: AtomicUsize::new(0),
        }))
    }

    /// Another instance of the same URL: at this address, or at the one that its name has at the time.
    pub(super) fn to_address(&self, settings: &UpstreamSettings, address: Option<SocketAddr>) -> Arc<Self> {
        let name = match address {
            None => self.url.to_string(),
            Some(address) => format!("{} ({address})", self.url),
        };
        Arc::new(Self {
            breaker: Breaker::new(settings.breaker, settings.response_timeout, name.clone()),
            name,
            url: self.url.clone(),
            address,
            scheme: self.scheme.clone(),
            authority: self.authority.clone(),
            connector: Arc::new(self.connector.to_address(address)),
            in_flight: AtomicUsize::new(0),
        })
    }

    pub(super) fn begin_request(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
