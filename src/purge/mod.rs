//! The purge protocol: targets, versions, the index, and the view that answers "was this purged since?".
//!
//! A purge names targets and gets a version. A stored response carries the read version of its fetch. It is valid
//! unless a purge after that read version names one of its targets (docs/internals.md, "The validity rule").
//! A purge therefore costs the same for one response as for a million, and a slow fetch cannot bring back purged data.
//!
//! Pure: no I/O, no clock, no logging.

mod audit;
mod index;
mod intents;
mod position;
mod spelling;
mod sync_reply;
mod tag;
mod target;
mod target_filters;
mod view;

pub use audit::{AuditFilter, PurgeCause};
pub(crate) use audit::{AuditRecord, MAX_NAMED_TARGETS};
pub use index::{Index, IndexBounds};
pub(crate) use position::{Position, PositionKey};
pub(crate) use spelling::{decimal_digit, fold_case, split_digits, without_leading_zeros};
pub(crate) use sync_reply::{IndexChange, SyncReply};
pub(crate) use tag::{MAX_TAG_DEPTH, normalize_tag, tag_and_ancestors, tag_depth};
pub use target::{NormalizedPath, Target, TargetId};
pub(crate) use target::{is_unreserved, normalize_escapes, parse_percent_escape};
pub(crate) use view::PurgeView;
pub use view::ValidityCache;

use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;

/// The position of a purge in the order of all purges: microseconds on the store's clock, strictly increasing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PurgeVersion(pub u64);

/// The random id of a purge index. A lost index comes back under another epoch, and nothing stored under the former
/// one is valid any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
// Packed to 8-byte alignment; u128 would force 16 on every stored response.
#[repr(Rust, packed(8))]
pub struct Epoch(pub u128);

impl Epoch {
    /// The epoch of an index that is not known yet: nothing is valid under it.
    pub const NONE: Self = Self(0);
}

/// 32 hexadecimal digits.
impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(id) = *self;
        write!(f, "{id:032x}")
    }
}

/// The state of the index before a fetch began. Purges after it invalidate the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadVersion {
    /// The epoch of the purge index.
    pub epoch: Epoch,
    /// All purges up to this version happened before the fetch.
    pub version: PurgeVersion,
    /// The store's clock, no later than the beginning of the fetch. Doubts that end later invalidate the response.
    pub time: Timestamp,
}

impl ReadVersion {
    /// The read version of a response that may be stale for `settle` after a purge: purges less than `settle` before
    /// the fetch invalidate it as well.
    #[must_use]
    pub fn settled(self, settle: Duration) -> Self {
        if settle.is_zero() {
            return self;
        }
        let settled = PurgeVersion(self.time.minus(settle).as_micros());
        Self { version: self.version.min(settled), ..self }
    }
}

/// The effect of a purge on the responses that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PurgeMode {
    /// They are never served again.
    Hard,
    /// They are stale from now on, so grace and validation still apply.
    Soft,
}

impl PurgeMode {
    /// The label in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            PurgeMode::Hard => "hard",
            PurgeMode::Soft => "soft",
        }
    }
}

/// The random id of a write under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentId(pub [u8; 8]);

/// The targets of a write under way, recorded before it is sent. They are in doubt until a purge resolves the intent,
/// or until it expires because its owner is gone.
#[derive(Clone, Debug)]
pub struct PurgeIntent {
    /// Identifies the write, for the purge that resolves the intent.
    pub id: IntentId,
    /// The targets that the write may change.
    pub targets: Vec<TargetId>,
    /// The time after which the write has ended for certain.
    pub expires_in: Duration,
}

/// One purge.
#[derive(Clone, Debug)]
pub struct Purge {
    /// The targets.
    pub targets: Vec<Target>,
    /// The effect on the responses.
    pub mode: PurgeMode,
    /// The targets stay in doubt for this long: nothing fetched meanwhile is kept or served. Zero unless the write may
    /// still take effect.
    pub in_doubt_for: Duration,
    /// The intent that this purge commits (or aborts, without targets), in the same step.
    pub resolves: Option<PurgeIntent>,
    /// The rules that the targets were rendered by: templates of routes and events. Responses under other rules may carry
    /// what these don't name, so all of them are purged too. The same holds for the rules by which the query of a URL was
    /// selected. `None`: whoever asked named the targets.
    pub rules: Option<TargetId>,
    /// For the audit log.
    pub cause: Option<PurgeCause>,
}

impl Purge {
    /// A hard purge of `targets`.
    pub fn hard(targets: Vec<Target>) -> Self {
        Self {
            targets,
            mode: PurgeMode::Hard,
            in_doubt_for: Duration::ZERO,
            resolves: None,
            rules: None,
            cause: None,
        }
    }

    /// A soft purge of `targets`.
    pub fn soft(targets: Vec<Target>) -> Self {
        Self { mode: PurgeMode::Soft, ..Self::hard(targets) }
    }

    /// All that it names, sorted: its targets and the rules that they were rendered by.
    pub fn ids(&self) -> Vec<TargetId> {
        let rules = self.rules.filter(|_| !self.targets.is_empty());
        let mut ids: Vec<TargetId> = self.targets.iter().map(Target::id).chain(rules).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// The answer to "was this purged since?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It may be served.
    Valid,
    /// A soft purge names it: it counts as stale.
    Stale {
        /// When it was purged.
        since: Timestamp,
    },
    /// A hard purge names it, it is in doubt, or its epoch is over. It is never served again.
    Dead,
}

impl Validity {
    /// When a soft purge named it.
    pub(crate) fn soft_purged(self) -> Option<Timestamp> {
        match self {
            Validity::Stale { since } => Some(since),
            Validity::Valid | Validity::Dead => None,
        }
    }
}
