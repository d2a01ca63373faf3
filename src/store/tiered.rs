//! Two tiers: responses in this process, and in Redis for all replicas. A purge holds for all of them.
//!
//! A hit of the first tier costs no await while the view is confirmed within `max_lag`. Strict (`max_lag: 0s`), each
//! waits for a confirmation that was sent after the request arrived. Trouble with Redis is never the client's: what is
//! not proved within the deadline is a miss.

mod trust;
mod writing;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::yield_now;

use super::encoding;
use super::first_tier::{self, FirstTier};
use super::history::{History, Purges};
use super::redis::{
    Beat, Command, Failure, Keys, Leases, REMOVE, RedisIndex, Sent, Servers, history, listen, memory, sources,
};
use super::remote::{Remote, Replica};
use super::replica;
use super::sources::{Known, Word};
use super::{Figures, Fill, Found, Recall, Seen, Store, StoreError, Tier, Turn, Waiting};
use crate::clock::{Clock, Moment};
use crate::config::{OnStoreLoss, RedisSettings, StoreSettings};
use crate::policy::CacheKey;
use crate::purge::{Asked, Bounds, Incarnation, Mark, Position, Purge, Record, Stamp, TargetId, Validity};
use crate::stored_response::{Stored, StoredResponse};
use trust::Trust;

/// So much of a value that can't be read is compared before it is removed: magic, lengths, checksum.
const BEGINNING: usize = 22;

/// In strict mode nothing needs the timer; it keeps the clocks compared and notices a server that has gone.
const STRICT_INTERVAL: Duration = Duration::from_millis(250);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(5);
const LONGEST_INTERVAL: Duration = Duration::from_secs(1);

pub struct TieredStore {
    tiers: Arc<Tiers>,
    /// Its end is the end of the thread.
    _running: watch::Sender<()>,
}

struct Tiers {
    first: FirstTier,
    /// There is room in the first tier.
    keeps: bool,
    index: Arc<RedisIndex>,
    servers: Arc<Servers>,
    keys: Keys,
    trust: Trust,
    clock: Clock,
    deadline: Duration,
    leases: Arc<Leases>,
    /// Of this replica's own purges, for when Redis can't be asked.
    history: History,
    replica: String,
}

impl TieredStore {
    /// Connects in the background: Redis need not be there. Connections and the upkeep of the view live on a thread of
    /// their own.
    ///
    /// # Errors
    /// If the thread can't be set up, or a file for TLS can't be read.
    pub fn start(settings: &StoreSettings, redis: &RedisSettings, clock: Clock) -> io::Result<Self> {
        Self::start_within(Bounds::default(), settings, redis, clock)
    }

    /// As [`TieredStore::start`], with a purge index of these bounds.
    ///
    /// # Errors
    /// As there.
    pub fn start_within(
        bounds: Bounds,
        settings: &StoreSettings,
        redis: &RedisSettings,
        clock: Clock,
    ) -> io::Result<Self> {
        let mut keys = Keys::new(&settings.namespace);
        keys.publish.clone_from(&settings.publish);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let servers = Servers::connect(redis, &keys, settings.timeout)?;
        let interval = match settings.max_lag {
            Duration::ZERO => STRICT_INTERVAL,
            lag => (lag / 4).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL),
        };
        let replica = replica::name(settings.replica.as_deref());
        let index = RedisIndex::new(
            servers.clone(),
            keys.clone(),
            Beat::new(replica.clone(), trusted_for(settings)),
            bounds,
            clock.clone(),
            settings.timeout,
            interval,
        );
        let index = Arc::new(index);
        tokio::spawn(index.clone().keep());
        tokio::spawn(memory::watch(servers.clone(), settings.timeout));
        let leases = Arc::new(Leases::new(index.clone(), runtime.handle().clone(), settings.timeout));
        tokio::spawn(listen(keys.wake.clone(), index.clone(), leases.clone()));
        drop(entered);
        let (running, mut stopped) = watch::channel(());
        std::thread::Builder::new().name("larder-store".to_owned()).spawn(move || {
            // An error says that the sender has gone, which is what is waited for.
            runtime.block_on(async { while stopped.changed().await.is_ok() {} });
        })?;
        let tiers = Tiers {
            first: FirstTier::new(settings.memory),
            keeps: settings.memory > 0,
            index,
            servers,
            keys,
            trust: Trust::new(settings.max_lag, settings.on_store_loss),
            clock,
            deadline: settings.timeout,
            leases,
            history: History::default(),
            replica,
        };
        Ok(Self { tiers: Arc::new(tiers), _running: running })
    }
}

