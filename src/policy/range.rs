//! RFC 9110 §14: ranges out of a whole stored response.

use http::HeaderMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selected {
    /// No `Range`, one that can't be read, or `If-Range` did not match: the whole.
    Whole,
    /// First and last byte, both included; in the order asked for, at least one.
    Parts(Vec<(u64, u64)>),
    /// 416.
    NotSatisfiable,
}

/// `length` is that of the stored content.
pub fn select(_request_headers: &HeaderMap, _stored_headers: &HeaderMap, _length: u64) -> Selected {
    todo!()
}
