//! Purges have a place in time (ARCHITECTURE.md, "the rule of validity").
//!
//! A purge names targets and gets a position. A stored response carries the position that its fetch began after.
//! It is valid iff no later purge names one of its targets. From that alone follow purges that cost the same for
//! one response as for a million, and misses in flight that cannot bring purged data back.
//!
//! Pure: no I/O, no clock, no logging.

mod confirmation;
mod index;
mod record;
mod tag;
mod target;
mod view;

pub use confirmation::{Change, Confirmation};
pub use index::{Bounds, Index};
pub use record::{Asked, NAMED, Record, Why};
pub use tag::{MAX_TAG_DEPTH, tag_depth};
pub use target::{LoosePath, Target, TargetId};
pub use view::{FoundValid, View};

use std::fmt;
use std::time::Duration;

/// A purge's place in time: microseconds on the store's clock, made strictly increasing by the high-water mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// A random id of the purge index. An index that was lost comes back as another one, and nothing that was stored
/// under the former is valid any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
// What holds one would have to begin at a multiple of sixteen otherwise, and end at one.
#[repr(Rust, packed(8))]
pub struct Incarnation(pub u128);

impl Incarnation {
    /// Of an index that was never there: nothing is valid under it.
    pub const NONE: Self = Self(0);
}

/// 32 hexadecimal digits.
impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(id) = *self;
        write!(f, "{id:032x}")
    }
}

/// What a fetch carries from before it began: nothing that was purged after `as_of` may be answered from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub incarnation: Incarnation,
    pub as_of: Position,
}

/// Hard: never served again. Soft: stale from now on, so grace and validation still apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hardness {
    Hard,
    Soft,
}

/// A write that is under way, and whatever else may change what it names at any moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MarkId(pub [u8; 8]);

/// Targets in doubt while a write is under way: until the purge that lifts the mark, or until its date, should the one
/// who made it be gone by then. Nothing fetched before is served or kept meanwhile.
#[derive(Clone, Debug)]
pub struct Mark {
    pub id: MarkId,
    pub targets: Vec<TargetId>,
    /// How long after now its date is.
    pub lasts: Duration,
}

/// One purge: what it names, how, and for how long after now its targets stay in doubt.
#[derive(Clone, Debug)]
pub struct Purge {
    pub targets: Vec<Target>,
    pub hardness: Hardness,
    /// Nothing fetched before *now + this* is kept or served. Zero unless the write may still take effect.
    pub in_doubt_for: Duration,
    /// The mark that this purge takes the place of, in one step.
    pub lifts: Option<Mark>,
    /// For people.
    pub why: Option<Why>,
}

impl Purge {
    pub fn hard(targets: Vec<Target>) -> Self {
        Self { targets, hardness: Hardness::Hard, in_doubt_for: Duration::ZERO, lifts: None, why: None }
    }

    pub fn soft(targets: Vec<Target>) -> Self {
        Self { hardness: Hardness::Soft, ..Self::hard(targets) }
    }
}

/// The answer to "was this purged since?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    Valid,
    /// A soft purge names it: it counts as stale.
    Stale,
    /// A hard purge names it, or it belongs to an index that was lost: it is never served again.
    Dead,
}
