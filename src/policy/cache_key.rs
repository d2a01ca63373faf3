//! What selects a stored response (RFC 9111 §2, §4.1): SHA-256 over length-prefixed parts.

use super::{RequestHead, Route, VaryFields};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey(pub [u8; 32]);

/// Of the part of a route that decides what a stored response may be used for: its key, tags and `per`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u64);

impl CacheKey {
    /// The key of what `request` asks for under `route`. `query` is the selected one; `credential` is the value of
    /// the route's `per`.
    pub fn new(
        _route: &Route,
        _request: &RequestHead<'_>,
        _query: Option<&str>,
        _credential: Option<&[u8]>,
    ) -> Self {
        todo!()
    }

    /// The key of the variant that answers `request`, where the responses under this key differ by `fields`.
    pub fn variant(&self, _fields: &VaryFields, _request: &RequestHead<'_>) -> CacheKey {
        todo!()
    }
}

impl Fingerprint {
    pub fn of(_route: &Route) -> Self {
        todo!()
    }
}
