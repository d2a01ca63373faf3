//! The tags of a response: those of its route, and those its own fields name.

use http::HeaderMap;

use super::{RequestHead, Route};

/// A response with more tags, or a longer one, is not stored: silently fewer would be stale answers later.
pub const MAX_TAGS: usize = 128;
pub const MAX_TAG_BYTES: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyTags;

/// Tags of the route's templates that resolve, then of `Surrogate-Key`, `Cache-Tag`, `xkey` and `Edge-Cache-Tag`.
pub fn of_response(
    _route: &Route,
    _request: &RequestHead<'_>,
    _response_headers: &HeaderMap,
) -> Result<Vec<String>, TooManyTags> {
    todo!()
}

/// A list of tags as fields carry it: by comma, space, or both.
pub fn parse_list(_value: &str) -> Vec<String> {
    todo!()
}
