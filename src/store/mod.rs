//! REMEMBERS. What every store promises, whatever it is made of.
//!
//! - What [`Store::recall`] finds is valid: no purge that was acknowledged before the call names it.
//! - Only a [`Fill`] may write. It is taken before the fetch begins, and carries what was known of purges then; so
//!   a slow fetch can never bring back what was purged meanwhile.
//! - A purge is acknowledged when it holds for every later recall.
//! - Losing anything can only cause misses.

pub mod encoding;
mod first_tier;
mod history;
pub mod memory;
mod redis;
pub mod remote;
pub mod replica;
pub mod sources;
pub mod tiered;
mod turn;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::policy::CacheKey;
pub use history::Purges;
pub use redis::{Connected, Entry, Feed, Heard, StreamState};
pub use turn::{Ended, Lease, Turn};

use crate::purge::{Asked, Mark, Position, Purge, Stamp, TargetId, Validity, View};
use crate::stored_response::{Stored, StoredResponse};
use remote::{Remote, Replica};
use sources::{Known, Word};

pub type Waiting<T> = Pin<Box<dyn Future<Output = T> + Send>>;

pub trait Store: Send + Sync + 'static {
    /// What is remembered under `key`, if it is valid. `Ready` where nothing has to be waited for: a hit in the
    /// first tier costs no await.
    fn recall(&self, key: &CacheKey) -> Recall;

    /// As [`Store::recall`], of the first tier alone.
    fn recall_here(&self, key: &CacheKey) -> Option<Found>;

    /// As [`Store::recall`], past the first tier: what another replica has stored since is found, and the newer of both
    /// stays.
    fn recall_shared(&self, key: &CacheKey) -> Waiting<Option<Found>> {
        Box::pin(std::future::ready(self.recall_here(key)))
    }

    /// The permit to fetch and remember what stands under `key`. Take it before the fetch begins.
    fn permit(&self, key: &CacheKey) -> Fill;

    /// Whose turn it is to fetch what stands under `key`. Waits for another replica's fetch, no longer than `within`.
    /// `has_looked`: the caller knows what is stored, and can't use it.
    fn turn(&self, _key: &CacheKey, _has_looked: bool, _within: Duration) -> Waiting<Turn> {
        Box::pin(std::future::ready(Turn::Apart))
    }

    /// What is known now of purges that name `targets` since `stamp`: for a response that is not stored yet.
    fn judge(&self, stamp: &Stamp, targets: &[TargetId]) -> Validity;

    /// Whether it is certain that nothing at all was purged, nor is in doubt, since `stamp`: for a response whose targets
    /// are not all known yet.
    fn is_unpurged(&self, _stamp: &Stamp) -> bool {
        false
    }

    /// Remembers `stored` under the fill's key until it expires, unless it was purged since the fill was handed out.
    fn insert(&self, fill: Fill, stored: Stored) -> Waiting<Result<(), StoreError>>;

    /// Purges; `Ok` is the acknowledgement.
    fn purge(&self, purge: Purge) -> Waiting<Result<Position, StoreError>>;

    /// Waits until everything that was purged before the call is known here. `false`: that can't be had, so nothing that
    /// is stored answers who needs it.
    fn catch_up(&self) -> Waiting<bool> {
        Box::pin(std::future::ready(true))
    }

    /// Puts a mark on what a write is about to change, or moves the date of one that is there; `Ok`: it holds for every
    /// later recall, also if this process ends now. The purge that lifts it ends it.
    fn mark(&self, mark: Mark) -> Waiting<Result<(), StoreError>>;

    /// The last purges, for people.
    fn purges(&self, _asked: Asked) -> Waiting<Purges> {
        Box::pin(std::future::ready(Purges::default()))
    }

    /// All that share this store; none where it is not shared.
    fn replicas(&self) -> Waiting<Result<Vec<Replica>, StoreError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Waits until every replica knows what was purged up to `position`; those that do not within the time. What is
    /// silent for so long that it can't answer from what it knows any more is not waited for.
    fn known_everywhere(
        &self,
        _position: Position,
        _within: Duration,
    ) -> Waiting<Result<Vec<Replica>, StoreError>> {
        self.replicas()
    }

    /// What stands under `key`, valid or not, for people. It changes nothing, not even what is used least.
    fn look(&self, _key: &CacheKey) -> Waiting<Option<Seen>> {
        Box::pin(std::future::ready(None))
    }

    /// The responses in the first tier, valid or not.
    fn known_here(&self) -> Vec<StoredResponse> {
        Vec::new()
    }

    /// Whether what is found stays in this process, and with it what is noted of its use.
    fn keeps(&self) -> bool {
        true
    }

    /// Nothing is answered from here any more: no replica is to wait for this one.
    fn leave(&self) -> Waiting<()> {
        Box::pin(std::future::ready(()))
    }

    /// Tells what is new of a source of change events, and learns what the replicas know of it.
    fn tell_of_source(&self, word: Word) -> Waiting<Result<Known, StoreError>> {
        Box::pin(std::future::ready(Ok(Known::alone(&word))))
    }

    /// Whether any replica has taken the signed event of this name before.
    fn was_seen(&self, _id: &str) -> Waiting<Result<bool, StoreError>> {
        Box::pin(std::future::ready(Ok(false)))
    }

    /// Remembers that one of them has.
    fn remember_seen(&self, _id: &str, _lasts: Duration) -> Waiting<Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Where the latest purge known here has its place.
    fn latest(&self) -> Position {
        Position::default()
    }

    fn figures(&self) -> Figures;

    /// What is known of the server that is shared with other replicas; `None` if there is none.
    fn remote(&self) -> Option<Remote> {
        None
    }
}

