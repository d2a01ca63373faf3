//! The upstream as all workers share it: its instances, and the limit on connections.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwap;
use http::uri::Authority;
use parking_lot::Mutex;

use super::instance::Instance;
use super::slots::UpstreamSlots;
use crate::config::{UpstreamAddress, UpstreamSettings};

/// The number of instances that are used; further addresses of a name are left out.
const MAX_INSTANCES: usize = 64;

/// After so many look-ups in a row that failed or found nothing, the last addresses of a name are given up.
const MAX_FAILED_LOOKUPS: u32 = 10;

/// An address that was missing from more answers than these has lost its health.
const MAX_MISSED_ANSWERS: u32 = 10;

/// An instance whose address is missing from the last answers.
struct AbsentInstance {
    instance: Arc<Instance>,
    missed_answers: u32,
}

pub(crate) struct Destination {
    pub(super) settings: UpstreamSettings,
    /// At least one.
    instances: ArcSwap<Vec<Arc<Instance>>>,
    /// At most [`MAX_INSTANCES`], the latest first.
    absent: Mutex<Vec<AbsentInstance>>,
    pub(super) slots: UpstreamSlots,
    /// For each URL, how often in a row its name was not found.
    failed_lookups: Vec<AtomicU32>,
    /// The content of the TLS files when they were read.
    tls_files: Vec<Option<Vec<u8>>>,
}

impl Destination {
    /// # Errors
    /// If the upstream wants TLS and its certificates can't be read, or `settings` has no address.
    pub(crate) fn new(settings: &UpstreamSettings) -> io::Result<Arc<Self>> {
        // Before they are used, so that a change in between is one to `has_settings`.
        let tls_files = read_tls_files(settings);
        let instances = settings.addresses.iter().map(|url| Instance::new(settings, url));
        let instances = instances.collect::<io::Result<Vec<_>>>()?;
        if instances.is_empty() {
            return Err(io::Error::other("the upstream has no address"));
        }
        Ok(Arc::new(Self {
            instances: ArcSwap::from_pointee(instances),
            absent: Mutex::default(),
            slots: UpstreamSlots::new(settings),
            failed_lookups: settings.addresses.iter().map(|_| AtomicU32::new(0)).collect(),
            tls_files,
            settings: settings.clone(),
        }))
    }

    pub(super) fn instances(&self) -> Arc<Vec<Arc<Instance>>> {
        self.instances.load_full()
    }

    /// Returns whether `instances` are those that [`Destination::instances`] returns now.
    pub(super) fn has_instances(&self, instances: &Arc<Vec<Arc<Instance>>>) -> bool {
        Arc::ptr_eq(&self.instances.load(), instances)
    }

    /// Makes an instance of each address that the upstream's names have now. `lookup` returns the addresses of a `host:port`.
    /// Where it fails or finds none, those of before stay, until it has failed [`MAX_FAILED_LOOKUPS`] times: by then they may
    /// be another's. An instance that stays keeps its health and its connections; one whose address is missing gets no
    /// requests, and has its health still if it comes back within [`MAX_MISSED_ANSWERS`]. Only one task may do this at a
    /// time.
    pub(super) async fn resolve<F>(&self, lookup: impl Fn(String) -> F)
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>>,
    {
        let before = self.instances();
        let mut instances = Vec::new();
        for (url, failures) in self.settings.addresses.iter().zip(&self.failed_lookups) {
            let known: Vec<_> = before.iter().filter(|instance| instance.url == *url).cloned().collect();
            let Some(name) = name_and_port(url) else {
                instances.extend(known);
                continue;
            };
            let addresses = usable_addresses(lookup(name).await.unwrap_or_default());
            let failed = match addresses.is_empty() {
                true => (failures.load(Ordering::Relaxed) + 1).min(MAX_FAILED_LOOKUPS),
                false => 0,
            };
            failures.store(failed, Ordering::Relaxed);
            let wanted: Vec<Option<SocketAddr>> = match failed {
                0 => addresses.into_iter().map(Some).take(self.most_addresses()).collect(),
                MAX_FAILED_LOOKUPS.. => vec![None],
                _ => known.iter().map(|instance| instance.address).collect(),
            };
            for address in wanted {
                let same = known.iter().find(|instance| instance.address == address).cloned();
                let same = same.or_else(|| self.take_absent(url, address));
                let other = || Some(known.first()?.to_address(&self.settings, address));
                instances.extend(same.or_else(other));
            }
        }
        let is_same = |(one, other): (&Arc<Instance>, &Arc<Instance>)| Arc::ptr_eq(one, other);
        self.remember_absent(&before, &instances);
        if instances.len() != before.len() || !instances.iter().zip(&*before).all(is_same) {
            let names: Vec<_> = instances.iter().map(|instance| instance.name.as_str()).collect();
            tracing::info!(instances = ?names, "upstream's addresses changed");
            self.instances.store(Arc::new(instances));
        }
    }

    fn take_absent(&self, url: &UpstreamAddress, address: Option<SocketAddr>) -> Option<Arc<Instance>> {
        let mut absent = self.absent.lock();
        let is_same = |it: &AbsentInstance| it.instance.url == *url && it.instance.address == address;
        absent.iter().position(is_same).map(|at| absent.remove(at).instance)
    }

    /// Counts an answer from which the absent instances were missing, and those of `before` that are not in `after`.
    fn remember_absent(&self, before: &[Arc<Instance>], after: &[Arc<Instance>]) {
        let is_missing =
            |it: &&Arc<Instance>| it.address.is_some() && !after.iter().any(|one| Arc::ptr_eq(one, it));
        let mut absent = self.absent.lock();
        absent.iter_mut().for_each(|it| it.missed_answers += 1);
        absent.retain(|it| it.missed_answers < MAX_MISSED_ANSWERS);
        let missing = before.iter().filter(is_missing).cloned();
        absent.splice(0..0, missing.map(|instance| AbsentInstance { instance, missed_answers: 1 }));
        absent.truncate(MAX_INSTANCES);
    }

    /// The number of addresses of one name that are used.
    fn most_addresses(&self) -> usize {
        (MAX_INSTANCES / self.settings.addresses.len()).max(1)
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

/// Each address once, without those of a family that this host has no route for, if others are left.
fn usable_addresses(found: Vec<SocketAddr>) -> BTreeSet<SocketAddr> {
    let all: BTreeSet<SocketAddr> = found.into_iter().collect();
    let routed: BTreeSet<SocketAddr> = all.iter().copied().filter(has_route).collect();
    if routed.is_empty() { all } else { routed }
}

/// Nothing is sent: connecting a UDP socket only looks for a route.
fn has_route(address: &SocketAddr) -> bool {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address)).is_ok()
}

fn read_tls_files(settings: &UpstreamSettings) -> Vec<Option<Vec<u8>>> {
    settings.tls.files().into_iter().map(|path| std::fs::read(path).ok()).collect()
}
