//! The upstream as all workers share it: its instances, and the limit on connections.

use std::io;
use std::sync::Arc;

use super::instance::Instance;
use super::slots::UpstreamSlots;
use crate::config::UpstreamSettings;

pub(crate) struct Destination {
    pub(super) settings: UpstreamSettings,
    /// At least one.
    pub(super) instances: Vec<Arc<Instance>>,
    pub(super) slots: UpstreamSlots,
    /// The content of the TLS files when they were read.
    tls_files: Vec<Option<Vec<u8>>>,
}

impl Destination {
    /// # Errors
    /// If the upstream wants TLS and its certificates can't be read, or `settings` has no address.
    pub(crate) fn new(settings: &UpstreamSettings) -> io::Result<Arc<Self>> {
        let instances = settings.addresses.iter().map(|address| Instance::new(settings, address));
        let instances = instances.collect::<io::Result<Vec<_>>>()?;
        if instances.is_empty() {
            return Err(io::Error::other("the upstream has no address"));
        }
        Ok(Arc::new(Self {
            instances,
            slots: UpstreamSlots::new(settings),
            tls_files: read_tls_files(settings),
            settings: settings.clone(),
        }))
    }

    /// The number of free connections, and of all.
    pub(crate) fn capacity(&self) -> (usize, usize) {
        self.slots.capacity()
    }

    /// Whether the circuit breakers of all instances are open.
    pub(crate) fn is_breaker_open(&self) -> bool {
        self.instances.iter().all(|instance| instance.breaker.is_open())
    }

    /// The URL of each instance, and whether its last request did not fail.
    pub(crate) fn health(&self) -> Vec<(String, bool)> {
        self.instances.iter().map(|it| (it.name.clone(), !it.breaker.is_suspect())).collect()
    }

    /// Returns whether the settings, and the files that they name, are those of this destination.
    pub(crate) fn has_settings(&self, settings: &UpstreamSettings) -> bool {
        self.settings == *settings && self.tls_files == read_tls_files(settings)
    }
}

fn read_tls_files(settings: &UpstreamSettings) -> Vec<Option<Vec<u8>>> {
    settings.tls.files().into_iter().map(|path| std::fs::read(path).ok()).collect()
}
