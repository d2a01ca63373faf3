//! Why nothing stored answers a request.

use crate::purge::PurgeVersion;

/// Why a request is a miss, as far as this replica remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MissReason {
    /// Nothing is known to have been stored under the key.
    NeverStored,
    /// Stored for other values of the fields in `Vary`.
    OtherVariant,
    /// The request has credentials, and the response is not marked as shared.
    OtherCaller,
    /// Stored under another key or other route rules.
    OtherRules,
    /// Stored for another query, from which this one differs by more than the response allows (`No-Vary-Search`).
    OtherQuery,
    /// Past its last use, including validation.
    Expired,
    /// The caller's token has expired since the request came.
    ExpiredCaller,
    /// Removed to make room.
    Evicted,
    /// By the purge with this version.
    Purged(PurgeVersion),
    /// It is not known what was purged since it was fetched, or a write that may still purge it is under way.
    InDoubt,
    /// The shared store does not answer, so that it is not known, or not certain, what it has.
    StoreUnavailable,
}

impl MissReason {
    /// Stands for every purge in lists of reasons.
    pub(crate) const ANY_PURGE: MissReason = MissReason::Purged(PurgeVersion(0));

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            MissReason::NeverStored => "never-stored",
            MissReason::OtherVariant => "other-variant",
            MissReason::OtherCaller => "other-caller",
            MissReason::OtherRules => "other-rules",
            MissReason::OtherQuery => "other-query",
            MissReason::Expired => "expired",
            MissReason::ExpiredCaller => "expired-caller",
            MissReason::Evicted => "evicted",
            MissReason::Purged(_) => "purged",
            MissReason::InDoubt => "in-doubt",
            MissReason::StoreUnavailable => "store-unavailable",
        }
    }

    /// The position of the purge.
    pub(crate) fn position(self) -> Option<u64> {
        match self {
            MissReason::Purged(version) => Some(version.0),
            _ => None,
        }
    }
}
