//! Fingerprints of route rules: a stored response is used only under the rules that it was stored by.

use http::{HeaderMap, HeaderName};

use super::CallerFields;
use super::key_hasher::KeyHasher;
use super::overlay::OverlayAs;

/// A hash of the route rules that decide which requests a stored response may answer: key, tags and `per`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    pub(super) fn from_parts(parts: KeyHasher) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = parts.digest();
        Fingerprint(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// Tells the shared part of a route with `overlay` from the route without it, whose responses may be of one caller, and
    /// from the part as it was asked for without one of the fields `removed`, or with others than `added`.
    pub(crate) fn as_shared_part(
        self,
        asked_as: OverlayAs,
        removed: &[HeaderName],
        added: &HeaderMap,
    ) -> Self {
        let mut parts = KeyHasher::new(b"larder shared part 1");
        parts.add(&self.0.to_be_bytes());
        parts.add(&[u8::from(asked_as == OverlayAs::Background)]);
        let mut removed: Vec<&[u8]> = removed.iter().map(|name| name.as_str().as_bytes()).collect();
        removed.sort_unstable();
        removed.dedup();
        parts.add_list(removed.into_iter());
        let mut added: Vec<_> =
            added.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())).collect();
        added.sort_unstable();
        parts.add_list(added.into_iter().flat_map(|(name, value)| [name, value]));
        Fingerprint::from_parts(parts)
    }

    /// Adds the fields that identify callers: a response that was shared before a field became a credential is not
    /// shared after.
    pub(crate) fn with_caller_fields(self, caller_fields: &CallerFields) -> Self {
        let mut parts = KeyHasher::new(b"larder credentials 4");
        parts.add(&self.0.to_be_bytes());
        parts.add_list(caller_fields.describe());
        Fingerprint::from_parts(parts)
    }
}
