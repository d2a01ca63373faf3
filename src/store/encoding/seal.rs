//! Seals stored values: encrypted with AES-256-GCM, or readable and signed with HMAC-SHA256.
//!
//! Both bind a value to the namespace, by which the keys are derived, to the key of the response, and to the readable
//! prefix: format, lengths, cache key, the fingerprint of the route's rules, epoch, purge version and the time of the
//! request, which `redis/replace.lua` compares. So a value is of no use under another key or for another route.
//!
//! The checksum in the prefix of an encrypted value is zeroed, because it is one of the plaintext.
//!
//! ```text
//! prefix (kind + 0x80)  id of the key  nonce  ciphertext  tag
//! 96 or 54              8              12     …           16
//!
//! prefix (kind + 0x20)  id of the key  MAC  rest
//! 96 or 54              8              32   …
//! ```

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hkdf, hmac};
use bytes::Bytes;

use super::compression::COMPRESSED;
use super::{CHECKSUM_OFFSET, HEAD_OFFSET, prefix_length};
use crate::config::{SealingKey, SealingMode};
use crate::policy::CacheKey;
use crate::random::random_bytes;

/// Set in the kind of an encrypted value.
const ENCRYPTED: u8 = 0x80;

/// Set in the kind of a signed value.
const SIGNED: u8 = 0x20;

const KEY_ID_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
const MAC_BYTES: usize = digest::SHA256_OUTPUT_LEN;

/// They separate the derived keys from other uses of the same secret. The number is that of the format: a value of
/// another one has the id of no key.
const ENCRYPTION_PURPOSE: &[u8] = b"larder values in Redis, AES-256-GCM, 2";
const SIGNATURE_PURPOSE: &[u8] = b"larder values in Redis, HMAC-SHA256, 1";
const KEY_ID_PURPOSE: &str = "larder key 2 ";

/// Seals with the first of its keys, and opens with any, whether a value is encrypted or signed.
pub(crate) struct ValueSeal {
    mode: SealingMode,
    keys: Vec<SealKey>,
}

struct SealKey {
    id: [u8; KEY_ID_BYTES],
    cipher: LessSafeKey,
    signer: hmac::Key,
}

/// Why a value can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SealError {
    /// It is not sealed, or with a key that is not configured here: perhaps by a replica with other settings.
    UnknownKey,
    /// It was forged, moved from another key, or damaged.
    NotAuthentic,
}

impl ValueSeal {
    /// `None` without keys.
    pub(crate) fn new(mode: SealingMode, keys: &[SealingKey], namespace: &str) -> Option<Self> {
        let keys: Vec<_> = keys.iter().map(|key| SealKey::derive(key, namespace)).collect();
        (!keys.is_empty()).then_some(Self { mode, keys })
    }

    /// Seals an encoded value, compressed or not; `encrypt`: in another mode than its own. `None` if no random nonce can be
    /// drawn.
    pub(crate) fn seal(&self, key: &CacheKey, value: &[u8], encrypt: Option<bool>) -> Option<Bytes> {
        let with = self.keys.first()?;
        let mode = match encrypt {
            Some(true) => SealingMode::Encrypt,
            Some(false) => SealingMode::Sign,
            None => self.mode,
        };
        match mode {
            SealingMode::Encrypt => with.encrypt(key, value),
            SealingMode::Sign => with.sign(key, value),
        }
    }

    /// Opens a value: returns its encoded form.
    ///
    /// # Errors
    /// If it is not sealed with one of the keys, or was not written for `key`.
    pub(crate) fn open(&self, key: &CacheKey, value: &[u8]) -> Result<Bytes, SealError> {
        let sealed_by = value.get(5).map_or(0, |kind| kind & (ENCRYPTED | SIGNED));
        if !matches!(sealed_by, ENCRYPTED | SIGNED) {
            return Err(SealError::UnknownKey);
        }
        let parts = SealedParts::split(value).ok_or(SealError::NotAuthentic)?;
        let with = self.keys.iter().find(|key| key.id[..] == *parts.id).ok_or(SealError::UnknownKey)?;
        let plain = match sealed_by {
            ENCRYPTED => with.decrypt(key, &parts),
            _ => with.verify(key, &parts),
        };
        plain.ok_or(SealError::NotAuthentic)
    }
}

/// The parts of a sealed value.
struct SealedParts<'v> {
    prefix: &'v [u8],
    id: &'v [u8],
    rest: &'v [u8],
}

impl<'v> SealedParts<'v> {
    fn split(value: &'v [u8]) -> Option<Self> {
        let (prefix, rest) = value.split_at_checked(readable_length(value)?)?;
        let (id, rest) = rest.split_at_checked(KEY_ID_BYTES)?;
        Some(Self { prefix, id, rest })
    }
}

