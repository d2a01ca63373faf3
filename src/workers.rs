//! One thread per core, each with its own runtime, share of the listeners and upstream connections. The store, the
//! fetches in flight and the metrics are shared.

use std::future::Future;
use std::io;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::admin::{self, AdminState, Readiness};
use crate::clock::{Clock, Moment};
use crate::config::{Config, StoreSettings};
use crate::metrics::{SAMPLE_INTERVAL, WATCHDOG_INTERVAL, WorkerHeartbeat};
use crate::phase::{Phase, PhaseReceiver};
use crate::proxy::{Operator, Proxy, SharedProxy, WorkerHandle};
use crate::purge::Epoch;
use crate::random::random_bytes;
use crate::reload::{ConfigChange, ConfigReloader, admin_state};
use crate::server::{self, ClientRegistry, Listener, ListenerTransport, Listeners, Server};
use crate::store::memory::MemoryStore;
use crate::store::remote_status::{CONNECTING, RemoteStatus};
use crate::store::replica;
use crate::store::tiered::TieredStore;
use crate::store::{BoxFuture, Store};
use crate::upstream;
use crate::warming::Warming;

/// Longest wait for the first Redis connection before requests are accepted, once an attempt has failed.
const REDIS_RETRY_WAIT: Duration = Duration::from_millis(250);

/// Longest wait while no attempt has failed.
const REDIS_CONNECT_WAIT: Duration = Duration::from_secs(2);

/// The time that purges have at the end, however long the drain took.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The time that caches in front have at the end to take purges.
const CDN_TIMEOUT: Duration = Duration::from_secs(3);

/// How the process is told to end.
pub struct Shutdown {
    drain: BoxFuture<()>,
    exit: oneshot::Receiver<ExitAtOnce>,
}

/// Asks to record, without a drain, what has to be purged. It is dropped once that is done.
pub type ExitAtOnce = std_mpsc::Sender<()>;

impl<F: Future<Output = ()> + Send + 'static> From<F> for Shutdown {
    fn from(drain: F) -> Self {
        let (_, never) = oneshot::channel();
        Self { drain: Box::pin(drain), exit: never }
    }
}

impl Shutdown {
    /// `exit`: the process ends soon after this is received, whatever is under way.
    #[must_use]
    pub fn with_exit(self, exit: oneshot::Receiver<ExitAtOnce>) -> Self {
        Self { exit, ..self }
    }
}

/// Serves until `shutdown` resolves and the requests in flight have ended.
///
/// # Errors
/// If a thread, a runtime or a listener cannot be set up.
pub fn run(
    config: Config,
    listeners: Listeners,
    clock: Clock,
    shutdown: impl Into<Shutdown>,
) -> io::Result<()> {
    let (_, never) = mpsc::channel(1);
    run_with_reload(config, never, listeners, clock, shutdown)
}

