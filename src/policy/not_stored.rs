//! Why a response is not stored.

/// The reason for not storing; shared by the log, the metric and `Cache-Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotStored {
    /// The method is not one by which the route is read.
    Method,
    /// The status is not one that is stored.
    Status,
    /// §5.2.2.5: `no-store`.
    NoStore,
    /// §5.2.1.5: the request has `no-store`, on a route that honours it.
    RequestNoStore,
    /// §5.2.2.7: `private`.
    Private,
    /// It has `Set-Cookie`.
    SetCookie,
    /// It has `Vary: *`.
    VaryStar,
    /// `text/event-stream`: it never completes and is not replayable.
    EventStream,
    /// §3.5: the request had credentials, and the response is not marked as shared.
    Credentials,
    /// Neither the response nor the route gives a lifetime.
    NoLifetime,
    /// Stale on arrival, without a way to validate it later.
    AlreadyStale,
    /// A 206.
    Partial,
    /// It exceeds the route's `max_size`.
    TooLarge,
    /// It would have too many tags.
    TooManyTags,
    /// The tags are in the content, which is not JSON by its type and charset.
    NotJson,
    /// The tags are in the content, which has a coding other than gzip.
    Encoded,
    /// The tags are in the content, which is malformed or has duplicate names.
    MalformedJson,
    /// The tags are in the content, which exceeds the route's `max_json`.
    JsonTooLarge,
    /// The tags are in the content, which has a value that cannot be part of a tag.
    UnusableJson,
    /// A tag of the route names the caller, for whom alone the response is, and whose token lacks that claim: no write of
    /// the caller would purge it.
    NoCallerTag,
    /// The route's `ttl_from` is missing or not a time.
    NoExpiry,
    /// The caller's token has expired, by its own `exp`.
    ExpiredCaller,
    /// Asked again after the response, the service knows another caller by the same credentials.
    ChangedCaller,
    /// The upstream cut the response short.
    Incomplete,
    /// RFC 9110 §15.3.5: a 204 came with content.
    StrayContent,
    /// The bodies that are stored, being fetched and being sent exceed the memory budget.
    Memory,
}

impl NotStored {
    /// The label in metrics, and the `detail` in `Cache-Status`.
    pub fn as_str(self) -> &'static str {
        match self {
            NotStored::Method => "method",
            NotStored::Status => "status",
            NotStored::NoStore => "no-store",
            NotStored::RequestNoStore => "request-no-store",
            NotStored::Private => "private",
            NotStored::SetCookie => "set-cookie",
            NotStored::VaryStar => "vary-star",
            NotStored::EventStream => "event-stream",
            NotStored::Credentials => "credentials",
            NotStored::NoLifetime => "no-lifetime",
            NotStored::AlreadyStale => "already-stale",
            NotStored::Partial => "partial",
            NotStored::TooLarge => "too-large",
            NotStored::TooManyTags => "too-many-tags",
            NotStored::NotJson => "not-json",
            NotStored::Encoded => "encoded-json",
            NotStored::MalformedJson => "malformed-json",
            NotStored::JsonTooLarge => "json-too-large",
            NotStored::UnusableJson => "unusable-json",
            NotStored::NoCallerTag => "no-caller-tag",
            NotStored::NoExpiry => "no-expiry",
            NotStored::ExpiredCaller => "expired-caller",
            NotStored::ChangedCaller => "changed-caller",
            NotStored::Incomplete => "incomplete",
            NotStored::StrayContent => "stray-content",
            NotStored::Memory => "memory",
        }
    }

    /// Whether the next response for the key is probably not storable either. Requests for the key then run in
    /// parallel instead of waiting for one fetch (hit-for-miss).
    pub(crate) fn predicts_uncacheable(self) -> bool {
        matches!(
            self,
            NotStored::NoStore
                | NotStored::Private
                | NotStored::SetCookie
                | NotStored::VaryStar
                | NotStored::EventStream
                | NotStored::NoLifetime
                | NotStored::AlreadyStale
                | NotStored::TooLarge
                | NotStored::TooManyTags
                | NotStored::NotJson
                | NotStored::Encoded
                | NotStored::MalformedJson
                | NotStored::JsonTooLarge
                | NotStored::UnusableJson
                | NotStored::NoCallerTag
                | NotStored::NoExpiry
                | NotStored::ExpiredCaller
        )
    }
}
