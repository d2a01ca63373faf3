//! One thread a core, each with a runtime, a share of the listeners and a pool of upstream connections of its own;
//! the store, the flights and the counters are shared.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::admin::{self, AdminState, Phase, Readiness};
use crate::clock::Clock;
use crate::config::{Config, StoreSettings};
use crate::metrics::Metrics;
use crate::proxy::{Proxy, Worker};
use crate::purge::Incarnation;
use crate::server::{self, Listener, Listeners};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::store::tiered::TieredStore;
use crate::upstream::Upstream;

/// Serves until `shutdown` resolves and what was under way has ended. Everything outside is an argument.
///
/// # Errors
/// If a thread, a runtime or a listener can't be set up.
pub fn run(
    config: Config,
    listeners: Listeners,
    clock: Clock,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let parts = Parts::new(config, clock)?;
    let (stop, stopping) = watch::channel(false);
    // Held by each thread while it works: nothing is ever sent.
    let (working, mut all_drained) = mpsc::channel::<()>(1);
    let count = thread::available_parallelism().map_or(1, usize::from);
    let mut threads = Vec::new();
    for number in 1..count {
        let listeners = listeners.proxy.iter().map(Listener::try_clone).collect::<io::Result<Vec<_>>>()?;
        let (parts, stop, stopping, working) =
            (parts.clone(), stop.clone(), stopping.clone(), working.clone());
        let thread = thread::Builder::new().name(format!("larder-{number}"));
        threads.push(thread.spawn(move || {
            let worked = runtime().and_then(|runtime| runtime.block_on(parts.work(listeners, stopping)));
            // One that can't work stops all: half a proxy would look like a whole one.
            stop.send_replace(true);
            drop(working);
            worked
        })?);
    }
    let result = runtime()?.block_on(async {
        let drained = Arc::new(Notify::new());
        let admin = listeners.admin.map(|listener| {
            let (state, drained) = (parts.admin(), drained.clone());
            tokio::spawn(async move { admin::serve(listener, state, drained.notified()).await })
        });
        let readiness = parts.readiness.clone();
        readiness.set(Phase::Ready);
        tokio::spawn(async move {
            shutdown.await;
            readiness.set(Phase::Draining);
            stop.send_replace(true);
        });
        let worked = parts.work(listeners.proxy, stopping).await;
        drop(working);
        // Operators can watch until the last thread has answered its last request.
        all_drained.recv().await;
        drained.notify_one();
        match admin {
            Some(admin) => worked.and(admin.await.map_err(io::Error::other)?),
            None => worked,
        }
    });
    let rest =
        threads.into_iter().map(|thread| thread.join().unwrap_or(Err(io::Error::other("a worker panicked"))));
    rest.fold(result, Result::and)
}

fn store(settings: &StoreSettings, clock: &Clock) -> io::Result<Arc<dyn Store>> {
    if let Some(redis) = &settings.redis {
        return Ok(Arc::new(TieredStore::start(settings, redis, clock.clone())?));
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let incarnation = Incarnation(u128::from_le_bytes(id));
    Ok(Arc::new(MemoryStore::new(settings.memory, incarnation, clock.clone())))
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// What all threads share.
#[derive(Clone)]
struct Parts {
    config: Arc<Config>,
    proxy: Arc<Proxy>,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    clock: Clock,
    readiness: Readiness,
    upstream_slots: Arc<Semaphore>,
    client_slots: Arc<Semaphore>,
}

impl Parts {
    fn new(config: Config, clock: Clock) -> io::Result<Self> {
        let store = store(&config.store, &clock)?;
        let metrics = Arc::new(Metrics::new(&config.routes));
        let config = Arc::new(config);
        Ok(Self {
            proxy: Proxy::new(config.clone(), store.clone(), metrics.clone(), clock.clone()),
            upstream_slots: Arc::new(Semaphore::new(config.upstream.max_connections)),
            client_slots: Arc::new(Semaphore::new(config.limits.connections)),
            readiness: Readiness::new(),
            config,
            store,
            metrics,
            clock,
        })
    }

    fn admin(&self) -> Arc<AdminState> {
        Arc::new(AdminState {
            store: self.store.clone(),
            metrics: self.metrics.clone(),
            routes: self.proxy.routes.clone(),
            clock: self.clock.clone(),
            token: self.config.admin.token.clone(),
            readiness: self.readiness.clone(),
        })
    }

    /// One thread's share, until it has drained.
    async fn work(self, listeners: Vec<Listener>, stopping: watch::Receiver<bool>) -> io::Result<()> {
        let upstream = Upstream::new(Arc::new(self.config.upstream.clone()), self.upstream_slots.clone())?;
        let limits = Arc::new(self.config.limits.clone());
        let mut serving = JoinSet::new();
        for listener in listeners {
            let worker = Worker::new(self.proxy.clone(), upstream.clone());
            let (slots, metrics) = (self.client_slots.clone(), self.metrics.clone());
            serving.spawn(server::serve(listener, worker, limits.clone(), slots, metrics, stopping.clone()));
        }
        let served = serving.join_all().await.into_iter().collect();
        self.proxy.tasks.close();
        if timeout(limits.drain, self.proxy.tasks.wait()).await.is_err() {
            tracing::warn!("writes or fetches were cut off: they did not end within `limits.drain`");
        }
        served
    }
}