impl SealKey {
    fn derive(key: &SealingKey, namespace: &str) -> Self {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(key.secret.expose().as_bytes());
        let [encryption, signature] =
            [ENCRYPTION_PURPOSE, SIGNATURE_PURPOSE].map(|purpose| [purpose, namespace.as_bytes()]);
        let cipher = secret.expand(&encryption, &AES_256_GCM).map(UnboundKey::from);
        let signer = secret.expand(&signature, hmac::HMAC_SHA256).map(hmac::Key::from);
        match (cipher, signer) {
            (Ok(cipher), Ok(signer)) => {
                Self { id: key_id(&key.id), cipher: LessSafeKey::new(cipher), signer }
            }
            // 32 bytes are less than HKDF's limit.
            (Err(error), _) | (_, Err(error)) => unreachable!("{error}"),
        }
    }

    fn encrypt(&self, key: &CacheKey, value: &[u8]) -> Option<Bytes> {
        let nonce: [u8; NONCE_LEN] = random_bytes().ok()?;
        let (prefix, rest) = value.split_at_checked(readable_length(value)?)?;
        let mut sealed = Vec::with_capacity(value.len() + KEY_ID_BYTES + NONCE_LEN + TAG_BYTES);
        sealed.extend_from_slice(prefix);
        sealed[5] |= ENCRYPTED;
        sealed[CHECKSUM_OFFSET..HEAD_OFFSET].fill(0);
        sealed.extend_from_slice(&self.id);
        let associated = [&key.0[..], &sealed].concat();
        sealed.extend_from_slice(&nonce);
        let start = sealed.len();
        sealed.extend_from_slice(rest);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .cipher
            .seal_in_place_separate_tag(nonce, Aad::from(associated), &mut sealed[start..])
            .ok()?;
        sealed.extend_from_slice(tag.as_ref());
        Some(sealed.into())
    }

    fn decrypt(&self, key: &CacheKey, SealedParts { prefix, id, rest }: &SealedParts<'_>) -> Option<Bytes> {
        let (nonce, ciphertext) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let associated = [&key.0[..], prefix, id].concat();
        let mut text = ciphertext.to_vec();
        let plain = self.cipher.open_in_place(nonce, Aad::from(associated), &mut text).ok()?;
        let mut opened = [*prefix, plain].concat();
        opened[5] &= !ENCRYPTED;
        super::put_checksum(&mut opened)?;
        Some(opened.into())
    }

    fn sign(&self, key: &CacheKey, value: &[u8]) -> Option<Bytes> {
        let (prefix, rest) = value.split_at_checked(readable_length(value)?)?;
        let mut sealed = Vec::with_capacity(value.len() + KEY_ID_BYTES + MAC_BYTES);
        sealed.extend_from_slice(prefix);
        sealed[5] |= SIGNED;
        let mac = self.mac(key, &SealedParts { prefix: &sealed, id: &self.id, rest });
        sealed.extend_from_slice(&self.id);
        sealed.extend_from_slice(mac.as_ref());
        sealed.extend_from_slice(rest);
        Some(sealed.into())
    }

    fn verify(&self, key: &CacheKey, parts: &SealedParts<'_>) -> Option<Bytes> {
        let (mac, rest) = parts.rest.split_at_checked(MAC_BYTES)?;
        let computed = self.mac(key, &SealedParts { rest, ..*parts });
        verify_slices_are_equal(computed.as_ref(), mac).ok()?;
        let mut opened = [parts.prefix, rest].concat();
        opened[5] &= !SIGNED;
        Some(opened.into())
    }

    fn mac(&self, key: &CacheKey, SealedParts { prefix, id, rest }: &SealedParts<'_>) -> hmac::Tag {
        let mut mac = hmac::Context::with_key(&self.signer);
        for part in [&key.0[..], prefix, id, rest] {
            mac.update(part);
        }
        mac.sign()
    }
}

/// Whether a value is encrypted or signed.
pub(crate) fn is_sealed(value: &[u8]) -> bool {
    value.starts_with(&super::MAGIC) && value.get(5).is_some_and(|kind| kind & (ENCRYPTED | SIGNED) != 0)
}

/// The length of the readable prefix, whatever was done to the rest.
fn readable_length(value: &[u8]) -> Option<usize> {
    prefix_length(*value.get(5)? & !(ENCRYPTED | SIGNED | COMPRESSED))
}

