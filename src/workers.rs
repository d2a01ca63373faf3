//! One thread a core, each with a runtime, a share of the listeners and a pool of upstream connections of its own;
//! the store, the flights and the counters are shared.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::admin::{self, Phase, Readiness};
use crate::clock::{Clock, Moment};
use crate::config::{Config, StoreSettings};
use crate::metrics::{BEAT_EVERY, Heart, SAMPLE_EVERY};
use crate::proxy::{Desk, Live, Proxy};
use crate::purge::Incarnation;
use crate::reloading::{Change, Reloading, operators_view};
use crate::server::{self, Door, Listener, Listeners};
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::store::replica;
use crate::store::tiered::TieredStore;
use crate::warming::Warming;

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
    let count = thread::available_parallelism().map_or(1, usize::from);
    // All that can fail comes first: an error starts nothing.
    let own = runtime()?;
    let mut others = Vec::new();
    for _ in 1..count {
        let listeners = listeners.proxy.iter().map(Listener::try_clone).collect::<io::Result<Vec<_>>>()?;
        others.push((runtime()?, listeners));
    }
    let (stop, stopping) = watch::channel(false);
    // Held by each thread while it works: nothing is ever sent.
    let (working, mut all_drained) = mpsc::channel::<()>(1);
    let (mut threads, mut starts) = (Vec::new(), Vec::new());
    for (number, (runtime, listeners)) in others.into_iter().enumerate() {
        let work = parts.clone().work(number + 1, listeners, stop.clone(), stopping.clone());
        let working = working.clone();
        let (start, started) = oneshot::channel::<()>();
        starts.push(start);
        let thread = thread::Builder::new().name(format!("larder-{}", number + 1));
        threads.push(thread.spawn(move || {
            let worked = match started.blocking_recv() {
                Ok(()) => runtime.block_on(work),
                Err(_) => Ok(()),
            };
            drop(working);
            worked
        })?);
    }
    starts.into_iter().for_each(|start| _ = start.send(()));
    let result = own.block_on(async {
        let drained = Arc::new(Notify::new());
        let warming = Warming::new(parts.live.clone());
        let view = operators_view(&parts.live.load(), parts.readiness.clone(), Some(warming.clone()));
        let state = Arc::new(ArcSwap::from_pointee(view));
        let certificates = parts.doors.iter().filter_map(|door| door.tls.clone()).collect();
        tokio::spawn(Reloading::new(parts.live.clone(), state.clone(), certificates).run(changes));
        let admin = listeners.admin.map(|listener| {
            let drained = drained.clone();
            tokio::spawn(async move { admin::serve(listener, state, drained.notified()).await })
        });
        tokio::spawn(sample(parts.live.clone()));
        let (readiness, its_stop) = (parts.readiness.clone(), stop.clone());
        readiness.set(Phase::Ready);
        tokio::spawn(warming.run(stopping.clone()));
        tokio::spawn(async move {
            shutdown.await;
            readiness.set(Phase::Draining);
            its_stop.send_replace(true);
        });
        let (worked, stopped) =
            tokio::join!(parts.clone().work(0, listeners.proxy, stop, stopping.clone()), when(stopping));
        drop(working);
        // Operators can watch until the last thread has answered its last request, and the last purge is taken.
        all_drained.recv().await;
        parts.settle(stopped).await;
        drained.notify_one();
        match admin {
            Some(admin) => worked.and(admin.await.map_err(io::Error::other)?),
            None => worked,
        }
    });
    let rest =
        threads.into_iter().map(|thread| thread.join().unwrap_or(Err(io::Error::other("a worker panicked"))));
    let result = rest.fold(result, Result::and);
    drop(own);
    let proxy = parts.live.load();
    proxy.access_log.iter().for_each(|log| log.flush());
    proxy.telemetry.iter().for_each(|telemetry| telemetry.flush());
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

/// For the dashboard.
async fn sample(live: Live) {
    loop {
        tokio::time::sleep(SAMPLE_EVERY).await;
        let proxy = live.load();
        proxy.metrics.sample(proxy.clock.now());
    }
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
    /// One for each listener.
    doors: Vec<Door>,
    listeners_outlive: bool,
}

impl Parts {
    fn new(config: Config, clock: Clock, listeners_outlive: bool) -> io::Result<Self> {
        let doors = config.doors.iter().map(Door::open).collect::<io::Result<Vec<_>>>()?;
        let store = store(&config.store, &clock)?;
        let client_slots = Arc::new(Semaphore::new(server::files::room_for(
            config.limits.connections,
            config.upstream.max_connections,
        )));
        let proxy = Proxy::new(config, store, clock)?;
        proxy.metrics.config_loaded(proxy.clock.now());
        let certificates = doors.iter().filter_map(|door| door.tls.as_ref());
        proxy.metrics.certificates_end(certificates.flat_map(|tls| tls.expiries()).collect());
        Ok(Self {
            live: Arc::new(ArcSwap::from_pointee(proxy)),
            client_slots,
            doors,
            readiness: Readiness::new(),
            listeners_outlive,
        })
    }

    /// One thread's share, until it has drained. A listener that can't be served stops all: half a proxy would look like
    /// a whole one.
    async fn work(
        self,
        number: usize,
        listeners: Vec<Listener>,
        stop: watch::Sender<bool>,
        stopping: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let heart = self.live.load().metrics.watch_worker(number, Moment::now());
        let beating = tokio::spawn(beat(number, heart));
        let desk = Desk::new(self.live.clone());
        let (mut serving, outlive) = (JoinSet::new(), self.listeners_outlive);
        let doors = self.doors.into_iter().chain(std::iter::repeat_with(Door::default));
        for (listener, door) in listeners.into_iter().zip(doors) {
            let (slots, metrics) = (self.client_slots.clone(), self.live.load().metrics.clone());
            let (desk, stop, stopping) = (desk.clone(), stop.clone(), stopping.clone());
            serving.spawn(async move {
                let served = server::serve(listener, door, desk, slots, metrics, outlive, stopping).await;
                stop.send_replace(true);
                served
            });
        }
        let (served, stopped) = tokio::join!(serving.join_all(), when(stopping));
        let proxy = self.live.load_full();
        proxy.tasks.close();
        let end = stopped + proxy.config.limits.drain;
        if timeout_at(end, proxy.tasks.wait()).await.is_err() {
            tracing::warn!("writes or fetches were cut off: they did not end within `limits.drain`");
        }
        beating.abort();
        served.into_iter().collect()
    }

    /// Once nobody is served any more: what may have been written is purged, and what waits for Redis goes there, if
    /// that can be within `limits.drain`.
    async fn settle(&self, stopped: Instant) {
        /// However long the rest took.
        const AT_LEAST: Duration = Duration::from_secs(1);
        const AGAIN: Duration = Duration::from_millis(20);
        let proxy = self.live.load_full();
        let end = (stopped + proxy.config.limits.drain).max(Instant::now() + AT_LEAST);
        let waiting = || proxy.store.remote().map_or(0, |remote| remote.purges_waiting);
        let settled = timeout_at(end, async {
            proxy.cut_off_writes().await;
            while waiting() > 0 && !(proxy.store.catch_up().await && waiting() == 0) {
                sleep(AGAIN).await;
            }
        });
        if settled.await.is_err() {
            let targets = waiting();
            tracing::error!(targets, "purges were lost: Redis did not take them within `limits.drain`");
        }
        proxy.store.leave().await;
    }
}

/// When larder is told to stop.
async fn when(mut stopping: watch::Receiver<bool>) -> Instant {
    drop(stopping.wait_for(|stop| *stop).await);
    Instant::now()
}
