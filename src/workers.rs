//! One thread a core, each with a runtime, a share of the listeners and a pool of upstream connections of its own;
//! the store, the flights and the counters are shared.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::admin::{self, Phase, Readiness};
use crate::clock::{Clock, Moment};
use crate::config::{Config, StoreSettings};
use crate::metrics::{BEAT_EVERY, Heart};
use crate::proxy::{Desk, Live, Proxy};
use crate::purge::Incarnation;
use crate::reloading::{Change, Reloading, operators_view};
use crate::server::{self, Listener, Listeners};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::store::replica;
use crate::store::tiered::TieredStore;

/// Before the first request is taken.
const FIRST_CONNECTION: Duration = Duration::from_millis(250);

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
    let (_, never) = mpsc::channel(1);
    run_reloading(config, never, listeners, clock, shutdown)
}

/// As [`run`], with the configurations that come after the first one.
///
/// # Errors
/// As [`run`].
pub fn run_reloading(
    config: Config,
    changes: mpsc::Receiver<Change>,
    listeners: Listeners,
    clock: Clock,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let parts = Parts::new(config, clock, listeners.outlive)?;
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
            let worked =
                runtime().and_then(|runtime| runtime.block_on(parts.work(number, listeners, stopping)));
            // One that can't work stops all: half a proxy would look like a whole one.
            stop.send_replace(true);
            drop(working);
            worked
        })?);
    }
    let result = runtime()?.block_on(async {
        let drained = Arc::new(Notify::new());
        let view = operators_view(&parts.live.load(), parts.readiness.clone());
        let state = Arc::new(ArcSwap::from_pointee(view));
        tokio::spawn(Reloading::new(parts.live.clone(), state.clone()).run(changes));
        let admin = listeners.admin.map(|listener| {
            let drained = drained.clone();
            tokio::spawn(async move { admin::serve(listener, state, drained.notified()).await })
        });
        let readiness = parts.readiness.clone();
        readiness.set(Phase::Ready);
        tokio::spawn(async move {
            shutdown.await;
            readiness.set(Phase::Draining);
            stop.send_replace(true);
        });
        let worked = parts.clone().work(0, listeners.proxy, stopping).await;
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
    let result = rest.fold(result, Result::and);
    parts.live.load().access_log.iter().for_each(|log| log.flush());
    result
}

fn store(settings: &StoreSettings, clock: &Clock) -> io::Result<Arc<dyn Store>> {
    if let Some(redis) = &settings.redis {
        let store = TieredStore::start(settings, redis, clock.clone())?;
        wait_for_redis(&store);
        return Ok(Arc::new(store));
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let incarnation = Incarnation(u128::from_le_bytes(id));
    Ok(Arc::new(MemoryStore::named(
        replica::name(settings.replica.as_deref()),
        settings.memory,
        incarnation,
        clock.clone(),
    )))
}

/// Who comes first should not be refused a guarded write for want of a connection that is nearly there. Nobody is kept
/// from the rest of larder for long where there is no Redis.
fn wait_for_redis(store: &dyn Store) {
    let deadline = Moment::now().plus(FIRST_CONNECTION);
    while store.remote().is_some_and(|remote| remote.is_away()) && Moment::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// As long as its thread turns.
async fn beat(worker: usize, heart: Heart) {
    loop {
        tokio::time::sleep(BEAT_EVERY).await;
        if let Some(stalled) = heart.beat(Moment::now()) {
            let seconds = stalled.as_secs_f64();
            tracing::warn!(worker, seconds, "a worker stood still, and its connections with it");
        }
    }
}

/// What all threads share.
#[derive(Clone)]
struct Parts {
    live: Live,
    readiness: Readiness,
    client_slots: Arc<Semaphore>,
    listeners_outlive: bool,
}

impl Parts {
    fn new(config: Config, clock: Clock, listeners_outlive: bool) -> io::Result<Self> {
        let store = store(&config.store, &clock)?;
        let client_slots = Arc::new(Semaphore::new(server::files::room_for(
            config.limits.connections,
            config.upstream.max_connections,
        )));
        let proxy = Proxy::new(config, store, clock)?;
        proxy.metrics.config_loaded(proxy.clock.now());
        Ok(Self {
            live: Arc::new(ArcSwap::from_pointee(proxy)),
            client_slots,
            readiness: Readiness::new(),
            listeners_outlive,
        })
    }

    /// One thread's share, until it has drained.
    async fn work(
        self,
        number: usize,
        listeners: Vec<Listener>,
        stopping: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let heart = self.live.load().metrics.watch_worker(number, Moment::now());
        let beating = tokio::spawn(beat(number, heart));
        let desk = Desk::new(self.live.clone());
        let (mut serving, outlive) = (JoinSet::new(), self.listeners_outlive);
        for listener in listeners {
            let (slots, metrics) = (self.client_slots.clone(), self.live.load().metrics.clone());
            serving.spawn(server::serve(listener, desk.clone(), slots, metrics, outlive, stopping.clone()));
        }
        let served = serving.join_all().await.into_iter().collect();
        let proxy = self.live.load_full();
        proxy.tasks.close();
        if timeout(proxy.config.limits.drain, proxy.tasks.wait()).await.is_err() {
            tracing::warn!("writes or fetches were cut off: they did not end within `limits.drain`");
        }
        beating.abort();
        served
    }
}