/// A name of fixed length for a key's id.
fn key_id(id: &str) -> [u8; KEY_ID_BYTES] {
    let mut short = [0; KEY_ID_BYTES];
    let hash = digest::digest(&digest::SHA256, format!("{KEY_ID_PURPOSE}{id}").as_bytes());
    short.copy_from_slice(&hash.as_ref()[..KEY_ID_BYTES]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    const KEY: CacheKey = CacheKey([7; 32]);
    const MODES: [SealingMode; 2] = [SealingMode::Encrypt, SealingMode::Sign];

    fn seal_in(mode: SealingMode, ids: &[&str], namespace: &str) -> ValueSeal {
        let key = |id: &&str| SealingKey {
            id: (*id).to_owned(),
            secret: Secret::new(format!("{id}: a long secret")),
        };
        ValueSeal::new(mode, &ids.iter().map(key).collect::<Vec<_>>(), namespace).unwrap()
    }

    fn seal(mode: SealingMode, ids: &[&str]) -> ValueSeal {
        seal_in(mode, ids, "larder")
    }

    /// An encoded response with a head of 200 bytes and a content of 300.
    fn value() -> Vec<u8> {
        let mut value =
            [b"lrdr\x05\x01".as_slice(), &200_u32.to_le_bytes(), &300_u32.to_le_bytes(), &[0; 8]].concat();
        value.extend((0..500).map(|number: u32| number as u8));
        super::super::put_checksum(&mut value).unwrap();
        value
    }

    #[test]
    fn an_encrypted_value_is_unreadable_and_comes_back_whole() {
        let (seal, value) = (seal(SealingMode::Encrypt, &["a"]), value());
        let sealed = seal.seal(&KEY, &value, None).unwrap();
        assert!(!sealed.windows(16).any(|part| *part == value[200..216]));
        assert_ne!(sealed, seal.seal(&KEY, &value, None).unwrap(), "each nonce is used once");
        assert_eq!(seal.open(&KEY, &sealed).unwrap(), value);
    }

    #[test]
    fn a_signed_value_is_the_value_and_a_signature() {
        let (seal, value) = (seal(SealingMode::Sign, &["a"]), value());
        let sealed = seal.seal(&KEY, &value, None).unwrap();
        assert_eq!((sealed.len(), &sealed[136..]), (value.len() + 40, &value[96..]));
        assert_eq!(seal.open(&KEY, &sealed).unwrap(), value);
    }

    #[test]
    fn any_change_and_any_other_key_is_found() {
        for mode in MODES {
            let (seal, value) = (seal(mode, &["a"]), value());
            let sealed = seal.seal(&KEY, &value, None).unwrap();
            for at in 0..sealed.len() {
                let mut forged = sealed.to_vec();
                forged[at] ^= 1;
                assert!(seal.open(&KEY, &forged).is_err(), "{at}");
                assert!(seal.open(&KEY, &sealed[..at]).is_err(), "{at}");
            }
            // One kind of seal is not taken for the other, nor for none.
            for kind in 0..=u8::MAX {
                let mut forged = sealed.to_vec();
                forged[5] = kind;
                assert_eq!(seal.open(&KEY, &forged).is_ok(), kind == sealed[5], "{kind}");
            }
            assert!(seal.open(&KEY, &[&sealed[..], &[0]].concat()).is_err());
            assert_eq!(seal.open(&CacheKey([8; 32]), &sealed), Err(SealError::NotAuthentic));
            assert_eq!(seal.open(&KEY, &value), Err(SealError::UnknownKey), "plain values are not believed");
            let elsewhere = seal_in(mode, &["a"], "staging").seal(&KEY, &value, None).unwrap();
            assert_eq!(seal.open(&KEY, &elsewhere), Err(SealError::NotAuthentic));
        }
    }

    #[test]
    fn keys_are_rotated_by_id() {
        let value = value();
        for mode in MODES {
            let old = seal(mode, &["a"]).seal(&KEY, &value, None).unwrap();
            let rotated = seal(mode, &["b", "a"]);
            assert_eq!(rotated.open(&KEY, &old).unwrap(), value);
            let new = rotated.seal(&KEY, &value, None).unwrap();
            assert_eq!(seal(mode, &["a", "b"]).open(&KEY, &new).unwrap(), value);
            assert_eq!(seal(mode, &["a"]).open(&KEY, &new), Err(SealError::UnknownKey));
        }
    }

    #[test]
    fn the_same_keys_open_both_kinds() {
        let value = value();
        for (mode, other) in
            [(SealingMode::Encrypt, SealingMode::Sign), (SealingMode::Sign, SealingMode::Encrypt)]
        {
            let sealed = seal(mode, &["a"]).seal(&KEY, &value, None).unwrap();
            assert_eq!(seal(other, &["a"]).open(&KEY, &sealed).unwrap(), value);
        }
    }

    #[test]
    fn one_value_is_sealed_in_another_mode() {
        let value = value();
        for mode in MODES {
            let seal = seal(mode, &["a"]);
            let [encrypted, signed] =
                [true, false].map(|encrypt| seal.seal(&KEY, &value, Some(encrypt)).unwrap());
            assert!(!encrypted.ends_with(&value[200..]) && signed.ends_with(&value[200..]));
            assert!([encrypted, signed].iter().all(|sealed| seal.open(&KEY, sealed).unwrap() == value));
        }
    }

    /// Release 0.1.0 took the hash of the id alone for its name. Its replicas leave what they don't know, and so do those
    /// of this one.
    #[test]
    fn a_value_of_the_former_release_is_foreign() {
        let mut value = seal(SealingMode::Encrypt, &["a"]).seal(&KEY, &value(), None).unwrap().to_vec();
        value[96..104].copy_from_slice(&digest::digest(&digest::SHA256, b"a").as_ref()[..8]);
        assert_eq!(seal(SealingMode::Encrypt, &["a"]).open(&KEY, &value), Err(SealError::UnknownKey));
    }
}
