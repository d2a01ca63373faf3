//! Label values and the slots they are counted in. Every enum that labels a metric is listed here in full.

use crate::policy::cache_status::{CacheOutcome, Detail, Fwd};
use crate::policy::caller::UnknownCaller;
use crate::policy::classify::PassReason;
use crate::policy::miss_reason::MissReason;
use crate::policy::not_stored::NotStored;

use super::PurgeSource;

/// Route label of requests that match no route.
pub(super) const NO_ROUTE: &str = "other";

/// Labels of a reason without a slot of its own, and of no reason.
pub(super) const OTHER_REASON: &str = "other";
const NO_REASON: &str = "none";

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestOutcome {
    Hit,
    Miss,
    Collapsed,
    Bypass,
    Method,
    Error,
    Purge,
    Webhook,
    Operation,
    Tunnel,
}

/// An answer without a member in `Cache-Status`: larder's own, or an upgraded connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonCacheReply {
    /// larder refused the request, or got no usable response from the upstream.
    Error,
    /// An answer to PURGE.
    Purge,
    /// An answer to a webhook on the proxy's listener.
    Webhook,
    /// An answer at a path of `admin_at`.
    Operation,
    /// The upstream switched protocols.
    Tunnel,
}

/// Indexed by `RequestOutcome as usize`.
pub(super) const REQUEST_OUTCOMES: [&str; 10] =
    ["hit", "miss", "collapsed", "bypass", "method", "error", "purge", "webhook", "operation", "tunnel"];

impl RequestOutcome {
    /// Only caching routes have hits and misses.
    pub(super) fn classify(outcome: &CacheOutcome, caches: bool) -> Self {
        match outcome {
            CacheOutcome::Hit { .. } => RequestOutcome::Hit,
            CacheOutcome::Forwarded { fwd: Fwd::Method, .. } => RequestOutcome::Method,
            CacheOutcome::Forwarded { fwd: Fwd::Bypass, .. } => RequestOutcome::Bypass,
            CacheOutcome::Forwarded { .. } if !caches => RequestOutcome::Bypass,
            CacheOutcome::Forwarded { collapsed: true, .. } => RequestOutcome::Collapsed,
            CacheOutcome::Forwarded { .. } => RequestOutcome::Miss,
        }
    }
}

impl From<NonCacheReply> for RequestOutcome {
    fn from(reply: NonCacheReply) -> Self {
        match reply {
            NonCacheReply::Error => RequestOutcome::Error,
            NonCacheReply::Purge => RequestOutcome::Purge,
            NonCacheReply::Webhook => RequestOutcome::Webhook,
            NonCacheReply::Operation => RequestOutcome::Operation,
            NonCacheReply::Tunnel => RequestOutcome::Tunnel,
        }
    }
}

/// 1xx to 5xx, and other codes an upstream may send.
pub(super) const STATUS_CLASSES: usize = 6;

pub(super) fn status_class(status: http::StatusCode) -> usize {
    usize::from(status.as_u16() / 100).saturating_sub(1).min(STATUS_CLASSES - 1)
}

pub(super) fn status_class_name(class: usize) -> String {
    if class + 1 < STATUS_CLASSES { format!("{}xx", class + 1) } else { OTHER_REASON.to_string() }
}

/// `fwd` values of RFC 9211, section 2.2.
pub(super) const FWDS: [(Fwd, &str); 7] = [
    (Fwd::Bypass, "bypass"),
    (Fwd::Method, "method"),
    (Fwd::UriMiss, "uri-miss"),
    (Fwd::VaryMiss, "vary-miss"),
    (Fwd::Miss, "miss"),
    (Fwd::Request, "request"),
    (Fwd::Stale, "stale"),
];

/// The words that say how a request was answered: `uri-miss`, `no-route`.
pub(crate) fn outcome_words() -> impl Iterator<Item = &'static str> {
    let details = FORWARD_REASONS.iter().flatten().map(|detail| detail.as_str());
    let not_stored = NOT_STORED_REASONS.iter().map(|reason| reason.as_str());
    FWDS.iter().map(|(_, name)| *name).chain(details).chain(not_stored)
}

pub(super) fn fwd_slot(fwd: Fwd) -> usize {
    fwd as usize
}

pub(super) const NOT_STORED_REASONS: [NotStored; 26] = [
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
    NotStored::NoCallerTag,
    NotStored::NoExpiry,
    NotStored::ExpiredCaller,
    NotStored::ChangedCaller,
    NotStored::Incomplete,
    NotStored::StrayContent,
    NotStored::Memory,
];

/// Reasons missing from the list share the last slot.
pub(super) fn not_stored_slot(reason: NotStored) -> usize {
    NOT_STORED_REASONS.iter().position(|known| *known == reason).unwrap_or(NOT_STORED_REASONS.len())
}

