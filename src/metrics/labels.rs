//! The labels' values, and where each is counted. Every enum that labels a metric is listed here in full.

use crate::policy::cache_status::{Detail, Fwd, Outcome};
use crate::policy::classify::PassReason;
use crate::policy::reuse::NoReuse;
use crate::policy::storing::NotStored;

use super::PurgeSource;

/// The namespace of what falls under no route.
pub const NO_ROUTE: &str = "other";

/// What a reason is called that has no counter of its own, and one that was not given.
pub const OTHER: &str = "other";
pub const NONE: &str = "none";

/// Bounds of the buckets of latencies.
pub const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// What became of a request, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcomes {
    Hit,
    Miss,
    Collapsed,
    Bypass,
    Method,
}

/// By `Outcomes as usize`.
pub const OUTCOMES: [&str; 5] = ["hit", "miss", "collapsed", "bypass", "method"];

impl Outcomes {
    /// Only a route that caches can have hits and misses.
    pub fn of(outcome: &Outcome, caches: bool) -> Self {
        match outcome {
            Outcome::Hit { .. } => Outcomes::Hit,
            Outcome::Forwarded { fwd: Fwd::Method, .. } => Outcomes::Method,
            Outcome::Forwarded { fwd: Fwd::Bypass, .. } => Outcomes::Bypass,
            Outcome::Forwarded { .. } if !caches => Outcomes::Bypass,
            Outcome::Forwarded { collapsed: true, .. } => Outcomes::Collapsed,
            Outcome::Forwarded { .. } => Outcomes::Miss,
        }
    }
}

/// 1xx to 5xx, and whatever else an upstream may send.
pub const STATUS_CLASSES: usize = 6;

pub fn status_class(status: http::StatusCode) -> usize {
    usize::from(status.as_u16() / 100).saturating_sub(1).min(STATUS_CLASSES - 1)
}

pub fn status_class_name(class: usize) -> String {
    if class + 1 < STATUS_CLASSES { format!("{}xx", class + 1) } else { OTHER.to_string() }
}

/// RFC 9211's words.
pub const FWDS: [(Fwd, &str); 8] = [
    (Fwd::Bypass, "bypass"),
    (Fwd::Method, "method"),
    (Fwd::UriMiss, "uri-miss"),
    (Fwd::VaryMiss, "vary-miss"),
    (Fwd::Miss, "miss"),
    (Fwd::Request, "request"),
    (Fwd::Stale, "stale"),
    (Fwd::Partial, "partial"),
];

pub fn fwd_slot(fwd: Fwd) -> usize {
    fwd as usize
}

pub const NOT_STORED: [NotStored; 23] = [
    NotStored::Method,
    NotStored::Status,
    NotStored::NoStore,
    NotStored::RequestNoStore,
    NotStored::Private,
    NotStored::SetCookie,
    NotStored::VaryStar,
    NotStored::EventStream,
    NotStored::Credentials,
    NotStored::NoLifetime,
    NotStored::AlreadyStale,
    NotStored::Partial,
    NotStored::TooLarge,
    NotStored::TooManyTags,
    NotStored::NotJson,
    NotStored::Encoded,
    NotStored::MalformedJson,
    NotStored::JsonTooLarge,
    NotStored::UnusableJson,
    NotStored::NoExpiry,
    NotStored::Incomplete,
    NotStored::Purged,
    NotStored::Observed,
];

/// The slot after the last one is for a reason that the list lacks.
pub fn not_stored_slot(reason: NotStored) -> usize {
    NOT_STORED.iter().position(|known| *known == reason).unwrap_or(NOT_STORED.len())
}

