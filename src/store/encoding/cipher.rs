//! Encryption of stored values: AES-256-GCM, with the key of the response and the readable prefix as associated data.
//!
//! The prefix stays readable: format, lengths, cache key, epoch, purge version and the time of the request, which
//! `redis/replace.lua` compares. The checksum in it is zeroed, because it is one of the plaintext.
//!
//! ```text
//! prefix (kind + 0x80)  id of the key  nonce  ciphertext  tag
//! 96 or 54              8              12     …           16
//! ```

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf};
use bytes::Bytes;

use super::compression::COMPRESSED;
use super::{CHECKSUM_OFFSET, HEAD_OFFSET, prefix_length};
use crate::config::EncryptionKey;
use crate::policy::CacheKey;
use crate::random::random_bytes;

/// Set in the kind of an encrypted value.
const ENCRYPTED: u8 = 0x80;

const KEY_ID_BYTES: usize = 8;
const TAG_BYTES: usize = 16;

/// Separates the derived keys from other uses of the same secret.
const KEY_PURPOSE: &[u8] = b"larder values in Redis, AES-256-GCM, 1";

/// Encrypts with the first of its keys, and decrypts with any.
pub struct ValueCipher {
    keys: Vec<([u8; KEY_ID_BYTES], LessSafeKey)>,
}

/// Why a value can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// It is not encrypted, or with a key that is not configured here: perhaps by a replica with other settings.
    UnknownKey,
    /// It was forged, moved from another key, or damaged.
    NotAuthentic,
}

impl ValueCipher {
    /// `None` without keys.
    pub fn new(keys: &[EncryptionKey]) -> Option<Self> {
        let key = |key: &EncryptionKey| (key_id(&key.id), derive_key(key.secret.expose()));
        (!keys.is_empty()).then(|| Self { keys: keys.iter().map(key).collect() })
    }

    /// Encrypts an encoded value, compressed or not. `None` if no random nonce can be drawn.
    pub fn seal(&self, key: &CacheKey, value: &[u8]) -> Option<Bytes> {
        let (id, cipher) = self.keys.first()?;
        let nonce: [u8; NONCE_LEN] = random_bytes().ok()?;
        let (prefix, rest) = value.split_at_checked(prefix_length(*value.get(5)? & !COMPRESSED)?)?;
        let mut sealed = Vec::with_capacity(value.len() + KEY_ID_BYTES + NONCE_LEN + TAG_BYTES);
        sealed.extend_from_slice(prefix);
        sealed[5] |= ENCRYPTED;
        sealed[CHECKSUM_OFFSET..HEAD_OFFSET].fill(0);
        sealed.extend_from_slice(id);
        let associated = associated_data(key, &sealed);
        sealed.extend_from_slice(&nonce);
        let start = sealed.len();
        sealed.extend_from_slice(rest);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag =
            cipher.seal_in_place_separate_tag(nonce, Aad::from(associated), &mut sealed[start..]).ok()?;
        sealed.extend_from_slice(tag.as_ref());
        Some(sealed.into())
    }

    /// Decrypts a value into its encoded form.
    ///
    /// # Errors
    /// If it is not encrypted with one of the keys, or was not written for `key`.
    pub fn open(&self, key: &CacheKey, value: &[u8]) -> Result<Bytes, SealError> {
        let kind =
            value.get(5).filter(|kind| **kind & ENCRYPTED != 0).ok_or(SealError::UnknownKey)? & !ENCRYPTED;
        let prefix_length = prefix_length(kind & !COMPRESSED).ok_or(SealError::NotAuthentic)?;
        let split = value.split_at_checked(prefix_length + KEY_ID_BYTES).ok_or(SealError::NotAuthentic)?;
        let (with_id, rest) = split;
        let (prefix, id) = with_id.split_at(prefix_length);
        let found = self.keys.iter().find(|(known, _)| known[..] == *id);
        let (_, cipher) = found.ok_or(SealError::UnknownKey)?;
        let (nonce, ciphertext) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::NotAuthentic)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::NotAuthentic)?;
        let associated = associated_data(key, with_id);
        let mut text = ciphertext.to_vec();
        let plain = cipher
            .open_in_place(nonce, Aad::from(associated), &mut text)
            .map_err(|_| SealError::NotAuthentic)?;
        let mut opened = Vec::with_capacity(prefix.len() + plain.len());
        opened.extend_from_slice(prefix);
        opened.extend_from_slice(plain);
        opened[5] = kind;
        super::put_checksum(&mut opened).ok_or(SealError::NotAuthentic)?;
        Ok(opened.into())
    }
}

