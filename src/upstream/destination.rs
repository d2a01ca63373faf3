//! The upstream as all workers share it: its instances, and the limit on connections.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::uri::Authority;

use super::instance::Instance;
use super::slots::UpstreamSlots;
use crate::config::{UpstreamAddress, UpstreamSettings};

/// The number of instances that are used; further addresses of a name are left out.
const MAX_INSTANCES: usize = 64;

pub(crate) struct Destination {
    pub(super) settings: UpstreamSettings,
    /// At least one.
    instances: ArcSwap<Vec<Arc<Instance>>>,
    pub(super) slots: UpstreamSlots,
    /// The content of the TLS files when they were read.
    tls_files: Vec<Option<Vec<u8>>>,
}

impl Destination {
    /// # Errors
    /// If the upstream wants TLS and its certificates can't be read, or `settings` has no address.
    pub(crate) fn new(settings: &UpstreamSettings) -> io::Result<Arc<Self>> {
        let instances = settings.addresses.iter().map(|address| Instance::new(settings, address, None));
        let instances = instances.collect::<io::Result<Vec<_>>>()?;
        if instances.is_empty() {
            return Err(io::Error::other("the upstream has no address"));
        }
        Ok(Arc::new(Self {
            instances: ArcSwap::from_pointee(instances),
            slots: UpstreamSlots::new(settings),
            tls_files: read_tls_files(settings),
            settings: settings.clone(),
        }))
    }

    pub(super) fn instances(&self) -> Arc<Vec<Arc<Instance>>> {
        self.instances.load_full()
    }

    /// Makes an instance of each address that the upstream's names have now. `lookup` returns the addresses of a `host:port`,
    /// or an error; then, and if there is none, those of before stay. An instance that stays keeps its health and its
    /// connections. Only one task may do this at a time.
    ///
    /// # Errors
    /// If the upstream wants TLS and its certificates can't be read.
    pub(super) async fn resolve<F>(&self, lookup: impl Fn(String) -> F) -> io::Result<()>
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>>,
    {
        let before = self.instances();
        let mut instances = Vec::new();
        for url in &self.settings.addresses {
            let known = before.iter().filter(|instance| instance.url == *url);
            let addresses: BTreeSet<SocketAddr> = match name_and_port(url) {
                None => BTreeSet::new(),
                Some(name) => lookup(name).await.unwrap_or_default().into_iter().collect(),
            };
            if addresses.is_empty() {
                instances.extend(known.cloned());
                continue;
            }
            for address in addresses {
                let known = known.clone().find(|instance| instance.address == Some(address));
                instances.push(match known {
                    Some(instance) => instance.clone(),
                    None => Instance::new(&self.settings, url, Some(address))?,
                });
            }
        }
        instances.truncate(MAX_INSTANCES);
        let is_same = |(one, other): (&Arc<Instance>, &Arc<Instance>)| Arc::ptr_eq(one, other);
        if instances.len() != before.len() || !instances.iter().zip(&*before).all(is_same) {
            let names: Vec<_> = instances.iter().map(|instance| instance.name.as_str()).collect();
            tracing::info!(instances = ?names, "upstream's addresses changed");
            self.instances.store(Arc::new(instances));
        }
        Ok(())
    }

    /// The number of free connections, and of all.
    pub(crate) fn capacity(&self) -> (usize, usize) {
        self.slots.capacity()
    }

    /// Whether the circuit breakers of all instances are open.
    pub(crate) fn is_breaker_open(&self) -> bool {
        self.instances.load().iter().all(|instance| instance.breaker.is_open())
    }

    /// The URL of each instance, and whether its last request did not fail.
    pub(crate) fn health(&self) -> Vec<(String, bool)> {
        self.instances.load().iter().map(|it| (it.name.clone(), !it.breaker.is_suspect())).collect()
    }

    /// Returns whether the settings, and the files that they name, are those of this destination.
    pub(crate) fn has_settings(&self, settings: &UpstreamSettings) -> bool {
        self.settings == *settings && self.tls_files == read_tls_files(settings)
    }
}

/// Returns `host:port` of a URL whose addresses can change.
fn name_and_port(url: &UpstreamAddress) -> Option<String> {
    let (authority, default_port) = match url {
        UpstreamAddress::Http { authority } => (authority, 80),
        UpstreamAddress::Https { authority } => (authority, 443),
        UpstreamAddress::Unix(_) => return None,
    };
    let authority: Authority = authority.parse().ok()?;
    let host = authority.host();
    let is_address = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
    (!is_address).then(|| format!("{host}:{}", authority.port_u16().unwrap_or(default_port)))
}

fn read_tls_files(settings: &UpstreamSettings) -> Vec<Option<Vec<u8>>> {
    settings.tls.files().into_iter().map(|path| std::fs::read(path).ok()).collect()
}
