//! What a view learns of an index that is kept elsewhere.

use super::{Hardness, Incarnation, MarkId, Position, TargetId};
use crate::clock::{Moment, Timestamp};

/// The answer to "what was purged after the position that I know?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmation {
    pub incarnation: Incarnation,
    /// The position that was named as known; zero if what was known is of another incarnation.
    pub after: Position,
    /// Up to here `changes` has everything, except what is in doubt.
    pub high_water: Position,
    /// Whether `high_water` is the index's own, and what is in doubt is among the changes; if not, there is more to ask
    /// for, and nothing is proved yet.
    pub is_whole: bool,
    pub changes: Vec<Change>,
    /// The time of the index's clock.
    pub now: Timestamp,
    /// Before the question was sent.
    pub asked_at: Moment,
}

/// A place in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Purged {
        id: TargetId,
        position: Position,
        hardness: Hardness,
    },
    /// A mark of a write under way; once its date is not beyond the high-water mark, it is a hard purge at that date.
    Marked {
        id: TargetId,
        mark: MarkId,
        date: Position,
    },
    /// Records of targets whose ids begin with these two bytes were folded, the last of them at `position`.
    Folded {
        bucket: u16,
        position: Position,
    },
}
