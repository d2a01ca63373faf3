//! One larder: the real store, purges and guards, with what the proxy does around them for a read and a write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use larder::clock::Clock;
use larder::events::EventSources;
use larder::policy::CacheKey;
use larder::purge::{IntentId, NormalizedPath, Purge, PurgeMode, PurgeVersion, Target, TargetId};
use larder::purging::{GuardError, IntentGuard};
use larder::random::random_bytes;
use larder::store::tiered::TieredStore;
use larder::store::{PurgeStore, ReplicaRegistry, Store};
use tokio::time::{sleep, timeout};

use crate::history::History;
use crate::process::Process;
use crate::reading::Fetches;
use crate::rules::{self, Rules, tag};
use crate::setting::Setting;
use crate::upstream::{ITEMS, RESPONSE_TIMEOUT, Upstream, WriteEnd};

/// How long a guarded write may take under one recording of its intent.
pub const GUARD_LIMIT: Duration = Duration::from_millis(200);

pub struct Replica {
    pub process: Arc<Process>,
    pub store: Arc<TieredStore>,
    pub clock: Clock,
    /// The number of the rules in use: the same tags have other names under other rules.
    rules: AtomicU64,
    reloads: AtomicU64,
    /// The consumer of change events, where there is a stream of them.
    events: Option<Arc<EventSources>>,
    pub world: Arc<Surroundings>,
    pub fetches: Fetches,
}

/// The parts that all replicas have in common.
pub struct Surroundings {
    pub setting: Setting,
    pub upstream: Arc<Upstream>,
    pub history: History,
}

/// How a write ended for its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It did not take place.
    Refused,
    Done {
        version: u64,
        purge: Option<PurgeVersion>,
        position: String,
    },
    /// It takes effect soon, or never.
    Unknown {
        is_purged: bool,
    },
}

impl Replica {
    pub fn start(
        world: &Arc<Surroundings>,
        slot: usize,
        process: Arc<Process>,
        clock: Clock,
        rules: u64,
    ) -> Arc<Self> {
        let settings = world.setting.store(slot);
        let bounds = world.setting.bounds();
        let starting = || TieredStore::start_on_this_runtime(bounds, &settings, clock.clone());
        let store = Arc::new(process.enter(starting).expect("a store"));
        let events = world.setting.has_events.then(|| {
            let (store, clock): (Arc<dyn Store>, _) = (store.clone(), clock.clone());
            let Rules { routes, events } = rules::numbered(rules);
            let start = || EventSources::new(events, store, Arc::default(), routes.clone(), clock);
            process.enter(start).expect("a source")
        });
        let rules_number = AtomicU64::new(rules);
        let (reloads, fetches) = (AtomicU64::new(0), Fetches::default());
        let replica = Self {
            process,
            store,
            clock,
            rules: rules_number,
            reloads,
            events,
            world: world.clone(),
            fetches,
        };
        replica.use_rules(rules);
        replica.process.enter(|| replica.events.iter().for_each(|events| events.start()));
        Arc::new(replica)
    }

    pub fn rules(&self) -> u64 {
        self.rules.load(Ordering::SeqCst)
    }

    /// How often rules were taken into use.
    pub fn reloads(&self) -> u64 {
        self.reloads.load(Ordering::SeqCst)
    }

    /// A reload.
    pub fn use_rules(&self, rules: u64) {
        self.rules.store(rules, Ordering::SeqCst);
        self.reloads.fetch_add(1, Ordering::SeqCst);
        self.process.enter(|| self.store.use_rules(rules_id(rules)));
        // Other events come with a restart. Until then they go with the former routes, as in `reload.rs`.
    }

    /// Forwards a write, and purges what it changes before it answers.
    pub async fn write(
        self: Arc<Self>,
        (item, id): (usize, u64),
        soft: bool,
        slow_for: Duration,
        sent: impl Fn() + Send,
    ) -> Written {
        let rules = self.rules();
        let targets = vec![Target::tag(tag(rules, item))];
        let mut purge = Purge { rules: Some(rules_id(rules)), ..Purge::hard(targets) };
        // Its content is sent slowly.
        if !slow_for.is_zero() {
            sleep(slow_for).await;
        }
        let upstream = self.world.upstream.clone();
        let mut guard = None;
        let end = match self.world.setting.guarded {
            false => {
                sent();
                upstream.write(item, id).await
            }
            true => {
                let mut acquired = self.guard(&purge);
                if acquired.record().await.is_err() {
                    self.abort(acquired);
                    return Written::Refused;
                }
                let writing = async {
                    upstream.connect(&self.process).await;
                    sent();
                    upstream.write(item, id).await
                };
                let run = acquired.run(writing).await;
                if matches!(run, Err(GuardError::NotRecorded(_))) {
                    self.abort(acquired);
                    return Written::Refused;
                }
                guard = Some(acquired);
                run.unwrap_or(WriteEnd::Unknown)
            }
        };
        purge.resolves = guard.map(IntentGuard::into_intent);
        match end {
            WriteEnd::Done { version } => {
                purge.mode = if soft { PurgeMode::Soft } else { PurgeMode::Hard };
                let purge = self.store.purge(purge).await.ok();
                let position = purge.map(|version| self.store.position(version)).unwrap_or_default();
                Written::Done { version, purge, position }
            }
            WriteEnd::Unknown => {
                purge.in_doubt_for = RESPONSE_TIMEOUT + self.world.setting.settle;
                Written::Unknown { is_purged: self.store.purge(purge).await.is_ok() }
            }
        }
    }

    fn guard(&self, purge: &Purge) -> IntentGuard {
        let store: Arc<dyn Store> = self.store.clone();
        let id = IntentId(random_bytes().expect("randomness"));
        let outlives = RESPONSE_TIMEOUT + self.world.setting.settle;
        IntentGuard::new(store, id, purge.ids(), GUARD_LIMIT, outlives)
    }

    fn abort(&self, guard: IntentGuard) {
        let nothing = Purge { resolves: Some(guard.into_intent()), ..Purge::hard(Vec::new()) };
        let purging = self.store.purge(nothing);
        larder::tasks::spawn(async move { _ = purging.await });
    }

    /// A purge that an operator asks for: of one resource, or of all.
    pub async fn purge(self: Arc<Self>, resource: Option<usize>) -> Option<PurgeVersion> {
        let target = match resource {
            Some(resource) => Target::Path { host: None, path: NormalizedPath::new(&path(resource)) },
            None => Target::Everything,
        };
        self.store.purge(Purge::hard(vec![target])).await.ok()
    }

    /// Ends as on a signal: its purges go to Redis while there is time, and then no purge waits for it any more.
    pub async fn leave(self: Arc<Self>) {
        let pending = || self.store.remote_status().map_or(0, |remote| remote.pending_purges);
        let flushing = async {
            while pending() > 0 && !(self.store.sync().await && pending() == 0) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        _ = timeout(Duration::from_millis(300), flushing).await;
        self.store.deregister().await;
    }

    /// `Purge-Wait: applied`.
    pub async fn wait_applied(self: Arc<Self>, version: PurgeVersion) -> bool {
        let missing = self.store.wait_replicated(version, Duration::from_millis(400)).await;
        missing.is_ok_and(|missing| missing.is_empty())
    }
}

pub fn key(resource: usize) -> CacheKey {
    CacheKey([resource as u8 + 1; 32])
}

pub fn path(resource: usize) -> String {
    if resource == ITEMS { "/items".to_owned() } else { format!("/items/{resource}") }
}

pub fn rules_id(rules: u64) -> TargetId {
    rules::numbered(rules).routes.rules()
}
