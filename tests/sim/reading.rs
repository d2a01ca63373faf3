//! How a replica answers a read: from the store, by a fetch that it joins, by a fetch of its own, or by a validation.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use larder::policy::response_admission::response_targets;
use larder::policy::{Fingerprint, RequestHead};
use larder::purge::{ReadVersion, TargetId, Validity, ValidityCache};
use larder::store::{
    FetchLease, FetchLocks, FetchToken, LeaseDecision, LeaseOutcome, PurgeStore, ResponseStore,
};
use larder::stored_response::{StoredEntry, StoredFields, StoredHead, StoredResponse, Terms};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::history::{Body, Obtained};
use crate::process::millis;
use crate::replica::{Replica, key, path, rules_id};
use crate::rules::{self, tag};
use crate::setting::Setting;
use crate::upstream::{RESOURCES, list_items};

const LEASE_PATIENCE: Duration = Duration::from_millis(300);

/// How many fetches in a row a request joins before it fetches alone.
const MAX_JOINS: usize = 4;

/// The fetches under way that others may join, by resource.
#[derive(Default)]
pub struct Fetches(Mutex<[Option<Arc<Fetch>>; RESOURCES]>);

/// A fetch under way. Those who wait are woken in their order, so that a simulation repeats itself.
#[derive(Default)]
struct Fetch {
    progress: Mutex<Progress>,
    changed: Notify,
}

#[derive(Clone, Default)]
enum Progress {
    #[default]
    Begun,
    /// The head of the response is there. Without targets: its tags are in the rest of the body.
    Answered {
        body: Body,
        read: ReadVersion,
        targets: Option<Arc<[TargetId]>>,
    },
    Failed,
}

impl Fetch {
    fn set(&self, progress: Progress) {
        *self.progress.lock() = progress;
        self.changed.notify_waiters();
    }

    /// Nothing more comes of it.
    fn end(&self) {
        let has_begun = matches!(*self.progress.lock(), Progress::Begun);
        if has_begun {
            self.set(Progress::Failed);
        }
    }

    /// Waits until the head is there, or will never be.
    async fn wait_answered(&self) -> Progress {
        loop {
            let changed = self.changed.notified();
            let progress = self.progress.lock().clone();
            if !matches!(progress, Progress::Begun) {
                return progress;
            }
            changed.await;
        }
    }
}

