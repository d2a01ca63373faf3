//! `Cache-Status` (RFC 9211): what happened, told once and used everywhere.

use super::classify::PassReason;
use super::reuse::NoReuse;
use super::storing::NotStored;

/// What was done with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered from the store, without going forward.
    Hit { ttl: i64, detail: Option<Detail> },
    /// Went to the upstream, or waited for a request that did.
    Forwarded {
        fwd: Fwd,
        /// The upstream's status, where it is not the one that the client sees.
        fwd_status: Option<u16>,
        stored: bool,
        collapsed: bool,
        ttl: Option<i64>,
        detail: Option<Detail>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fwd {
    Bypass,
    Method,
    UriMiss,
    VaryMiss,
    Miss,
    Request,
    Stale,
    Partial,
}

/// larder's own reason: the `detail` parameter, the metric's label and the log's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Detail {
    Pass(PassReason),
    NotStored(NotStored),
    NoReuse(NoReuse),
    /// Served stale while it is validated.
    StaleWhileRevalidate,
    /// Served stale since the upstream failed.
    StaleIfError,
    /// `mode: observe`: this would have been a hit.
    WouldHit,
    /// `mode: observe`: this would have been stored.
    WouldStore,
    StoreDown,
}

impl Outcome {
    pub fn pass(reason: PassReason) -> Self {
        let fwd = if reason == PassReason::Method { Fwd::Method } else { Fwd::Bypass };
        Outcome::forwarded(fwd, Some(Detail::Pass(reason)))
    }

    pub fn forwarded(fwd: Fwd, detail: Option<Detail>) -> Self {
        Outcome::Forwarded { fwd, fwd_status: None, stored: false, collapsed: false, ttl: None, detail }
    }
}

/// One member of `Cache-Status`: `larder; hit; ttl=23`.
impl std::fmt::Display for Outcome {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}
