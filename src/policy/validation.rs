//! Validation: of ours by the upstream (RFC 9111 §4.3), and of the client's by us (RFC 9110 §13).

use http::{HeaderMap, Method, StatusCode};

use super::storing::Exchange;
use crate::clock::Timestamp;
use crate::stored_response::{StoredHead, Terms};

/// §4.3.1: the fields that make the request for a stored response conditional; empty if it has no validator.
pub fn conditional_fields(_stored: &StoredHead) -> HeaderMap {
    todo!()
}

/// §4.3.3: what the answer to a conditional request means for the stored response.
#[derive(Debug, PartialEq, Eq)]
pub enum Validated {
    /// 304 that selects it: it is still good. `strong`: by a strong validator, so that its content is known to be
    /// the one of now.
    Freshened { strong: bool },
    /// Any other answer replaces it, or answers for itself.
    Replaced,
    /// 5xx: it may be served stale if its terms allow.
    Failed,
    /// 304, but for another representation: ask again without condition.
    Mismatch,
}

pub fn after_validation(_stored: &StoredHead, _status: StatusCode, _headers: &HeaderMap) -> Validated {
    todo!()
}

/// §3.2, §4.3.4: the stored fields, updated from a 304 (or a HEAD).
pub fn freshened_headers(_stored: &HeaderMap, _update: &HeaderMap) -> HeaderMap {
    todo!()
}

/// The terms of a response that was freshened; `terms` are those that its updated fields give.
pub fn freshened_terms(_stored: &Terms, _terms: Terms, _exchange: Exchange) -> Terms {
    todo!()
}

/// RFC 9110 §13.2.2: what the client's conditions make of a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    Send,
    NotModified,
    /// `If-Match` or `If-Unmodified-Since` failed: larder does not answer 412 for the upstream; forward it.
    Forward,
}

pub fn precondition(
    _method: &Method,
    _request_headers: &HeaderMap,
    _status: StatusCode,
    _stored_headers: &HeaderMap,
    _now: Timestamp,
) -> Precondition {
    todo!()
}