impl Store for TieredStore {
    fn recall(&self, key: &CacheKey) -> Recall {
        let (tiers, arrived) = (&self.tiers, Moment::now());
        if !tiers.trust.is_strict() {
            let proved = tiers.index.view.confirmed_at();
            let found = tiers.here(key);
            if tiers.trust.holds(proved, Moment::now()) {
                match found {
                    Some(found) => return Recall::Ready(Some(found)),
                    None if !tiers.index.is_reachable() => return Recall::Ready(None),
                    None => {}
                }
            }
        }
        if !tiers.index.is_reachable() {
            return Recall::Ready(tiers.without_redis(key, arrived));
        }
        let (tiers, key) = (tiers.clone(), *key);
        Recall::Waiting(Box::pin(async move { tiers.recall_from(&key, arrived, false).await }))
    }

    fn recall_here(&self, key: &CacheKey) -> Option<Found> {
        let tiers = &self.tiers;
        let proved = tiers.index.view.confirmed_at();
        let found = tiers.here(key)?;
        tiers.vouches(proved).then_some(found)
    }

    fn recall_shared(&self, key: &CacheKey) -> Waiting<Option<Found>> {
        if !self.tiers.index.is_reachable() {
            return Box::pin(std::future::ready(self.recall_here(key)));
        }
        let (tiers, key, arrived) = (self.tiers.clone(), *key, Moment::now());
        Box::pin(async move { tiers.recall_from(&key, arrived, true).await })
    }

    /// The stamp of the last confirmation, which lies before the fetch: what was purged since kills the fill. Before
    /// the first word from Redis the fill is void.
    fn permit(&self, key: &CacheKey) -> Fill {
        Fill::new(*key, self.tiers.index.view.read().stamp())
    }

    fn turn(&self, key: &CacheKey, has_looked: bool, within: Duration) -> Waiting<Turn> {
        Box::pin(self.tiers.leases.clone().turn(*key, has_looked, within))
    }

    /// Nobody vouches for what is not proved: it counts as dead.
    fn judge(&self, stamp: &Stamp, targets: &[TargetId]) -> Validity {
        let view = &self.tiers.index.view;
        let proved = view.confirmed_at();
        let validity = view.judge(stamp, targets);
        if self.tiers.vouches(proved) { validity } else { Validity::Dead }
    }

    fn is_unpurged(&self, stamp: &Stamp) -> bool {
        let view = &self.tiers.index.view;
        let proved = view.confirmed_at();
        let is_unpurged = view.read().is_unpurged(stamp);
        self.tiers.vouches(proved) && is_unpurged
    }

    fn insert(&self, fill: Fill, stored: Stored) -> Waiting<Result<(), StoreError>> {
        if fill.stamp().incarnation == Incarnation::NONE {
            let reason = "it was fetched before the first word from Redis".to_owned();
            return Box::pin(async { Err(StoreError::NotStored(reason)) });
        }
        let tiers = self.tiers.clone();
        if !fill.yields {
            tiers.keep(&fill, &stored);
            return Box::pin(async move { tiers.write(&fill, &stored).await });
        }
        Box::pin(async move {
            let written = tiers.write(&fill, &stored).await;
            if !matches!(written, Err(StoreError::Outdated)) {
                tiers.keep(&fill, &stored);
            }
            written
        })
    }

    fn purge(&self, purge: Purge) -> Waiting<Result<Position, StoreError>> {
        let tiers = self.tiers.clone();
        Box::pin(async move {
            let purged = tiers.index.purge(&purge).await;
            let position = purged.map_err(|failure| StoreError::PurgeNotTaken(failure.to_string()))?;
            if let Some(record) = Record::of(&purge, &tiers.replica) {
                tiers.history.add(Record { position, at: tiers.clock.now(), ..record });
            }
            Ok(position)
        })
    }

    fn catch_up(&self) -> Waiting<bool> {
        let (tiers, arrived) = (self.tiers.clone(), Moment::now());
        Box::pin(async move {
            tiers.index.is_reachable()
                && tiers.index.confirmed_since(arrived, arrived.plus(tiers.deadline)).await
        })
    }

    fn mark(&self, mark: Mark) -> Waiting<Result<(), StoreError>> {
        let index = self.tiers.index.clone();
        Box::pin(async move {
            index.mark(&mark).await.map_err(|failure| StoreError::NotMarked(failure.to_string()))
        })
    }