/// Why a request was forwarded, besides what `fwd` says.
pub const REASONS: [Option<Detail>; 44] = [
    None,
    Some(Detail::Pass(PassReason::Method)),
    Some(Detail::Pass(PassReason::NoRoute)),
    Some(Detail::Pass(PassReason::RouteOff)),
    Some(Detail::Pass(PassReason::RouteNeverCaches)),
    Some(Detail::Pass(PassReason::PathSpelling)),
    Some(Detail::Pass(PassReason::NoCredential)),
    Some(Detail::Pass(PassReason::Content)),
    Some(Detail::Pass(PassReason::OverrideField)),
    Some(Detail::Pass(PassReason::Precondition)),
    Some(Detail::Pass(PassReason::Position)),
    Some(Detail::Pass(PassReason::Range)),
    Some(Detail::Pass(PassReason::Upgrade)),
    Some(Detail::NotStored(NotStored::Method)),
    Some(Detail::NotStored(NotStored::Status)),
    Some(Detail::NotStored(NotStored::NoStore)),
    Some(Detail::NotStored(NotStored::Private)),
    Some(Detail::NotStored(NotStored::SetCookie)),
    Some(Detail::NotStored(NotStored::VaryStar)),
    Some(Detail::NotStored(NotStored::EventStream)),
    Some(Detail::NotStored(NotStored::Credentials)),
    Some(Detail::NotStored(NotStored::NoLifetime)),
    Some(Detail::NotStored(NotStored::AlreadyStale)),
    Some(Detail::NotStored(NotStored::Partial)),
    Some(Detail::NotStored(NotStored::TooLarge)),
    Some(Detail::NotStored(NotStored::TooManyTags)),
    Some(Detail::NotStored(NotStored::NotJson)),
    Some(Detail::NotStored(NotStored::Encoded)),
    Some(Detail::NotStored(NotStored::MalformedJson)),
    Some(Detail::NotStored(NotStored::JsonTooLarge)),
    Some(Detail::NotStored(NotStored::UnusableJson)),
    Some(Detail::NotStored(NotStored::NoExpiry)),
    Some(Detail::NotStored(NotStored::Incomplete)),
    Some(Detail::NotStored(NotStored::Purged)),
    Some(Detail::NotStored(NotStored::Observed)),
    Some(Detail::NoReuse(NoReuse::Foreign)),
    Some(Detail::NoReuse(NoReuse::Credentials)),
    Some(Detail::NoReuse(NoReuse::Expired)),
    Some(Detail::StaleWhileRevalidate),
    Some(Detail::StaleIfError),
    Some(Detail::WouldHit),
    Some(Detail::WouldMiss),
    Some(Detail::WouldStore),
    Some(Detail::StoreDown),
];

/// A look through the list, which costs nothing beside the request to the upstream that it counts. The slot after
/// the last one is for a reason that the list lacks.
pub fn reason_slot(detail: Option<Detail>) -> usize {
    REASONS.iter().position(|known| *known == detail).unwrap_or(REASONS.len())
}

pub fn reason_name(slot: usize) -> &'static str {
    match REASONS.get(slot) {
        None => OTHER,
        Some(None) => NONE,
        Some(Some(detail)) => detail.as_str(),
    }
}

/// By `PurgeSource as usize`.
pub const SOURCES: [PurgeSource; 4] =
    [PurgeSource::Write, PurgeSource::PurgeMethod, PurgeSource::Admin, PurgeSource::Event];

impl PurgeSource {
    /// For the log and the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            PurgeSource::Write => "write",
            PurgeSource::PurgeMethod => "purge",
            PurgeSource::Admin => "admin",
            PurgeSource::Event => "event",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_under_a_number_stands_in_the_list_at_that_number() {
        for (slot, (fwd, _)) in FWDS.iter().enumerate() {
            assert_eq!(fwd_slot(*fwd), slot, "{fwd:?}");
        }
        for (slot, source) in SOURCES.iter().enumerate() {
            assert_eq!(*source as usize, slot, "{source:?}");
        }
        for (outcome, name) in
            [(Outcomes::Hit, "hit"), (Outcomes::Collapsed, "collapsed"), (Outcomes::Method, "method")]
        {
            assert_eq!(OUTCOMES[outcome as usize], name);
        }
        for (slot, reason) in REASONS.iter().enumerate() {
            assert_eq!(reason_slot(*reason), slot, "{reason:?}");
        }
    }

    #[test]
    fn every_status_has_a_class() {
        for (status, class) in
            [(100, "1xx"), (204, "2xx"), (304, "3xx"), (404, "4xx"), (599, "5xx"), (999, "other")]
        {
            let status = http::StatusCode::from_u16(status).unwrap();
            assert_eq!(status_class_name(status_class(status)), class);
        }
    }
}