/// Like [`run`], and applies later configurations.
///
/// # Errors
/// See [`run`].
pub fn run_with_reload(
    config: Config,
    changes: mpsc::Receiver<ConfigChange>,
    listeners: Listeners,
    clock: Clock,
    shutdown: impl Into<Shutdown>,
) -> io::Result<()> {
    let Shutdown { drain, exit } = shutdown.into();
    let context = WorkerContext::new(config, clock, listeners.outlive_process)?;
    let count = thread::available_parallelism().map_or(1, usize::from);
    // Everything that can fail comes before the first thread starts.
    let own = build_runtime()?;
    let mut others = Vec::new();
    for _ in 1..count {
        let listeners = listeners.proxy.iter().map(Listener::try_clone).collect::<io::Result<Vec<_>>>()?;
        others.push((build_runtime()?, listeners));
    }
    let phase = context.readiness.phase().clone();
    // Each thread holds a sender while it works; nothing is sent.
    let (working, mut all_drained) = mpsc::channel::<()>(1);
    let (mut threads, mut starts) = (Vec::new(), Vec::new());
    for (number, (runtime, listeners)) in others.into_iter().enumerate() {
        let work = context.clone().run_worker(number + 1, listeners);
        let (working, mut phase) = (working.clone(), phase.subscribe());
        let (start, started) = oneshot::channel::<()>();
        starts.push(start);
        let thread = thread::Builder::new().name(format!("larder-{}", number + 1));
        threads.push(thread.spawn(move || {
            let worked = match started.blocking_recv() {
                Ok(()) => runtime.block_on(work),
                Err(_) => return Ok(()),
            };
            drop(working);
            // Its connections end with it: no client hears of that before its write is purged.
            runtime.block_on(phase.reached(Phase::Flushed));
            worked
        })?);
    }
    starts.into_iter().for_each(|start| _ = start.send(()));
    let result = own.block_on(async {
        let drained = Arc::new(Notify::new());
        let warming = Warming::new(context.live.clone());
        let view = admin_state(&context.live.load(), context.readiness.clone(), Some(warming.clone()));
        let state = Arc::new(ArcSwap::from_pointee(view));
        _ = context.live.load().operator.set(make_operator(&state));
        let certificates = context.transports.iter().filter_map(|transport| transport.tls.clone()).collect();
        tokio::spawn(ConfigReloader::new(context.live.clone(), state.clone(), certificates).run(changes));
        tokio::spawn(admin::report_stats(state.clone()));
        let admin = listeners.admin.map(|listener| {
            let (state, drained) = (state.clone(), drained.clone());
            tokio::spawn(async move { admin::serve(listener, state, drained.notified()).await })
        });
        let events = context.live.load().events.clone();
        events.start();
        events.cdn().start();
        context.live.load().callers.start();
        tokio::spawn(sample_metrics(context.live.clone()));
        let live = context.live.clone();
        tokio::spawn(upstream::keep_resolving(move || live.load().destination.clone()));
        phase.advance(Phase::Ready);
        tokio::spawn(warming.run(phase.subscribe()));
        let stopping = phase.subscribe();
        let ending = phase.clone();
        tokio::spawn(async move {
            drain.await;
            ending.advance(Phase::Stopping);
        });
        let exiting = context.clone();
        tokio::spawn(async move {
            if let Ok(exit) = exit.await {
                exiting.flush_purges(Instant::now() + FLUSH_TIMEOUT).await;
                drop(exit);
            }
        });
        let (worked, stopped) =
            tokio::join!(context.clone().run_worker(0, listeners.proxy), stop_time(stopping));
        drop(working);
        // The admin listener stays up until the last request is answered and the last purge recorded.
        all_drained.recv().await;
        events.stop().await;
        let end = stopped + context.live.load().config.limits.drain;
        context.flush_purges(end.max(Instant::now() + FLUSH_TIMEOUT)).await;
        let lost = events.cdn().stop(CDN_TIMEOUT).await;
        if lost > 0 {
            tracing::error!(targets = lost, "CDN purges lost: they were not taken in time");
        }
        phase.advance(Phase::Flushed);
        drained.notify_one();
        drop(state);
        match admin {
            Some(admin) => worked.and(admin.await.map_err(io::Error::other)?),
            None => worked,
        }
    });
    let rest =
        threads.into_iter().map(|thread| thread.join().unwrap_or(Err(io::Error::other("a worker panicked"))));
    let result = rest.fold(result, Result::and);
    drop(own);
    let proxy = context.live.load();
    proxy.access_log.iter().for_each(|log| log.flush());
    proxy.telemetry.iter().for_each(|telemetry| telemetry.flush());
    result
}

fn build_store(settings: &StoreSettings, clock: &Clock) -> io::Result<Arc<dyn Store>> {
    if settings.redis.is_some() {
        let store = TieredStore::start(settings, clock.clone())?;
        wait_for_redis(&store);
        return Ok(Arc::new(store));
    }
    let epoch = Epoch(u128::from_le_bytes(random_bytes()?));
    Ok(Arc::new(MemoryStore::with_replica_name(
        replica::replica_name(settings.replica.as_deref()),
        settings.memory,
        epoch,
        clock.clone(),
    )))
}

/// Carries out operations on the runtime of the admin endpoints, so that no client that leaves ends them.
fn make_operator(state: &Arc<ArcSwap<AdminState>>) -> Operator {
    // The state holds the proxy, which holds this.
    let (state, runtime) = (Arc::downgrade(state), Handle::current());
    Arc::new(move |operation, from, request| {
        let state = state.upgrade();
        let task = runtime
            .spawn(async move { Some(admin::operate(&state?.load_full(), operation, from, request).await) });
        Box::pin(async move { task.await.ok().flatten() })
    })
}

