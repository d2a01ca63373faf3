//! What the store has for a request, and whether it may be used. One test, [`Worker::is_hit`], decides for a response
//! that is still in flight as for one that is stored.

use super::Worker;
use super::collapsing::SharedResponse;
use super::intake::ClientHead;
use crate::clock::Timestamp;
use crate::policy::CacheKey;
use crate::policy::cache_status::{Detail, Fwd, Outcome};
use crate::policy::classify::Lookup;
use crate::policy::reuse::{Reuse, assess};
use crate::purge::Validity;
use crate::store::{Found, Recall, Store};
use crate::stored_response::{Stored, StoredHead, StoredResponse};

/// What a look-up came to.
pub(super) enum Finding {
    Fresh(Usable),
    /// It may be served now, while it is fetched anew.
    Stale(Usable, Miss),
    Miss(Miss),
}

/// What a look-up came to without waiting.
pub(super) enum Glance {
    Found(Finding),
    /// Ready or not: it is not weighed yet.
    Waiting(Recall),
}

pub(super) struct Usable {
    pub stored: StoredResponse,
    /// When it was weighed.
    pub now: Timestamp,
    pub outcome: Outcome,
}

/// What is to be fetched, and what could stand in for it.
pub(super) struct Miss {
    /// Of the response, or of the variant.
    pub key: CacheKey,
    pub fwd: Fwd,
    pub stale: Option<Stale>,
}

/// What is stored, and can be validated.
#[derive(Clone)]
pub(super) struct Stale {
    pub response: StoredResponse,
    pub soft_purged: bool,
    /// It may be served should the upstream fail.
    pub if_error: bool,
}

impl Worker {
    pub(super) async fn find(&self, lookup: &Lookup<'_>, head: &ClientHead) -> Finding {
        let glance = self.glance(lookup, head);
        self.look_on(glance, lookup, head).await
    }

    /// What the store can say at once.
    pub(super) fn glance(&self, lookup: &Lookup<'_>, head: &ClientHead) -> Glance {
        match self.proxy.store.recall(&lookup.key) {
            Recall::Ready(found) => self.glance_at(found, lookup, head),
            waiting => Glance::Waiting(waiting),
        }
    }

    /// What can be said at once of what stands under the key.
    pub(super) fn glance_at(&self, found: Option<Found>, lookup: &Lookup<'_>, head: &ClientHead) -> Glance {
        let variants = match found {
            None => return Glance::Found(Finding::miss(lookup.key, Fwd::UriMiss)),
            Some(Found { stored: Stored::Response(response), soft_purged }) => {
                return Glance::Found(self.weigh(response, soft_purged, lookup, lookup.key, head));
            }
            Some(Found { stored: Stored::Variants(variants), .. }) => variants,
        };
        let mut latest = None;
        for fields in &variants.fields {
            let key = lookup.key.variant(fields, &head.as_policy());
            latest.get_or_insert(key);
            match self.proxy.store.recall(&key) {
                Recall::Ready(Some(Found { stored: Stored::Response(response), soft_purged })) => {
                    return Glance::Found(self.weigh(response, soft_purged, lookup, key, head));
                }
                Recall::Ready(_) => {}
                // They are looked through again from the first.
                Recall::Waiting(_) => {
                    let stored = Stored::Variants(variants);
                    return Glance::Waiting(Recall::Ready(Some(Found { stored, soft_purged: false })));
                }
            }
        }
        Glance::Found(Finding::miss(latest.unwrap_or(lookup.key), Fwd::VaryMiss))
    }

    /// What a glance did not find out is waited for.
    pub(super) async fn look_on(&self, glance: Glance, lookup: &Lookup<'_>, head: &ClientHead) -> Finding {
        let recall = match glance {
            Glance::Found(finding) => return finding,
            Glance::Waiting(recall) => recall,
        };
        let Some(found) = recall.found().await else {
            return Finding::miss(lookup.key, Fwd::UriMiss);
        };
        let variants = match found.stored {
            Stored::Response(response) => {
                return self.weigh(response, found.soft_purged, lookup, lookup.key, head);
            }
            Stored::Variants(variants) => variants,
        };
        let mut latest = None;
        for fields in &variants.fields {
            let key = lookup.key.variant(fields, &head.as_policy());
            latest.get_or_insert(key);
            if let Some(Found { stored: Stored::Response(response), soft_purged }) =
                self.proxy.store.recall(&key).found().await
            {
                return self.weigh(response, soft_purged, lookup, key, head);
            }
        }
        Finding::miss(latest.unwrap_or(lookup.key), Fwd::VaryMiss)
    }

