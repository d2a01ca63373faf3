//! One larder: the real store, purges and guards, with what the proxy does around them for a read and a write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use larder::clock::{Clock, Timestamp};
use larder::events::EventSources;
use larder::policy::response_admission::response_targets;
use larder::policy::{CacheKey, Fingerprint, RequestHead};
use larder::purge::{
    IntentId, NormalizedPath, Purge, PurgeMode, PurgeVersion, Target, TargetId, ValidityCache,
};
use larder::purging::{GuardError, IntentGuard};
use larder::random::random_bytes;
use larder::store::tiered::TieredStore;
use larder::store::{
    FetchLease, FetchLocks, FetchToken, LeaseDecision, LeaseOutcome, PurgeStore, ReplicaRegistry,
    ResponseStore, Store,
};
use larder::stored_response::{StoredEntry, StoredFields, StoredHead, StoredResponse, Terms};

use crate::history::{Body, History, Obtained};
use crate::process::Process;
use crate::rules::{self, Rules, tag};
use crate::setting::Setting;
use crate::upstream::{ITEMS, RESPONSE_TIMEOUT, Upstream, WriteEnd};

/// How long a guarded write may take under one recording of its intent.
pub const GUARD_LIMIT: Duration = Duration::from_millis(200);
const LEASE_PATIENCE: Duration = Duration::from_millis(300);