/// Waits briefly for the first connection, so that an early write is neither refused nor hidden from other replicas.
fn wait_for_redis(store: &dyn Store) {
    let began = Moment::now();
    while let Some(remote) = store.remote_status().filter(RemoteStatus::is_unavailable) {
        let is_connecting = remote.failure.is_none_or(|reason| reason.code == CONNECTING);
        if began.elapsed() >= if is_connecting { REDIS_CONNECT_WAIT } else { REDIS_RETRY_WAIT } {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn build_runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Records the dashboard's samples.
async fn sample_metrics(live: SharedProxy) {
    loop {
        tokio::time::sleep(SAMPLE_INTERVAL).await;
        let proxy = live.load();
        proxy.metrics.record_sample(proxy.clock.now());
    }
}

/// Beats while the thread's runtime is turning.
async fn run_heartbeat(worker: usize, heart: WorkerHeartbeat) {
    loop {
        tokio::time::sleep(WATCHDOG_INTERVAL).await;
        if let Some(stalled) = heart.beat(Moment::now()) {
            let seconds = stalled.as_secs_f64();
            tracing::warn!(worker, seconds, "worker thread was blocked");
        }
    }
}

/// State shared by all threads.
#[derive(Clone)]
struct WorkerContext {
    live: SharedProxy,
    readiness: Readiness,
    client_slots: Arc<Semaphore>,
    clients: Arc<ClientRegistry>,
    /// One per listener.
    transports: Vec<ListenerTransport>,
    listeners_outlive: bool,
}

impl WorkerContext {
    fn new(config: Config, clock: Clock, listeners_outlive: bool) -> io::Result<Self> {
        let transports = config
            .listener_settings
            .iter()
            .map(ListenerTransport::from_settings)
            .collect::<io::Result<Vec<_>>>()?;
        let store = build_store(&config.store, &clock)?;
        let client_slots = Arc::new(Semaphore::new(server::fd_limit::connections_within_fd_limit(
            config.limits.connections,
            config.upstream.max_connections + config.upstream.max_streams,
        )));
        let proxy = Proxy::new(config, store, clock)?;
        proxy.metrics.record_config_loaded(proxy.clock.now());
        let certificates = transports.iter().filter_map(|transport| transport.tls.as_ref());
        proxy.metrics.set_certificate_expiries(certificates.flat_map(|tls| tls.expiries()).collect());
        Ok(Self {
            live: Arc::new(ArcSwap::from_pointee(proxy)),
            client_slots,
            clients: Arc::default(),
            transports,
            readiness: Readiness::new(),
            listeners_outlive,
        })
    }

    /// Serves one thread's share until it has drained. A listener that fails stops the process: half a proxy would
    /// look like a whole one.
    async fn run_worker(self, number: usize, listeners: Vec<Listener>) -> io::Result<()> {
        let phase = self.readiness.phase().clone();
        let heart = self.live.load().metrics.watch_worker(number, Moment::now());
        let beating = tokio::spawn(run_heartbeat(number, heart));
        let handle = WorkerHandle::new(self.live.clone());
        let (mut serving, outlive) = (JoinSet::new(), self.listeners_outlive);
        let transports =
            self.transports.into_iter().chain(std::iter::repeat_with(ListenerTransport::default));
        for (listener, transport) in listeners.into_iter().zip(transports) {
            let server = Server {
                transport,
                workers: handle.clone(),
                slots: self.client_slots.clone(),
                clients: self.clients.clone(),
                metrics: self.live.load().metrics.clone(),
                outlives_process: outlive,
            };
            let phase = phase.clone();
            serving.spawn(async move {
                let served = server.serve(listener, phase.subscribe()).await;
                phase.advance(Phase::Stopping);
                served
            });
        }
        let (served, stopped) = tokio::join!(serving.join_all(), stop_time(phase.subscribe()));
        let proxy = self.live.load_full();
        proxy.tasks.close();
        let end = stopped + proxy.config.limits.drain;
        if timeout_at(end, proxy.tasks.wait()).await.is_err() {
            tracing::warn!("writes or fetches were cut off after `limits.drain`");
        }
        beating.abort();
        served.into_iter().collect()
    }

    /// Purges unconfirmed writes and sends pending purges to Redis, until `end`.
    async fn flush_purges(&self, end: Instant) {
        const AGAIN: Duration = Duration::from_millis(20);
        let proxy = self.live.load_full();
        let waiting = || proxy.store.remote_status().map_or(0, |remote| remote.pending_purges);
        let settled = timeout_at(end, async {
            proxy.purge_pending_writes().await;
            while waiting() > 0 && !(proxy.store.sync().await && waiting() == 0) {
                sleep(AGAIN).await;
            }
        });
        if settled.await.is_err() {
            let targets = waiting() + proxy.events.throttle().pending();
            tracing::error!(targets, "purges lost: Redis did not accept them in time");
        }
        proxy.store.deregister().await;
    }
}

/// Resolves when the process stops accepting connections.
async fn stop_time(mut phase: PhaseReceiver) -> Instant {
    phase.reached(Phase::Stopping).await;
    Instant::now()
}
