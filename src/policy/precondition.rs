//! Evaluates the client's conditions against a stored response (RFC 9110 §13, RFC 9111 §4.3.2).

use http::header::{
    DATE, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
};
use http::{HeaderMap, Method, StatusCode};

use super::entity_tag::{EntityTag, EntityTagList};
use super::http_date;
use crate::clock::Timestamp;

/// The result of the client's conditions (RFC 9110 §13.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Send the whole response.
    Send,
    /// Send 304.
    NotModified,
    /// `If-Match` or `If-Unmodified-Since` failed: forward the request, the upstream answers 412.
    Forward,
}

/// Follows the order of §13.2.2. `If-Range`, the last step, is in `range`.
pub fn evaluate_precondition(
    method: &Method,
    request_headers: &HeaderMap,
    status: StatusCode,
    stored_headers: &HeaderMap,
    now: Timestamp,
) -> Precondition {
    // §13.2.1: conditions are ignored if the unconditional response would not be a success, or the method does not
    // select a representation.
    if !status.is_success() || !(matches!(*method, Method::GET | Method::HEAD) || method.as_str() == "QUERY")
    {
        return Precondition::Send;
    }

    // Steps 1 and 2: If-Match, or If-Unmodified-Since without it.
    if !if_match_holds(request_headers, stored_headers, now) {
        return Precondition::Forward;
    }

    // RFC 9111 §4.3.2 covers a stored 200.
    if status != StatusCode::OK {
        return Precondition::Send;
    }

    // Steps 3 and 4: If-None-Match, or If-Modified-Since without it.
    let is_known_to_client = match EntityTagList::from_field(request_headers, &IF_NONE_MATCH) {
        Some(tags) => if_none_match_matches(&tags, stored_headers),
        None => is_unmodified(request_headers, stored_headers, now),
    };
    if is_known_to_client { Precondition::NotModified } else { Precondition::Send }
}

/// §13.1.1 compares strongly; §13.1.4 applies only without `If-Match`, and to a valid date.
fn if_match_holds(request_headers: &HeaderMap, stored_headers: &HeaderMap, now: Timestamp) -> bool {
    if let Some(tags) = EntityTagList::from_field(request_headers, &IF_MATCH) {
        let stored = EntityTag::from_field(stored_headers, &ETAG);
        return tags == EntityTagList::Any
            || stored.is_some_and(|stored| tags.any(|tag| stored.matches_strongly(tag)));
    }
    let Some(since) = http_date::parse_field(request_headers, IF_UNMODIFIED_SINCE, now) else { return true };
    http_date::parse_field(stored_headers, LAST_MODIFIED, now).is_some_and(|modified| modified <= since)
}

/// §13.1.2 compares weakly; `*` matches any current representation.
fn if_none_match_matches(tags: &EntityTagList<'_>, stored_headers: &HeaderMap) -> bool {
    let stored = EntityTag::from_field(stored_headers, &ETAG);
    *tags == EntityTagList::Any || stored.is_some_and(|stored| tags.any(|tag| stored.matches_weakly(tag)))
}

/// §13.1.3. Without `Last-Modified`, RFC 9111 §4.3.2 uses the stored `Date`, with *not later*; *earlier* is
/// required here, because two responses of one second share their `Date`.
fn is_unmodified(request_headers: &HeaderMap, stored_headers: &HeaderMap, now: Timestamp) -> bool {
    let Some(since) = http_date::parse_field(request_headers, IF_MODIFIED_SINCE, now) else { return false };
    if stored_headers.contains_key(LAST_MODIFIED) {
        return http_date::parse_field(stored_headers, LAST_MODIFIED, now)
            .is_some_and(|modified| modified <= since);
    }
    http_date::parse_field(stored_headers, DATE, now).is_some_and(|date| date < since)
}

#[cfg(test)]
#[path = "precondition_tests.rs"]
mod tests;