pub struct Replica {
    pub process: Arc<Process>,
    pub store: Arc<TieredStore>,
    clock: Clock,
    /// The number of the rules in use: the same tags have other names under other rules.
    rules: AtomicU64,
    /// The consumer of change events, where there is a stream of them.
    events: Option<Arc<EventSources>>,
    world: Arc<Surroundings>,
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
        let redis = settings.redis.as_ref().expect("a server");
        let bounds = world.setting.bounds();
        let starting = || TieredStore::start_on_this_runtime(bounds, &settings, redis, clock.clone());
        let store = Arc::new(process.enter(starting).expect("a store"));
        let events = world.setting.has_events.then(|| {
            let (store, clock): (Arc<dyn Store>, _) = (store.clone(), clock.clone());
            let Rules { routes, events } = rules::numbered(rules);
            let start = || EventSources::new(events, store, Arc::default(), routes.clone(), clock);
            process.enter(start).expect("a source")
        });
        let rules_number = AtomicU64::new(rules);
        let replica = Self { process, store, clock, rules: rules_number, events, world: world.clone() };
        replica.use_rules(rules);
        replica.process.enter(|| replica.events.iter().for_each(|events| events.start()));
        Arc::new(replica)
    }

    pub fn rules(&self) -> u64 {
        self.rules.load(Ordering::SeqCst)
    }

    /// A reload.
    pub fn use_rules(&self, rules: u64) {
        self.rules.store(rules, Ordering::SeqCst);
        self.process.enter(|| self.store.use_rules(rules_target(rules)));
        self.events.iter().for_each(|events| events.use_routes(rules::numbered(rules).routes.clone()));
    }

    /// Answers a request for a resource. `None`: with an error.
    pub async fn read(
        self: Arc<Self>,
        resource: usize,
        position: Option<String>,
    ) -> Option<(Body, Obtained)> {
        let rules = self.rules();
        if let Some(position) = position
            && !self.store.sync_to(&position).await
        {
            let token = self.store.begin_fetch(&key(resource));
            return Some((self.fetch(resource, rules, token, false).await?, Obtained::Fetched));
        }
        if let Some(found) = self.look_up(resource, false).await {
            return self.use_entry(resource, rules, found).await;
        }
        let mut lease = None;
        if self.world.setting.leases {
            for _ in 0..3 {
                match self.store.acquire_fetch_lease(&key(resource), false, LEASE_PATIENCE).await {
                    LeaseDecision::Acquired(acquired) => lease = Some(acquired),
                    LeaseDecision::LookAgain => match self.look_up(resource, false).await {
                        Some(found) => return self.use_entry(resource, rules, found).await,
                        None => continue,
                    },
                    _ => {}
                }
                break;
            }
        }
        let token = self.store.begin_fetch(&key(resource));
        Some((self.fetch_under(lease, resource, rules, token).await?, Obtained::Fetched))
    }

    /// The stored response, and whether it is fresh.
    async fn look_up(&self, resource: usize, past_local: bool) -> Option<(Body, bool)> {
        let found = match past_local {
            true => self.store.get_remote(&key(resource)).await,
            false => self.store.get(&key(resource)).resolve().await,
        }?;
        let StoredEntry::Response(response) = found.stored else { return None };
        let terms = response.head.terms();
        let age = self.clock.now().since(terms.received_at);
        Some((Body::decode(&response.body), age < terms.freshness_lifetime && !found.soft_purged))
    }

    async fn use_entry(
        self: &Arc<Self>,
        resource: usize,
        rules: u64,
        (body, is_fresh): (Body, bool),
    ) -> Option<(Body, Obtained)> {
        if is_fresh {
            return Some((body, Obtained::Hit));
        }
        let token = self.store.begin_fetch(&key(resource));
        Some((self.fetch(resource, rules, token, true).await?, Obtained::Fetched))
    }

    async fn fetch_under(
        &self,
        lease: Option<FetchLease>,
        resource: usize,
        rules: u64,
        token: FetchToken,
    ) -> Option<Body> {
        let body = self.fetch(resource, rules, token, true).await;
        if let Some(lease) = lease {
            lease.release(if body.is_some() { LeaseOutcome::Stored } else { LeaseOutcome::FAILED });
        }
        body
    }

    async fn fetch(&self, resource: usize, rules: u64, token: FetchToken, stores: bool) -> Option<Body> {
        let Setting { settle, leases, .. } = self.world.setting;
        let mut token = token.settled(settle);
        if leases {
            token.yield_to_newer();
        }
        let (begun, requested_at) = (self.world.history.now(), self.clock.now());
        let versions = self.world.upstream.read(resource).await?;
        let body = Body { begun, versions };
        if stores {
            let entry = self.entry(resource, rules, &token, &body, requested_at);
            let is_outdated = self.store.get_local(&key(resource)).is_some_and(|found| match found.stored {
                StoredEntry::Response(stored) => {
                    !found.soft_purged && stored.head.terms().requested_at > requested_at
                }
                StoredEntry::Variants(_) => false,
            });
            if !is_outdated {
                // A response that can't be stored is answered all the same.
                _ = self.store.insert(token, entry).await;
            }
        }
        Some(body)
    }

    fn entry(
        &self,
        resource: usize,
        rules: u64,
        token: &FetchToken,
        body: &Body,
        requested_at: Timestamp,
    ) -> StoredEntry {
        let Setting { ttl, stale, .. } = self.world.setting;
        let tags: Vec<String> = crate::upstream::list_items(resource).map(|item| tag(rules, item)).collect();
        let (path, fields) = (path(resource), HeaderMap::new());
        let request = RequestHead { host: "h", ..RequestHead::new(&Method::GET, &path, &fields) };
        let mut targets = response_targets(rules::route(rules, resource), &request, None, &fields, &tags);
        targets.push(rules_target(rules));
        targets.sort_unstable();
        let now = self.clock.now();
        let terms = Terms {
            freshness_lifetime: ttl,
            expires_at: now.plus(ttl + stale),
            ..Terms::unstored(requested_at, now)
        };
        let head = StoredHead {
            key: key(resource),
            fingerprint: Fingerprint(rules),
            status: StatusCode::OK,
            fields: StoredFields::new(&HeaderMap::new(), &tags),
            terms: terms.into(),
            stamp: token.read_version(),
            targets: targets.into(),
            found_valid: ValidityCache::default(),
            evaluated_under: Default::default(),
            usage: Default::default(),
        };
        StoredEntry::Response(StoredResponse { head: Arc::new(head), body: Bytes::from(body.encode()) })
    }

    /// Forwards a write, and purges what it changes before it answers.
    pub async fn write(self: Arc<Self>, item: usize, soft: bool, sent: impl Fn() + Send) -> Written {
        let rules = self.rules();
        let targets = vec![Target::tag(tag(rules, item))];
        let upstream = self.world.upstream.clone();
        let mut guard = None;
        let end = match self.world.setting.guarded {
            false => {
                sent();
                upstream.write(item).await
            }
            true => {
                let mut acquired = self.guard(&targets);
                if acquired.record().await.is_err() {
                    self.abort(acquired, rules);
                    return Written::Refused;
                }
                let writing = async {
                    upstream.connect(&self.process).await;
                    sent();
                    upstream.write(item).await
                };
                let run = acquired.run(writing).await;
                if matches!(run, Err(GuardError::NotRecorded(_))) {
                    self.abort(acquired, rules);
                    return Written::Refused;
                }
                guard = Some(acquired);
                run.unwrap_or(WriteEnd::Unknown)
            }
        };
        let mut purge = Purge { rules: Some(rules_target(rules)), ..Purge::hard(targets) };
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

    fn guard(&self, targets: &[Target]) -> IntentGuard {
        let store: Arc<dyn Store> = self.store.clone();
        let id = IntentId(random_bytes().expect("randomness"));
        let outlives = RESPONSE_TIMEOUT + self.world.setting.settle;
        IntentGuard::new(store, id, targets.iter().map(Target::id).collect(), GUARD_LIMIT, outlives)
    }

    fn abort(&self, guard: IntentGuard, rules: u64) {
        let rules = Some(rules_target(rules));
        let nothing = Purge { resolves: Some(guard.into_intent()), rules, ..Purge::hard(Vec::new()) };
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

    /// `Purge-Wait: applied`.
    pub async fn wait_applied(self: Arc<Self>, version: PurgeVersion) -> bool {
        let missing = self.store.wait_replicated(version, Duration::from_millis(400)).await;
        missing.is_ok_and(|missing| missing.is_empty())
    }
}

fn key(resource: usize) -> CacheKey {
    CacheKey([resource as u8 + 1; 32])
}

fn path(resource: usize) -> String {
    if resource == ITEMS { "/items".to_owned() } else { format!("/items/{resource}") }
}

fn rules_target(rules: u64) -> TargetId {
    rules::numbered(rules).routes.rules()
}
