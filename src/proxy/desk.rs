//! Where requests come in on one thread: each is handled under the configuration of that moment, from its first step to
//! its last.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::{Proxy, Worker};
use crate::upstream::Upstream;

/// The configuration of the moment, and all that depends on it.
pub type Live = Arc<ArcSwap<Proxy>>;

/// One thread's worker, replaced when the configuration is.
pub struct Desk {
    live: Live,
    worker: ArcSwap<Worker>,
}

impl Desk {
    pub fn new(live: Live) -> Arc<Self> {
        let proxy = live.load_full();
        let upstream = Upstream::new(proxy.destination.clone());
        Arc::new(Self { live, worker: ArcSwap::from_pointee(Worker { proxy, upstream }) })
    }

    pub fn worker(&self) -> Guard<Arc<Worker>> {
        let worker = self.worker.load();
        let proxy = self.live.load();
        if Arc::ptr_eq(&worker.proxy, &proxy) {
            return worker;
        }
        // Connections to an upstream that stays are kept.
        let upstream = match Arc::ptr_eq(worker.upstream.destination(), &proxy.destination) {
            true => worker.upstream.clone(),
            false => Upstream::new(proxy.destination.clone()),
        };
        self.worker.store(Arc::new(Worker { proxy: Guard::into_inner(proxy), upstream }));
        self.worker.load()
    }
}