fn associated_data(key: &CacheKey, prefix: &[u8]) -> Vec<u8> {
    [&key.0[..], prefix].concat()
}

/// A name of fixed length for a key's id.
fn key_id(id: &str) -> [u8; KEY_ID_BYTES] {
    let mut short = [0; KEY_ID_BYTES];
    short.copy_from_slice(&digest::digest(&digest::SHA256, id.as_bytes()).as_ref()[..KEY_ID_BYTES]);
    short
}

fn derive_key(secret: &str) -> LessSafeKey {
    let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(secret.as_bytes());
    let derived = secret.expand(&[KEY_PURPOSE], &AES_256_GCM).map(UnboundKey::from);
    match derived {
        Ok(key) => LessSafeKey::new(key),
        // 32 bytes are less than HKDF's limit.
        Err(error) => unreachable!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    const KEY: CacheKey = CacheKey([7; 32]);

    fn cipher(ids: &[&str]) -> ValueCipher {
        let key = |id: &&str| EncryptionKey {
            id: (*id).to_owned(),
            secret: Secret::new(format!("{id}: a long secret")),
        };
        ValueCipher::new(&ids.iter().map(key).collect::<Vec<_>>()).unwrap()
    }

    /// An encoded response with a head of 200 bytes and a content of 300.
    fn value() -> Vec<u8> {
        let mut value =
            [b"lrdr\x04\x01".as_slice(), &200_u32.to_le_bytes(), &300_u32.to_le_bytes(), &[0; 8]].concat();
        value.extend((0..500).map(|number: u32| number as u8));
        super::super::put_checksum(&mut value).unwrap();
        value
    }

    #[test]
    fn a_value_is_unreadable_and_comes_back_whole() {
        let (cipher, value) = (cipher(&["a"]), value());
        let sealed = cipher.seal(&KEY, &value).unwrap();
        assert!(!sealed.windows(16).any(|part| *part == value[200..216]));
        assert_ne!(sealed, cipher.seal(&KEY, &value).unwrap(), "each nonce is used once");
        assert_eq!(cipher.open(&KEY, &sealed).unwrap(), value);
    }

    #[test]
    fn any_change_and_any_other_key_is_found() {
        let (cipher, value) = (cipher(&["a"]), value());
        let sealed = cipher.seal(&KEY, &value).unwrap();
        for at in 0..sealed.len() {
            let mut forged = sealed.to_vec();
            forged[at] ^= 1;
            assert!(cipher.open(&KEY, &forged).is_err(), "{at}");
            assert!(cipher.open(&KEY, &sealed[..at]).is_err(), "{at}");
        }
        assert_eq!(cipher.open(&CacheKey([8; 32]), &sealed), Err(SealError::NotAuthentic));
        assert_eq!(cipher.open(&KEY, &value), Err(SealError::UnknownKey), "plain values are not believed");
    }

    #[test]
    fn keys_are_rotated_by_id() {
        let value = value();
        let old = cipher(&["a"]).seal(&KEY, &value).unwrap();
        let rotated = cipher(&["b", "a"]);
        assert_eq!(rotated.open(&KEY, &old).unwrap(), value);
        let new = rotated.seal(&KEY, &value).unwrap();
        assert_eq!(cipher(&["a", "b"]).open(&KEY, &new).unwrap(), value);
        assert_eq!(cipher(&["a"]).open(&KEY, &new), Err(SealError::UnknownKey));
    }
}
