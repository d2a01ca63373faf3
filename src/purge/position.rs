//! `Larder-Position`: the version of a write's purge, as a client brings it back to read that write.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest, Sha256};

use super::{Epoch, PurgeVersion};

const EPOCH_DIGITS: usize = 8;
const SIGNATURE_DIGITS: usize = 16;

/// The key by which replicas that share a store sign positions. A replica that knows the store by another password has
/// another key, so a signature that can't be checked may be a good one.
#[derive(Clone)]
pub(crate) struct PositionKey([u8; 32]);

/// A position that a client brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub version: PurgeVersion,
    epoch: u32,
    /// Signed with the key by which it was read. Anybody can have written any other.
    pub is_authentic: bool,
}

impl PositionKey {
    /// Derives the key from what all replicas know and clients do not.
    pub(crate) fn derive(secrets: &[&[u8]]) -> Self {
        let mut hash = Sha256::new_with_prefix(b"larder position");
        for secret in secrets {
            hash.update((secret.len() as u64).to_le_bytes());
            hash.update(secret);
        }
        Self(hash.finalize().into())
    }

    /// `<version>-<epoch>-<signature>`, the latter two in hexadecimal digits.
    pub(crate) fn write(&self, epoch: Epoch, version: PurgeVersion) -> String {
        let signed = format!("{}-{:08x}", version.0, epoch_tag(epoch));
        format!("{signed}-{:016x}", self.sign(&signed))
    }

    /// `None` if no key wrote it.
    pub(crate) fn parse(&self, text: &str) -> Option<Position> {
        let (signed, signature) = text.trim().rsplit_once('-')?;
        let (version, epoch) = signed.split_once('-')?;
        if signature.len() != SIGNATURE_DIGITS || epoch.len() != EPOCH_DIGITS {
            return None;
        }
        let is_authentic = u64::from_str_radix(signature, 16).ok()? == self.sign(signed);
        let epoch = u32::from_str_radix(epoch, 16).ok()?;
        Some(Position { version: PurgeVersion(version.parse().ok()?), epoch, is_authentic })
    }

    fn sign(&self, text: &str) -> u64 {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return 0 };
        mac.update(text.as_bytes());
        first_number(&mac.finalize().into_bytes())
    }
}

impl Position {
    pub(crate) fn has_epoch(&self, epoch: Epoch) -> bool {
        self.epoch == epoch_tag(epoch)
    }
}

/// Enough to tell epochs apart, and too little to guess one.
fn epoch_tag(Epoch(epoch): Epoch) -> u32 {
    (first_number(&Sha256::digest(epoch.to_le_bytes())) >> 32) as u32
}

fn first_number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().copied().map(u64::from_be_bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written_and_nothing_else_is() {
        let (key, other) =
            (PositionKey::derive(&[b"shop", b"secret"]), PositionKey::derive(&[b"shop", b"other"]));
        let text = key.write(Epoch(7), PurgeVersion(1_763_640_000_123_456));
        let position = key.parse(&text).unwrap();
        assert_eq!(position.version, PurgeVersion(1_763_640_000_123_456));
        assert!(position.has_epoch(Epoch(7)) && !position.has_epoch(Epoch(8)));
        assert!(position.is_authentic);
        assert_eq!(other.parse(&text), Some(Position { is_authentic: false, ..position }));
        let another = key.parse(&text.replacen('1', "2", 1)).unwrap();
        assert_eq!((another.version, another.is_authentic), (PurgeVersion(2_763_640_000_123_456), false));
        for forged in [
            "",
            "1",
            "-",
            "--",
            "1763640000123457",
            "1763640000123457-00000007",
            &text.replacen('-', "-0", 1),
            &text[..text.len() - 1],
        ] {
            assert_eq!(key.parse(forged), None, "{forged}");
        }
    }
}