pub(super) fn not_stored_name(slot: usize) -> &'static str {
    NOT_STORED_REASONS.get(slot).map_or(OTHER_REASON, |reason| reason.as_str())
}

/// Details of forwarded requests.
pub(super) const FORWARD_REASONS: [Option<Detail>; 64] = [
    None,
    Some(Detail::Pass(PassReason::Method)),
    Some(Detail::Pass(PassReason::NoRoute)),
    Some(Detail::Pass(PassReason::RouteOff)),
    Some(Detail::Pass(PassReason::RouteNeverCaches)),
    Some(Detail::Pass(PassReason::PathSpelling)),
    Some(Detail::Pass(PassReason::NoCredential)),
    Some(Detail::Pass(PassReason::Caller(UnknownCaller::Anonymous))),
    Some(Detail::Pass(PassReason::Caller(UnknownCaller::Refused))),
    Some(Detail::Pass(PassReason::Caller(UnknownCaller::Expired))),
    Some(Detail::Pass(PassReason::Caller(UnknownCaller::Unverified))),
    Some(Detail::Pass(PassReason::Content)),
    Some(Detail::Pass(PassReason::OverrideField)),
    Some(Detail::Pass(PassReason::Precondition)),
    Some(Detail::Pass(PassReason::Position)),
    Some(Detail::Pass(PassReason::Range)),
    Some(Detail::Pass(PassReason::UnsentBytes)),
    Some(Detail::Pass(PassReason::Upgrade)),
    Some(Detail::Pass(PassReason::SharedPart)),
    Some(Detail::Pass(PassReason::CallerPart)),
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
    Some(Detail::NotStored(NotStored::NoCallerTag)),
    Some(Detail::NotStored(NotStored::NoExpiry)),
    Some(Detail::NotStored(NotStored::ExpiredCaller)),
    Some(Detail::NotStored(NotStored::ChangedCaller)),
    Some(Detail::NotStored(NotStored::Incomplete)),
    Some(Detail::NotStored(NotStored::StrayContent)),
    Some(Detail::NotStored(NotStored::Memory)),
    Some(Detail::Miss(MissReason::NeverStored)),
    Some(Detail::Miss(MissReason::OtherVariant)),
    Some(Detail::Miss(MissReason::OtherCaller)),
    Some(Detail::Miss(MissReason::OtherRules)),
    Some(Detail::Miss(MissReason::OtherQuery)),
    Some(Detail::Miss(MissReason::Expired)),
    Some(Detail::Miss(MissReason::ExpiredCaller)),
    Some(Detail::Miss(MissReason::Evicted)),
    Some(Detail::Miss(MissReason::ANY_PURGE)),
    Some(Detail::Miss(MissReason::InDoubt)),
    Some(Detail::Miss(MissReason::StoreUnavailable)),
    Some(Detail::StaleWhileRevalidate),
    Some(Detail::StaleIfError),
    Some(Detail::Overlay),
    Some(Detail::OverlayAnonymous),
    Some(Detail::OverlayFailed),
    Some(Detail::WouldHit),
    Some(Detail::WouldMiss),
    Some(Detail::WouldStore),
];

/// Linear search, which is cheap next to the forwarded request. Reasons missing from the list share the last slot.
pub(super) fn reason_slot(detail: Option<Detail>) -> usize {
    let detail = match detail {
        // A position would be a label without a bound.
        Some(Detail::Miss(MissReason::Purged(_))) => Some(Detail::Miss(MissReason::ANY_PURGE)),
        other => other,
    };
    FORWARD_REASONS.iter().position(|known| *known == detail).unwrap_or(FORWARD_REASONS.len())
}

pub(super) fn reason_name(slot: usize) -> &'static str {
    match FORWARD_REASONS.get(slot) {
        None => OTHER_REASON,
        Some(None) => NO_REASON,
        Some(Some(detail)) => detail.as_str(),
    }
}

/// Indexed by `PurgeSource as usize`.
pub(super) const PURGE_SOURCES: [PurgeSource; 4] =
    [PurgeSource::Write, PurgeSource::PurgeMethod, PurgeSource::Admin, PurgeSource::Event];

impl PurgeSource {
    /// Label in metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
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
    fn slots_match_the_order_of_the_label_lists() {
        for (slot, (fwd, _)) in FWDS.iter().enumerate() {
            assert_eq!(fwd_slot(*fwd), slot, "{fwd:?}");
        }
        for (slot, source) in PURGE_SOURCES.iter().enumerate() {
            assert_eq!(*source as usize, slot, "{source:?}");
        }
        for (outcome, name) in [
            (RequestOutcome::Hit, "hit"),
            (RequestOutcome::Collapsed, "collapsed"),
            (RequestOutcome::Method, "method"),
        ] {
            assert_eq!(REQUEST_OUTCOMES[outcome as usize], name);
        }
        for (slot, reason) in FORWARD_REASONS.iter().enumerate() {
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
