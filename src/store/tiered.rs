//! The two-tier store: responses in this process, and in Redis for all replicas. A purge holds for all of them.
//!
//! A hit in the first tier costs no await while the view was confirmed within `max_lag`. In strict mode (`max_lag: 0s`)
//! each hit waits for a confirmation that was sent after the request arrived. A failure of Redis never reaches the
//! client: what can't be confirmed within the deadline is a miss.

mod lag_policy;
mod purges;
mod responses;
mod sharing;
mod writing;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

use super::StoreError;
use super::audit_log::AuditLog;
use super::encoding::{ValueCompressor, ValueSeal};
use super::first_tier::FirstTier;
use super::redis::{
    FetchLeases, KeyNames, Membership, RedisError, RedisIndex, SentinelTrust, Servers, listen_for_wake_ups,
    poll_memory,
};
use super::replica;
use crate::clock::{Clock, Moment};
use crate::config::{OnStoreLoss, StoreSettings};
use crate::memory_budget::MemoryBudget;
use crate::purge::{IndexBounds, PositionKey};
use crate::tasks::spawn;
use lag_policy::LagPolicy;

/// Interval of confirmations in strict mode. Hits send their own; this one keeps the clocks compared and notices a
/// server that is down.
const STRICT_SYNC_INTERVAL: Duration = Duration::from_millis(250);
const MIN_SYNC_INTERVAL: Duration = Duration::from_millis(5);
const MAX_SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// A memory tier over Redis, which all replicas share.
pub struct TieredStore {
    tiers: Arc<Tiers>,
    /// Dropping it ends the store's thread, if it has one.
    _running: Option<watch::Sender<()>>,
}

struct Tiers {
    first: FirstTier,
    memory: Arc<MemoryBudget>,
    has_local_tier: bool,
    index: Arc<RedisIndex>,
    servers: Arc<Servers>,
    keys: KeyNames,
    lag: LagPolicy,
    clock: Clock,
    /// For a whole look-up or write.
    deadline: Duration,
    leases: Arc<FetchLeases>,
    /// Compresses values in Redis, before they are sealed.
    compressor: Option<ValueCompressor>,
    /// Encrypts or signs values in Redis.
    seal: Option<ValueSeal>,
    /// Values in Redis that were forged, damaged, or written with other keys.
    rejected_values: AtomicU64,
    /// This replica's own purges, for when Redis can't be read.
    audit: AuditLog,
    replica: String,
    /// Signs `Larder-Position`.
    position_key: PositionKey,
}

impl TieredStore {
    /// Connects in the background: Redis need not be up. Connections and the upkeep of the view live on a thread of
    /// their own.
    ///
    /// # Errors
    /// If `store.redis` is not set, the thread can't be started, or a TLS file can't be read.
    pub(crate) fn start(settings: &StoreSettings, clock: Clock) -> io::Result<Self> {
        Self::start_with_bounds(IndexBounds::default(), settings, clock)
    }

    /// Starts with other bounds of the purge index.
    ///
    /// # Errors
    /// The same.
    pub fn start_with_bounds(
        bounds: IndexBounds,
        settings: &StoreSettings,
        clock: Clock,
    ) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let store = Self::start_on_this_runtime(bounds, settings, clock)?;
        drop(entered);
        let (running, mut stopped) = watch::channel(());
        std::thread::Builder::new().name("larder-store".to_owned()).spawn(move || {
            // `changed` fails once the sender is dropped.
            runtime.block_on(async { while stopped.changed().await.is_ok() {} });
        })?;
        Ok(Self { _running: Some(running), ..store })
    }

    /// [`TieredStore::start_with_bounds`] without a thread: connections and upkeep live on the current runtime.
    ///
    /// # Errors
    /// If `store.redis` is not set, or a TLS file can't be read.
    pub fn start_on_this_runtime(
        bounds: IndexBounds,
        settings: &StoreSettings,
        clock: Clock,
    ) -> io::Result<Self> {
        let redis = settings.redis.as_ref().ok_or_else(|| io::Error::other("`store.redis` is not set"))?;
        let mut keys = KeyNames::new(&settings.namespace);
        keys.publish = settings.publish.clone().unwrap_or_default();
        let trust = SentinelTrust::for_max_lag(settings.max_lag);
        let interval = match settings.max_lag {
            Duration::ZERO => STRICT_SYNC_INTERVAL,
            lag => (lag / 4).clamp(MIN_SYNC_INTERVAL, MAX_SYNC_INTERVAL),
        };
        let servers = Servers::connect(redis, &keys, settings.timeout, trust)?;
        let replica = replica::replica_name(settings.replica.as_deref());
        let index = Arc::new(RedisIndex::new(
            servers.clone(),
            keys.clone(),
            Membership::new(replica.clone(), max_unconfirmed_time(settings), clock.now())?,
            bounds,
            clock.clone(),
            settings.timeout,
            interval,
        ));
        spawn(index.clone().run());
        spawn(poll_memory(servers.clone(), settings.timeout));
        let leases = Arc::new(FetchLeases::new(index.clone(), Handle::current(), settings.timeout));
        spawn(listen_for_wake_ups(keys.wake.clone(), index.clone(), leases.clone()));
        let tiers = Tiers {
            first: FirstTier::new(settings.memory),
            memory: MemoryBudget::new(settings.memory),
            has_local_tier: settings.memory > 0,
            index,
            servers,
            keys,
            lag: LagPolicy::new(settings.max_lag, settings.on_store_loss),
            clock,
            deadline: settings.timeout,
            leases,
            compressor: settings.compress.as_ref().map(ValueCompressor::new),
            seal: settings.sealing().and_then(|(mode, keys)| ValueSeal::new(mode, keys, &settings.namespace)),
            rejected_values: AtomicU64::new(0),
            audit: AuditLog::default(),
            replica,
            position_key: PositionKey::derive(&[
                settings.namespace.as_bytes(),
                redis.password.as_ref().map_or("", |password| password.expose()).as_bytes(),
            ]),
        };
        Ok(Self { tiers: Arc::new(tiers), _running: None })
    }
}

impl Tiers {
    /// Whether the view, confirmed at `confirmed`, may answer a question that does not say when its request arrived.
    fn may_serve_local(&self, confirmed: Option<Moment>) -> bool {
        let now = Moment::now();
        self.lag.is_view_trusted(confirmed, now)
            || (!self.index.is_reachable() && self.lag.is_within_store_loss(confirmed, now))
    }
}

fn unavailable(failure: RedisError) -> StoreError {
    StoreError::Unavailable(failure.to_string())
}

/// The longest time that a replica answers from its view without a reply from Redis.
fn max_unconfirmed_time(settings: &StoreSettings) -> Duration {
    match settings.on_store_loss {
        OnStoreLoss::Bypass => settings.max_lag,
        OnStoreLoss::Serve(serve) => settings.max_lag.max(serve),
    }
}