    /// A look at the first tier alone, by the one who has just been given the lead: whoever fetched before may have
    /// stored it since.
    pub(super) fn find_here(&self, lookup: &Lookup<'_>, head: &ClientHead, key: CacheKey) -> Option<Usable> {
        let found = self.proxy.store.recall_here(&key)?;
        let Stored::Response(response) = found.stored else { return None };
        match self.weigh(response, found.soft_purged, lookup, key, head) {
            Finding::Fresh(usable) => Some(usable),
            _ => None,
        }
    }

    /// `key` is the one that it was looked up under.
    pub(super) fn weigh(
        &self,
        stored: StoredResponse,
        soft_purged: bool,
        lookup: &Lookup<'_>,
        key: CacheKey,
        head: &ClientHead,
    ) -> Finding {
        let miss = |if_error| {
            let stale = Some(Stale { response: stored.clone(), soft_purged, if_error });
            Miss { key, fwd: Fwd::Stale, stale }
        };
        let now = self.proxy.clock.now();
        match assess(&stored.head, &lookup.under(key), &head.as_policy(), soft_purged, now) {
            Reuse::Fresh { ttl, .. } => {
                let is_due = self.is_due(&stored.head, ttl, lookup.route, head);
                let miss = is_due.then(|| miss(true));
                let usable = Usable { stored, now, outcome: Outcome::Hit { ttl, detail: None } };
                match miss {
                    Some(miss) => Finding::Stale(usable, miss),
                    None => Finding::Fresh(usable),
                }
            }
            Reuse::StaleWhileRevalidate { ttl, .. } => {
                let miss = miss(true);
                let outcome = Outcome::Hit { ttl, detail: Some(Detail::StaleWhileRevalidate) };
                Finding::Stale(Usable { stored, now, outcome }, miss)
            }
            Reuse::StaleAsAsked { ttl, .. } => {
                let outcome = Outcome::Hit { ttl, detail: Some(Detail::StaleAsAsked) };
                Finding::Fresh(Usable { stored, now, outcome })
            }
            Reuse::Validate { if_error, .. } => Finding::Miss(miss(if_error)),
            Reuse::ValidateAsAsked { .. } => Finding::Miss(Miss { fwd: Fwd::Request, ..miss(false) }),
            Reuse::No(_) => Finding::miss(key, Fwd::UriMiss),
        }
    }

    /// Is this response given to this request, stored or not yet?
    pub(super) fn is_hit(&self, response: &StoredHead, head: &ClientHead, lookup: &Lookup<'_>) -> bool {
        self.answers(response, self.validity(response), head, lookup)
    }

    fn validity(&self, response: &StoredHead) -> Validity {
        self.proxy.store.judge(&response.stamp, &response.targets)
    }

    /// Whose tags are not all known may be named by any purge.
    pub(super) fn validity_in_flight(&self, shared: &SharedResponse) -> Validity {
        let (store, stamp) = (&self.proxy.store, &shared.head.stamp);
        match shared.is_complete {
            true => self.validity(&shared.head),
            false if store.is_unpurged(stamp) => Validity::Valid,
            false => Validity::Dead,
        }
    }

    /// Would it be a hit, were it as valid as that?
    pub(super) fn answers(
        &self,
        response: &StoredHead,
        validity: Validity,
        head: &ClientHead,
        lookup: &Lookup<'_>,
    ) -> bool {
        let soft_purged = match validity {
            Validity::Dead => return false,
            validity => validity == Validity::Stale,
        };
        let reuse = assess(response, lookup, &head.as_policy(), soft_purged, self.proxy.clock.now());
        matches!(reuse, Reuse::Fresh { .. })
    }
}

impl Stale {
    /// Not so old, since it was found, that it must not be served or validated any more.
    pub fn is_of_use(&self, now: Timestamp) -> bool {
        now < self.response.head.terms().expires_at
    }

    /// `None` if it was purged since it was found: then it is neither served nor validated any more.
    pub fn as_of_now(&self, store: &dyn Store) -> Option<Self> {
        let head = &self.response.head;
        match store.judge(&head.stamp, &head.targets) {
            Validity::Dead => None,
            validity => Some(Self { soft_purged: validity == Validity::Stale, ..self.clone() }),
        }
    }
}

impl Finding {
    fn miss(key: CacheKey, fwd: Fwd) -> Self {
        Finding::Miss(Miss { key, fwd, stale: None })
    }
}
