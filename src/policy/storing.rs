//! RFC 9111 §3: may this response be stored, and under which terms?

use http::{HeaderMap, StatusCode};

use super::classify::Caller;
use super::{RequestHead, Route};
use crate::clock::Timestamp;
use crate::stored_response::Terms;

/// Why not. The same value feeds the log, the metric and `Cache-Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotStored {
    Method,
    Status,
    NoStore,
    Private,
    SetCookie,
    VaryStar,
    /// §3.5: the request carried credentials, and the response does not say that it may be shared.
    Credentials,
    /// Neither the response nor the route gives it a lifetime.
    NoLifetime,
    /// Stale on arrival, and it can't be validated later.
    AlreadyStale,
    Partial,
    TooLarge,
    TooManyTags,
    /// Cut short by the upstream.
    Incomplete,
    /// Purged while it was being fetched.
    Purged,
    Observed,
}

impl NotStored {
    pub fn as_str(self) -> &'static str {
        match self {
            NotStored::Method => "method",
            NotStored::Status => "status",
            NotStored::NoStore => "no-store",
            NotStored::Private => "private",
            NotStored::SetCookie => "set-cookie",
            NotStored::VaryStar => "vary-star",
            NotStored::Credentials => "credentials",
            NotStored::NoLifetime => "no-lifetime",
            NotStored::AlreadyStale => "already-stale",
            NotStored::Partial => "partial",
            NotStored::TooLarge => "too-large",
            NotStored::TooManyTags => "too-many-tags",
            NotStored::Incomplete => "incomplete",
            NotStored::Purged => "purged",
            NotStored::Observed => "observed",
        }
    }

    /// Whether the next response for the key will most likely not be storable either, so that requests for it go
    /// side by side and don't queue behind each other (hit-for-miss).
    pub fn is_by_nature(self) -> bool {
        matches!(
            self,
            NotStored::NoStore
                | NotStored::Private
                | NotStored::SetCookie
                | NotStored::VaryStar
                | NotStored::NoLifetime
                | NotStored::AlreadyStale
                | NotStored::TooLarge
                | NotStored::TooManyTags
        )
    }
}

/// When the exchange happened.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    pub requested_at: Timestamp,
    pub received_at: Timestamp,
}

pub fn may_store(
    _route: &Route,
    _caller: Caller,
    _request: &RequestHead<'_>,
    _status: StatusCode,
    _headers: &HeaderMap,
    _exchange: Exchange,
) -> Result<Terms, NotStored> {
    todo!()
}
