//! Who is asking: which credential a request carries.

use http::{HeaderMap, HeaderName};

use super::route::Credential;

/// The value of the credential that a `per:` route tells callers apart by; `None` if the request does not carry it
/// (or carries it twice).
pub fn value_of<'a>(_credential: &Credential, _headers: &'a HeaderMap) -> Option<&'a [u8]> {
    todo!()
}

/// Whether the request carries any of the fields that identify callers.
pub fn presented(_headers: &HeaderMap, _credentials: &[HeaderName]) -> bool {
    todo!()
}

/// The value of one cookie.
pub fn cookie<'a>(_headers: &'a HeaderMap, _name: &str) -> Option<&'a str> {
    todo!()
}

/// A claim of the bearer's JWT, read and not trusted: strings, numbers and booleans.
pub fn jwt_claim(_headers: &HeaderMap, _claim: &str) -> Option<String> {
    todo!()
}
