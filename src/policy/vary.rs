//! RFC 9111 §4.1: which request fields a response was selected by.

use http::{HeaderMap, HeaderName};

/// The names in `Vary`, sorted, each once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VaryFields(Box<[HeaderName]>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vary {
    /// No `Vary`, or an empty one.
    Nothing,
    Fields(VaryFields),
    /// `*` anywhere, or something that can't be read: matches no other request.
    Everything,
}

impl Vary {
    pub fn of(_response_headers: &HeaderMap) -> Self {
        todo!()
    }
}

impl VaryFields {
    /// Sorted and deduplicated.
    pub fn new(_names: Vec<HeaderName>) -> Self {
        todo!()
    }

    pub fn names(&self) -> &[HeaderName] {
        &self.0
    }
}
