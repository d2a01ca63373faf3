//! SHA-256 over length-prefixed parts.

use aws_lc_rs::digest::{SHA256, digest};

/// Collects length-prefixed parts, and hashes them together; optional parts and lists end in a marker, so that different
/// lists of parts never produce the same bytes. The largest part is a content, which is bounded.
pub(super) struct KeyHasher(Vec<u8>);

/// Room for nearly every key.
const USUAL_KEY_BYTES: usize = 256;

impl KeyHasher {
    /// `purpose` separates hashes of different kinds. Increase its number when the encoding changes.
    pub(super) fn new(purpose: &[u8]) -> Self {
        let mut parts = Self(Vec::with_capacity(USUAL_KEY_BYTES));
        parts.add(purpose);
        parts
    }

    pub(super) fn add(&mut self, part: &[u8]) {
        self.add_count(part.len());
        self.0.extend_from_slice(part);
    }

    pub(super) fn add_optional(&mut self, part: Option<&[u8]>) {
        self.add_list(part.into_iter());
    }

    pub(super) fn add_list<'p>(&mut self, list: impl Iterator<Item = &'p [u8]>) {
        for part in list {
            self.0.push(1);
            self.add(part);
        }
        self.0.push(0);
    }

    /// Encodes seven bits a byte, with the highest bit as the continuation flag: one byte for nearly every count,
    /// so that nearly every key fits one block of the hash.
    pub(super) fn add_count(&mut self, mut count: usize) {
        while count >= 0x80 {
            self.0.push(0x80 | (count & 0x7f) as u8);
            count >>= 7;
        }
        self.0.push(count as u8);
    }

    pub(super) fn digest(self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        hash
    }
}