    /// Redis' own; this replica's where that can't be had.
    fn purges(&self, asked: Asked) -> Waiting<Purges> {
        let tiers = self.tiers.clone();
        Box::pin(async move {
            match history::read(&tiers.servers, &tiers.keys, &asked).await {
                Ok(records) => Purges { records, of_all_replicas: true },
                Err(failure) => {
                    tracing::debug!(%failure, "the journal of purges can't be read");
                    Purges { records: tiers.history.read(&asked), of_all_replicas: false }
                }
            }
        })
    }

    fn replicas(&self) -> Waiting<Result<Vec<Replica>, StoreError>> {
        let index = self.tiers.index.clone();
        Box::pin(async move { index.replicas().await.map_err(not_asked) })
    }

    fn known_everywhere(
        &self,
        position: Position,
        within: Duration,
    ) -> Waiting<Result<Vec<Replica>, StoreError>> {
        let index = self.tiers.index.clone();
        Box::pin(async move { index.known_everywhere(position, within).await.map_err(not_asked) })
    }

    fn look(&self, key: &CacheKey) -> Waiting<Option<Seen>> {
        let (tiers, key) = (self.tiers.clone(), *key);
        Box::pin(async move { tiers.look(&key).await })
    }

    fn known_here(&self) -> Vec<StoredResponse> {
        self.tiers.first.known()
    }

    fn keeps(&self) -> bool {
        self.tiers.keeps
    }

    fn leave(&self) -> Waiting<()> {
        let index = self.tiers.index.clone();
        Box::pin(async move { index.leave().await })
    }

    fn tell_of_source(&self, word: Word) -> Waiting<Result<Known, StoreError>> {
        let tiers = self.tiers.clone();
        Box::pin(async move {
            sources::tell(&tiers.servers, &tiers.keys, &word, tiers.deadline).await.map_err(not_asked)
        })
    }

    fn was_seen(&self, id: &str) -> Waiting<Result<bool, StoreError>> {
        let (tiers, id) = (self.tiers.clone(), id.to_owned());
        Box::pin(async move {
            sources::was_seen(&tiers.servers, &tiers.keys, &id, tiers.deadline).await.map_err(not_asked)
        })
    }

    fn remember_seen(&self, id: &str, lasts: Duration) -> Waiting<Result<(), StoreError>> {
        let (tiers, id) = (self.tiers.clone(), id.to_owned());
        Box::pin(async move {
            sources::remember(&tiers.servers, &tiers.keys, &id, lasts, tiers.deadline)
                .await
                .map_err(not_asked)
        })
    }

    fn latest(&self) -> Position {
        self.tiers.index.view.read().high_water()
    }

    fn figures(&self) -> Figures {
        self.tiers.first.figures(&self.tiers.index.view)
    }

    fn remote(&self) -> Option<Remote> {
        let figures = self.tiers.index.figures(self.tiers.trust.max_lag());
        Some(Remote { leases: self.tiers.leases.figures(), ..figures })
    }
}

impl Tiers {
    fn here(&self, key: &CacheKey) -> Option<Found> {
        if self.keeps { self.first.find(key, &self.index.view, self.clock.now()) } else { None }
    }

    fn keep(&self, fill: &Fill, stored: &Stored) {
        self.first.insert(*fill.key(), stored.clone(), &self.index.view);
    }

    /// For a question that does not say when its request arrived.
    fn vouches(&self, proved: Option<Moment>) -> bool {
        let now = Moment::now();
        self.trust.vouches(proved, now) || (!self.index.is_reachable() && self.trust.goes_on(proved, now))
    }

    /// Redis is away: `on_store_loss` says whether the first tier goes on.
    fn without_redis(&self, key: &CacheKey, arrived: Moment) -> Option<Found> {
        self.trust.doubt(arrived);
        let proved = self.index.view.confirmed_at();
        let found = self.here(key);
        if self.trust.goes_on(proved, Moment::now()) { found } else { None }
    }

