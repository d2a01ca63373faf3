//! Values that a store hands out: valid entries, entries to show to operators, and permits to write one.

use std::time::Duration;

use super::BoxFuture;
use crate::clock::Timestamp;
use crate::policy::CacheKey;
use crate::purge::{PurgeVersion, PurgeView, ReadVersion, TargetId, Validity};
use crate::stored_response::StoredEntry;

/// The result of a look-up, or the future of it.
pub enum GetResult {
    /// The result is known.
    Ready(Option<ValidEntry>),
    /// The store in Redis has to be asked.
    Pending(BoxFuture<Option<ValidEntry>>),
}

impl GetResult {
    /// Waits for the result.
    pub async fn resolve(self) -> Option<ValidEntry> {
        match self {
            GetResult::Ready(found) => found,
            GetResult::Pending(found) => found.await,
        }
    }
}

/// A stored entry that no hard purge names.
pub struct ValidEntry {
    /// The stored response, or its variants.
    pub stored: StoredEntry,
    /// When a soft purge named it: it counts as stale since then.
    pub soft_purged: Option<Timestamp>,
}

impl ValidEntry {
    /// `None` if `validity` is `Dead`.
    pub(crate) fn new(stored: StoredEntry, validity: Validity) -> Option<Self> {
        let soft_purged = validity.soft_purged();
        (validity != Validity::Dead).then_some(Self { stored, soft_purged })
    }
}

/// A stored entry, valid or not, for people.
pub struct InspectedEntry {
    /// The stored response, or its variants.
    pub stored: StoredEntry,
    pub(crate) tier: Tier,
    /// Whether it may be served.
    pub validity: Validity,
    /// The last purge since it was fetched that names one of its targets.
    pub(crate) last_purge: Option<(TargetId, PurgeVersion)>,
}

impl InspectedEntry {
    pub(super) fn inspect(stored: StoredEntry, tier: Tier, view: &PurgeView) -> Self {
        let (validity, last_purge) = match &stored {
            StoredEntry::Variants(_) => (Validity::Valid, None),
            StoredEntry::Response(response) => {
                let (version, targets) = (&response.head.stamp, &response.head.targets);
                (view.check_validity(version, targets), view.read().last_purge(version, targets))
            }
        };
        Self { stored, tier, validity, last_purge }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    /// This process.
    Memory,
    Redis,
}

impl Tier {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Tier::Memory => "memory",
            Tier::Redis => "redis",
        }
    }
}

/// The permit to write one key once, spent by [`ResponseStore::insert`](super::ResponseStore::insert).
#[derive(Debug)]
pub struct FetchToken {
    key: CacheKey,
    version: ReadVersion,
    /// The version without `settle`.
    began_at: ReadVersion,
    yields_to_newer: bool,
    encrypt: Option<bool>,
}

impl FetchToken {
    /// For stores only.
    pub(crate) fn new(key: CacheKey, version: ReadVersion) -> Self {
        Self { key, version, began_at: version, yields_to_newer: false, encrypt: None }
    }

    /// The key of the fetch.
    pub fn key(&self) -> &CacheKey {
        &self.key
    }

    /// The version of the purge index before the fetch.
    pub fn read_version(&self) -> ReadVersion {
        self.version
    }

    /// The version of the purge index when the fetch began, also where what it brings counts as older (`settle`).
    pub fn began_at(&self) -> ReadVersion {
        self.began_at
    }

    /// The permit for a variant of this key: the same fetch, so the same version.
    pub fn for_variant(&self, key: CacheKey) -> FetchToken {
        FetchToken { key, ..*self }
    }

    /// Makes the write keep whatever a later fetch of any replica has stored. Costs one more round trip to a shared
    /// store, before anything is stored here.
    pub fn yield_to_newer(&mut self) {
        self.yields_to_newer = true;
    }

    /// For an upstream that may answer with data from `settle` ago: the response is invalid if a purge less than `settle`
    /// before the fetch names it.
    #[must_use]
    pub fn settled(self, settle: Duration) -> Self {
        Self { version: self.version.settled(settle), ..self }
    }

    /// Whether a shared store encrypts what is written, or leaves it readable; `None`: as its own settings say.
    #[must_use]
    pub(crate) fn with_encryption(self, encrypt: Option<bool>) -> Self {
        Self { encrypt, ..self }
    }

    pub(super) fn encryption(&self) -> Option<bool> {
        self.encrypt
    }

    pub(super) fn yields_to_newer(&self) -> bool {
        self.yields_to_newer
    }
}
