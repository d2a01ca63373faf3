//! The validators of a response (RFC 9110 §8.8).

use http::HeaderMap;
use http::header::{ETAG, LAST_MODIFIED};

use super::entity_tag::EntityTag;
use super::http_date;
use crate::clock::Timestamp;

/// Whether a response has a well-formed validator, so that a request can be made conditional on it.
pub(super) fn has_validator(headers: &HeaderMap) -> bool {
    EntityTag::from_field(headers, &ETAG).is_some() || has_last_modified(headers)
}

/// Whether a response has a well-formed `Last-Modified`.
pub(super) fn has_last_modified(headers: &HeaderMap) -> bool {
    // The year does not matter here.
    http_date::parse_field(headers, LAST_MODIFIED, Timestamp::default()).is_some()
}