impl Replica {
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
            let body = self.fetch((resource, rules), token, None, None).await?;
            return Some((body, Obtained::Fetched));
        }
        let mut stale = None;
        if let Some((found, hit)) = self.look_up(resource).await {
            if let Some(hit) = hit {
                return Some((Body::decode(&found.body), hit));
            }
            stale = Some(found);
        }
        if !self.world.setting.collapses {
            return self.fetch_under_lease((resource, rules), stale, &Fetch::default()).await;
        }
        for _ in 0..MAX_JOINS {
            let under_way = self.fetches.0.lock()[resource].clone();
            let Some(under_way) = under_way else { break };
            match under_way.wait_answered().await {
                Progress::Answered { body, read, targets } if self.may_join(&read, targets.as_deref()) => {
                    return Some((body, Obtained::Hit));
                }
                _ => {}
            }
            let mut fetches = self.fetches.0.lock();
            fetches[resource].take_if(|present| Arc::ptr_eq(present, &under_way));
        }
        let own = Arc::new(Fetch::default());
        self.fetches.0.lock()[resource] = Some(own.clone());
        let answer = self.fetch_under_lease((resource, rules), stale, &own).await;
        own.end();
        self.fetches.0.lock()[resource].take_if(|present| Arc::ptr_eq(present, &own));
        answer
    }

    /// Whether a response that is not stored yet answers a request which has waited for it.
    fn may_join(&self, read: &ReadVersion, targets: Option<&[TargetId]>) -> bool {
        match targets {
            Some(targets) => self.store.validity(read, targets) == Validity::Valid,
            None => self.store.is_unpurged_since(read),
        }
    }

    /// The stored response, and how it answers a request; `None`: it is not fresh.
    async fn look_up(&self, resource: usize) -> Option<(StoredResponse, Option<Obtained>)> {
        let reloads = self.reloads();
        let found = self.store.get(&key(resource)).resolve().await?;
        let StoredEntry::Response(response) = found.stored else { return None };
        let terms = response.head.terms();
        let age = self.clock.now().since(terms.received_at);
        let is_fresh = age < terms.freshness_lifetime && found.soft_purged.is_none();
        let is_foreign = reloads == self.reloads() && response.head.fingerprint != Fingerprint(self.rules());
        let hit = if is_foreign { Obtained::HitUnderOtherRules } else { Obtained::Hit };
        Some((response, is_fresh.then_some(hit)))
    }

    async fn fetch_under_lease(
        &self,
        (resource, rules): (usize, u64),
        stale: Option<StoredResponse>,
        fetch: &Fetch,
    ) -> Option<(Body, Obtained)> {
        let mut lease: Option<FetchLease> = None;
        if self.world.setting.leases && stale.is_none() {
            for _ in 0..3 {
                match self.store.acquire_fetch_lease(&key(resource), false, LEASE_PATIENCE).await {
                    LeaseDecision::Acquired(acquired) => lease = Some(acquired),
                    LeaseDecision::LookAgain => match self.look_up(resource).await {
                        Some((found, Some(hit))) => return Some((Body::decode(&found.body), hit)),
                        _ => continue,
                    },
                    _ => {}
                }
                break;
            }
        }
        let token = self.store.begin_fetch(&key(resource));
        let body = self.fetch((resource, rules), token, stale, Some(fetch)).await;
        if let Some(lease) = lease {
            lease.release(if body.is_some() { LeaseOutcome::Stored } else { LeaseOutcome::FAILED });
        }
        Some((body?, Obtained::Fetched))
    }

    /// Fetches, tells those who wait, and stores. Without `shared` it does neither of these.
    async fn fetch(
        &self,
        (resource, rules): (usize, u64),
        token: FetchToken,
        stale: Option<StoredResponse>,
        shared: Option<&Fetch>,
    ) -> Option<Body> {
        let Setting { settle, leases, collapses, has_body_tags, .. } = self.world.setting;
        let mut token = token.settled(settle);
        if leases {
            token.yield_to_newer();
        }
        let (begun, requested_at) = (self.world.history.now(), self.clock.now());
        let versions = self.world.upstream.read(resource).await?;
        // The lifetime begins with the head of the response.
        let terms = Terms::unstored(requested_at, self.clock.now());
        let body = Body { begun, received: millis(), versions };
        let Some(shared) = shared else { return Some(body) };
        // With a 304 the tags of the content are those that are stored; other rules have other names for them.
        let is_unchanged = |stored: &StoredResponse| {
            stored.head.fingerprint == Fingerprint(rules)
                && Body::decode(&stored.body).versions == body.versions
        };
        let targets: Arc<[TargetId]> = match stale.filter(is_unchanged) {
            Some(stored) => stored.head.targets.to_vec().into(),
            None => list_targets(resource, rules).into(),
        };
        let answered =
            |targets| Progress::Answered { body: body.clone(), read: token.read_version(), targets };
        if collapses {
            shared.set(answered((!has_body_tags).then(|| targets.clone())));
            sleep(self.world.upstream.draw_body_delay()).await;
            shared.set(answered(Some(targets.clone())));
        }
        let entry = self.entry((resource, rules), &token, &body, targets.to_vec(), terms);
        let is_outdated = self.store.get_local(&key(resource)).is_some_and(|found| match found.stored {
            StoredEntry::Response(stored) => {
                found.soft_purged.is_none() && stored.head.terms().requested_at > requested_at
            }
            StoredEntry::Variants(_) => false,
        });
        if !is_outdated {
            // A response that can't be stored is answered all the same.
            _ = self.store.insert(token, entry).await;
        }
        Some(body)
    }

    fn entry(
        &self,
        (resource, rules): (usize, u64),
        token: &FetchToken,
        body: &Body,
        targets: Vec<TargetId>,
        terms: Terms,
    ) -> StoredEntry {
        let Setting { ttl, stale, .. } = self.world.setting;
        let tags: Vec<String> = list_items(resource).map(|item| tag(rules, item)).collect();
        let terms =
            Terms { freshness_lifetime: ttl, expires_at: terms.received_at.plus(ttl + stale), ..terms };
        let head = StoredHead {
            key: key(resource),
            fingerprint: Fingerprint(rules),
            status: StatusCode::OK,
            fields: StoredFields::new(&HeaderMap::new(), &tags),
            terms: terms.into(),
            stamp: token.read_version(),
            targets: targets.into(),
            fetched_here: false,
            found_valid: ValidityCache::default(),
            evaluated_under: Default::default(),
            usage: Default::default(),
        };
        StoredEntry::Response(StoredResponse { head: Arc::new(head), body: Bytes::from(body.encode()) })
    }
}

/// The targets of a response under these rules.
fn list_targets(resource: usize, rules: u64) -> Vec<TargetId> {
    let tags: Vec<String> = list_items(resource).map(|item| tag(rules, item)).collect();
    let (path, fields) = (path(resource), HeaderMap::new());
    let request = RequestHead { host: "h", ..RequestHead::new(&Method::GET, &path, &fields) };
    let mut targets = response_targets(rules::route(rules, resource), &request, None, &fields, &tags);
    targets.push(rules_id(rules));
    targets.sort_unstable();
    targets
}
