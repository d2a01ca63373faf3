//! What the client's own conditions make of a stored response (RFC 9110 §13, RFC 9111 §4.3.2).

use http::header::{
    DATE, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
};
use http::{HeaderMap, Method, StatusCode};

use super::entity_tag::{EntityTag, TagList};
use super::http_date;
use crate::clock::Timestamp;

/// RFC 9110 §13.2.2: what the client's conditions make of a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    Send,
    NotModified,
    /// `If-Match` or `If-Unmodified-Since` failed: larder does not answer 412 for the upstream; forward it.
    Forward,
}

/// §13.2.2, in its order. `If-Range`, its last step, is `range`'s.
pub fn precondition(
    method: &Method,
    request_headers: &HeaderMap,
    status: StatusCode,
    stored_headers: &HeaderMap,
    now: Timestamp,
) -> Precondition {
    // §13.2.1: conditions are ignored where the response without them would not be a success, or the method does not
    // select a representation.
    if !status.is_success() || (method != Method::GET && method != Method::HEAD) {
        return Precondition::Send;
    }

    // Steps 1 and 2: If-Match, or, without it, If-Unmodified-Since.
    if !if_match_holds(request_headers, stored_headers, now) {
        return Precondition::Forward;
    }

    // RFC 9111 §4.3.2 speaks of a stored 200.
    if status != StatusCode::OK {
        return Precondition::Send;
    }

    // Steps 3 and 4: If-None-Match, or, without it, If-Modified-Since.
    let is_known_to_client = match TagList::of(request_headers, &IF_NONE_MATCH) {
        Some(tags) => none_match_fails(&tags, stored_headers),
        None => is_unmodified(request_headers, stored_headers, now),
    };
    if is_known_to_client { Precondition::NotModified } else { Precondition::Send }
}

/// §13.1.1 compares strongly; §13.1.4 counts only without `If-Match`, and if it is a date.
fn if_match_holds(request_headers: &HeaderMap, stored_headers: &HeaderMap, now: Timestamp) -> bool {
    if let Some(tags) = TagList::of(request_headers, &IF_MATCH) {
        let stored = EntityTag::of(stored_headers, &ETAG);
        return tags == TagList::Any
            || stored.is_some_and(|stored| tags.any(|tag| stored.matches_strongly(tag)));
    }
    let Some(since) = http_date::of_field(request_headers, IF_UNMODIFIED_SINCE, now) else { return true };
    http_date::of_field(stored_headers, LAST_MODIFIED, now).is_some_and(|modified| modified <= since)
}

/// §13.1.2 compares weakly; `*` is any current representation, which a stored response is.
fn none_match_fails(tags: &TagList<'_>, stored_headers: &HeaderMap) -> bool {
    let stored = EntityTag::of(stored_headers, &ETAG);
    *tags == TagList::Any || stored.is_some_and(|stored| tags.any(|tag| stored.matches_weakly(tag)))
}

/// §13.1.3, and RFC 9111 §4.3.2 for a stored response without `Last-Modified`: its `Date` stands for it. There the RFC
/// asks for *not later*; *earlier* is asked here, since two responses of one second have one `Date` and the client may
/// hold the other.
fn is_unmodified(request_headers: &HeaderMap, stored_headers: &HeaderMap, now: Timestamp) -> bool {
    let Some(since) = http_date::of_field(request_headers, IF_MODIFIED_SINCE, now) else { return false };
    if stored_headers.contains_key(LAST_MODIFIED) {
        return http_date::of_field(stored_headers, LAST_MODIFIED, now)
            .is_some_and(|modified| modified <= since);
    }
    http_date::of_field(stored_headers, DATE, now).is_some_and(|date| date < since)
}

#[cfg(test)]
#[path = "precondition_tests.rs"]
mod tests;