pub enum Recall {
    Ready(Option<Found>),
    Waiting(Waiting<Option<Found>>),
}

pub struct Found {
    pub stored: Stored,
    /// A soft purge names it: it counts as stale.
    pub soft_purged: bool,
}

impl Found {
    /// `None` for what is dead.
    pub fn new(stored: Stored, validity: Validity) -> Option<Self> {
        let soft_purged = validity == Validity::Stale;
        (validity != Validity::Dead).then_some(Self { stored, soft_purged })
    }
}

/// What stands somewhere, for people.
pub struct Seen {
    pub stored: Stored,
    pub tier: Tier,
    pub validity: Validity,
    /// The last purge since, if it is one that names what is stored.
    pub purged: Option<(TargetId, Position)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// This process.
    Memory,
    Redis,
}

impl Tier {
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::Memory => "memory",
            Tier::Redis => "redis",
        }
    }
}

impl Seen {
    fn of(stored: Stored, tier: Tier, view: &View) -> Self {
        let (validity, purged) = match &stored {
            Stored::Variants(_) => (Validity::Valid, None),
            Stored::Response(response) => {
                let (stamp, targets) = (&response.head.stamp, &response.head.targets);
                (view.judge(stamp, targets), view.read().last_purge(stamp, targets))
            }
        };
        Self { stored, tier, validity, purged }
    }
}

/// The one permitted write of a key, spent by [`Store::insert`]. Take it before the fetch begins.
#[derive(Debug)]
pub struct Fill {
    key: CacheKey,
    stamp: Stamp,
    /// What a later fetch has stored stays, in every replica.
    yields: bool,
}

impl Fill {
    /// For stores only.
    pub(crate) fn new(key: CacheKey, stamp: Stamp) -> Self {
        Self { key, stamp, yields: false }
    }

    pub fn key(&self) -> &CacheKey {
        &self.key
    }

    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The permit for a variant of this key: the same fetch, so the same stamp.
    pub fn for_variant(&self, key: CacheKey) -> Fill {
        Fill { key, ..*self }
    }

    /// What a later fetch has stored stays, whichever replica it was: for one more word with a shared store, which comes
    /// before anything is remembered.
    pub fn yields(&mut self) {
        self.yields = true;
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the store did not take the purge: {0}")]
    PurgeNotTaken(String),
    #[error("the store did not take the mark: {0}")]
    NotMarked(String),
    #[error("what is stored is of a later fetch")]
    Outdated,
    #[error("it is too large for the store")]
    TooLarge,
    #[error("the store can't be asked: {0}")]
    NotAsked(String),
    #[error("the store did not take the response: {0}")]
    NotStored(String),
}

/// What a store can say of itself, for metrics and stats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub entries: u64,
    pub bytes: u64,
    pub capacity: u64,
    pub evicted: u64,
    pub purge_records: u64,
}

impl Recall {
    pub async fn found(self) -> Option<Found> {
        match self {
            Recall::Ready(found) => found,
            Recall::Waiting(waiting) => waiting.await,
        }
    }
}
