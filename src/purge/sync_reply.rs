//! News from the index that a view is a copy of.

use super::{Epoch, IntentId, PurgeMode, PurgeVersion, TargetId};
use crate::clock::{Moment, Timestamp};

/// The answer to "what changed after the version that I know?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyncReply {
    pub epoch: Epoch,
    /// The version that the question named as known; zero if the caller knew another epoch.
    pub base: PurgeVersion,
    /// `changes` has everything after `base` up to this version.
    pub high_water: PurgeVersion,
    /// Whether `high_water` is the index's own. If not, there are more pages, and nothing is confirmed yet.
    pub is_complete: bool,
    pub changes: Vec<IndexChange>,
    /// The index's clock when it answered.
    pub server_time: Timestamp,
    /// A moment before the question was sent.
    pub sent_at: Moment,
    /// Whether the question put the caller on the roll. If not, no purge waits for it, and nothing is confirmed.
    pub is_member: bool,
}

/// One record of the index. Each is told once, by its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IndexChange {
    /// The last purge of a target.
    Purged { id: TargetId, version: PurgeVersion, mode: PurgeMode },
    /// A hard purge of a target that stays in doubt until `until` on the index's clock.
    Doubted { id: TargetId, version: PurgeVersion, until: Timestamp },
    /// A target of a write under way, in doubt until the intent is resolved or `until`.
    Intent { id: TargetId, intent: IntentId, version: PurgeVersion, until: Timestamp },
    /// The write is over: its targets are in doubt no longer.
    Resolved { intent: IntentId, version: PurgeVersion },
    /// Surplus records of all targets whose ids begin with these two bytes: the highest version and latest date.
    Folded { bucket: u16, version: PurgeVersion, until: Timestamp },
}