    /// One deadline for all of it. `beyond`: Redis is asked also for what is here.
    async fn recall_from(&self, key: &CacheKey, arrived: Moment, beyond: bool) -> Option<Found> {
        let view = &self.index.view;
        let proved_by = self.trust.proved_by(arrived);
        if view.confirmed_at().is_none_or(|confirmed| confirmed < proved_by)
            && !self.index.confirmed_since(proved_by, arrived.plus(self.deadline)).await
        {
            return self.without_redis(key, Moment::now());
        }
        let mut found = self.here(key);
        if found.is_none() || beyond {
            let read = self.read(key, self.deadline.saturating_sub(Moment::now().since(arrived)));
            found = read.await.or(found);
            if found.is_some() {
                // All that were read together are decoded first. Then their answers go out one right after another,
                // and a client that waits for them is not woken for each.
                yield_now().await;
            }
        }
        // In bounded mode time has passed; what was judged is judged by a view that was confirmed since.
        let proved = view.confirmed_at();
        let found = first_tier::found(found?.stored, view);
        if self.trust.is_strict() || self.trust.holds(proved, Moment::now()) { found } else { None }
    }

    async fn look(&self, key: &CacheKey) -> Option<Seen> {
        let view = &self.index.view;
        if let Some(stored) = self.first.peek(key) {
            return Some(Seen::of(stored, Tier::Memory, view));
        }
        let value = self.servers.get(self.keys.response(key), self.deadline).await.ok()??;
        let stored = encoding::decode(key, &Bytes::copy_from_slice(&value), &self.index.clocks()?)?;
        Some(Seen::of(stored, Tier::Redis, view))
    }

    /// From Redis; what is there and valid goes to the first tier as well, unless that has a newer one.
    async fn read(&self, key: &CacheKey, within: Duration) -> Option<Found> {
        let within = within.max(Duration::from_millis(1));
        let value = match self.servers.get(self.keys.response(key), within).await {
            Ok(value) => value?,
            Err(Failure::Refused(reason)) => {
                if reason.contains("WRONGTYPE") {
                    self.remove(self.keys.response(key), Bytes::new());
                }
                return None;
            }
            Err(_) => return None,
        };
        // A slice of the connection's read buffer: kept, it would keep all of that.
        let value = Bytes::copy_from_slice(&value);
        let clocks = self.index.clocks()?;
        let Some(stored) = encoding::decode(key, &value, &clocks) else {
            self.remove(self.keys.response(key), value.slice(..value.len().min(BEGINNING)));
            return None;
        };
        if !self.is_of_now(&stored) {
            return None;
        }
        let found = first_tier::found(stored.clone(), &self.index.view)?;
        // Stored here meanwhile: who was given that is not taken back to what another replica fetched before.
        if let Some(here) = self.here(key).filter(|here| !is_later(&stored, &here.stored)) {
            return Some(here);
        }
        self.first.insert(*key, stored, &self.index.view);
        Some(found)
    }

    /// It has not expired, and was not received later than now, which a clock that was set back makes: how old it is then,
    /// nobody knows.
    fn is_of_now(&self, stored: &Stored) -> bool {
        let now = self.clock.now();
        let is_known = match stored {
            Stored::Variants(_) => true,
            Stored::Response(response) => response.head.terms().received_at <= now,
        };
        is_known && stored.expires_at() > now
    }

    /// In the background: whether it is gone matters to nobody.
    fn remove(&self, name: String, beginning: Bytes) {
        tracing::warn!(name, "a value in Redis can't be read, and is removed");
        let (servers, within) = (self.servers.clone(), self.deadline);
        tokio::spawn(async move {
            let keys = [name.as_str()];
            let removed =
                servers.run(Command::Remove, &REMOVE, &keys, vec![beginning], Sent::IfHealthy, within).await;
            if let Err(failure) = removed {
                tracing::debug!(%failure, "not removed");
            }
        });
    }
}

fn not_asked(failure: Failure) -> StoreError {
    StoreError::NotAsked(failure.to_string())
}

/// How long a replica may answer from its view without a word from Redis.
fn trusted_for(settings: &StoreSettings) -> Duration {
    match settings.on_store_loss {
        OnStoreLoss::Bypass => settings.max_lag,
        OnStoreLoss::Serve(serve) => settings.max_lag.max(serve),
    }
}

/// Whether one response is of a later fetch than another.
fn is_later(one: &Stored, other: &Stored) -> bool {
    match (one, other) {
        (Stored::Response(one), Stored::Response(other)) => {
            one.head.terms().requested_at > other.head.terms().requested_at
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_waiting<F>(_: impl Fn(&'static Tiers, &'static CacheKey, Moment, bool) -> F) -> usize {
        size_of::<F>()
    }

    /// As many wait at a time as there are requests, and what the allocator keeps ready is not enough for large ones.
    #[test]
    fn waiting_for_redis_takes_little_room() {
        let room = size_of_waiting(Tiers::recall_from);
        assert!(room <= 1024, "{room}");
    }
}
