//! Remembers verdicts on tokens, in bounded memory.
//!
//! A token that was verified is found by a seeded hash of its end and compared whole, which takes a tenth of the time of a
//! cryptographic hash over all of it. A token that was refused is remembered by its SHA-256 and elsewhere, so that forged
//! tokens displace no verified one, however many and long they are.

use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, Equivalent, Weighter};
use sha2::{Digest, Sha256};

use super::{CredentialHash, EXPECTED_VERDICTS, MAX_VERDICT_BYTES};
use crate::clock::Timestamp;
use crate::policy::caller::Identity;

/// The number of refused tokens that are remembered, and of those that are left to the upstream.
const MAX_REFUSED: usize = 8 * 1024;

/// An estimate of the memory of one of them, in bytes.
const REFUSED_BYTES: u64 = 128;

/// The part of a token that is hashed; only verified tokens can collide. It lies within the signature, which is as random
/// as the hash of a whole token: the shortest, that of HS256, has 43 characters.
const HASHED_BYTES: usize = 32;

/// Verdicts on tokens, each at any time but under one generation of the keys.
pub(super) struct VerdictCache {
    verified: Cache<StoredToken, Verified, VerifiedWeigher, BuildHasherDefault<TokenHasher>>,
    refused: Cache<CredentialHash, u64>,
    /// By the part that is signed: one payload may have several valid signatures. They stay so under other keys.
    left_to_upstream: Cache<CredentialHash, ()>,
    hash_key: DefaultHashBuilder,
}

/// The identity that a verified token proves.
#[derive(Clone)]
pub(super) struct Token {
    pub identity: Arc<Identity>,
    pub not_before: Option<Timestamp>,
    /// The token names its caller, who gets no hit: the upstream decides.
    pub is_left_to_upstream: bool,
}

#[derive(Clone)]
struct Verified {
    generation: u64,
    token: Token,
}

/// A token in the cache. It has no `Debug`, since it is a secret.
struct StoredToken {
    hash: u64,
    text: Box<[u8]>,
}

/// A token of a request.
struct PresentedToken<'t> {
    hash: u64,
    text: &'t [u8],
}

impl Equivalent<StoredToken> for PresentedToken<'_> {
    /// The time that this takes tells nothing: the texts are compared only if the hashes are equal, so by somebody who
    /// knows the end of the stored token's signature.
    fn equivalent(&self, stored: &StoredToken) -> bool {
        self.hash == stored.hash && *self.text == *stored.text
    }
}

impl PartialEq for StoredToken {
    fn eq(&self, other: &Self) -> bool {
        PresentedToken { hash: self.hash, text: &self.text }.equivalent(other)
    }
}

impl Eq for StoredToken {}

impl Hash for StoredToken {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Hash for PresentedToken<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Passes on the hash that a token has already.
#[derive(Default)]
struct TokenHasher(u64);

impl Hasher for TokenHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[derive(Clone)]
struct VerifiedWeigher;

impl Weighter<StoredToken, Verified> for VerifiedWeigher {
    fn weight(&self, token: &StoredToken, verified: &Verified) -> u64 {
        let fixed = size_of::<StoredToken>() + size_of::<Verified>() + 64;
        (fixed + token.text.len() + verified.token.identity.weight()) as u64
    }
}

impl VerdictCache {
    pub(super) fn new() -> Self {
        let capacity = MAX_VERDICT_BYTES - 2 * MAX_REFUSED as u64 * REFUSED_BYTES;
        let (hasher, lifecycle) = (BuildHasherDefault::default(), DefaultLifecycle::default());
        Self {
            verified: Cache::with(EXPECTED_VERDICTS, capacity, VerifiedWeigher, hasher, lifecycle),
            refused: Cache::new(MAX_REFUSED),
            left_to_upstream: Cache::new(MAX_REFUSED),
            hash_key: DefaultHashBuilder::default(),
        }
    }

    /// The verdict on a token under this generation of the keys, from memory or from `verify`. `Ok(None)`: it is refused.
    /// An error is not remembered. `text`: the token as it was sent, with its scheme.
    pub(super) fn get_or_verify<E>(
        &self,
        text: &[u8],
        token: &[u8],
        generation: u64,
        verify: impl FnOnce() -> Result<Option<Token>, E>,
    ) -> Result<Option<Token>, E> {
        let presented = self.presented(text);
        if let Some(known) = self.verified.get(&presented).filter(|known| known.generation == generation) {
            return Ok(Some(known.token));
        }
        let digest: CredentialHash = Sha256::digest(text).into();
        if self.refused.get(&digest) == Some(generation) {
            return Ok(None);
        }
        let left = self.left_to_upstream.get(&hash_signed_part(token)).is_some();
        let mut token = verify()?;
        if let Some(token) = &mut token {
            token.is_left_to_upstream |= left;
        }
        match &token {
            Some(token) => {
                let stored = StoredToken { hash: presented.hash, text: text.into() };
                self.verified.insert(stored, Verified { generation, token: token.clone() });
            }
            None => self.refused.insert(digest, generation),
        }
        Ok(token)
    }

    /// Remembers that the upstream does not accept a token, although it can be verified.
    pub(super) fn leave_to_upstream(&self, text: &[u8], token: &[u8], generation: u64) {
        self.left_to_upstream.insert(hash_signed_part(token), ());
        let presented = self.presented(text);
        let known = self.verified.get(&presented).filter(|known| known.generation == generation);
        if let Some(Verified { token, .. }) = known {
            let token = Token { is_left_to_upstream: true, ..token };
            let stored = StoredToken { hash: presented.hash, text: text.into() };
            self.verified.insert(stored, Verified { generation, token });
        }
    }

    fn presented<'t>(&self, text: &'t [u8]) -> PresentedToken<'t> {
        let end = &text[text.len().saturating_sub(HASHED_BYTES)..];
        PresentedToken { hash: self.hash_key.hash_one((text.len(), end)), text }
    }
}

/// Hashes a token without its signature.
fn hash_signed_part(token: &[u8]) -> CredentialHash {
    let end = token.iter().rposition(|byte| *byte == b'.').unwrap_or(token.len());
    Sha256::digest(&token[..end]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str) -> Token {
        let identity = Identity {
            name: Some(name.into()),
            claims: Vec::new(),
            kind: Default::default(),
            expires_at: None,
        };
        Token { identity: Arc::new(identity), not_before: None, is_left_to_upstream: false }
    }

    /// The name in the verdict, and whether it was made anew.
    fn ask(cache: &VerdictCache, text: &str, generation: u64, name: Option<&str>) -> (Option<String>, bool) {
        let mut is_new = false;
        let verdict = cache.get_or_verify(text.as_bytes(), text.as_bytes(), generation, || {
            is_new = true;
            Ok::<_, ()>(name.map(token))
        });
        let name = verdict.expect("a verdict").and_then(|token| token.identity.name.clone());
        (name.map(String::from), is_new)
    }

    #[test]
    fn tokens_with_one_end_are_different_tokens() {
        let cache = VerdictCache::new();
        let end = "e".repeat(HASHED_BYTES);
        let [ann, bob] = ["ann", "bob"].map(|name| format!("{name}.{end}"));
        let hashes = [&ann, &bob].map(|text| cache.presented(text.as_bytes()).hash);
        assert_eq!(hashes[0], hashes[1]);
        for is_first in [true, false] {
            for (text, name) in [(&ann, "ann"), (&bob, "bob")] {
                assert_eq!(ask(&cache, text, 0, Some(name)), (Some(name.into()), is_first));
            }
        }
        assert_eq!(ask(&cache, &format!("eve.{end}"), 0, None), (None, true));
        assert_eq!(ask(&cache, &end, 0, None), (None, true));
    }

    #[test]
    fn a_verdict_counts_under_its_keys_alone() {
        let cache = VerdictCache::new();
        assert_eq!(ask(&cache, "a", 0, Some("ann")), (Some("ann".into()), true));
        assert_eq!(ask(&cache, "b", 0, None), (None, true));
        assert_eq!(ask(&cache, "b", 0, Some("bob")), (None, false));
        assert_eq!(ask(&cache, "a", 1, None), (None, true));
        assert_eq!(ask(&cache, "b", 1, Some("bob")), (Some("bob".into()), true));
    }

    #[test]
    fn what_is_left_to_the_upstream_stays_so_with_other_keys() {
        let cache = VerdictCache::new();
        assert!(ask(&cache, "h.p.s", 0, Some("ann")).1);
        cache.leave_to_upstream(b"h.p.s", b"h.p.s", 0);
        let is_left = |text: &str, generation| {
            let verdict = cache.get_or_verify(text.as_bytes(), text.as_bytes(), generation, || {
                Ok::<_, ()>(Some(token("ann")))
            });
            verdict.expect("a verdict").expect("a token").is_left_to_upstream
        };
        assert!(is_left("h.p.s", 0) && is_left("h.p.t", 0) && is_left("h.p.s", 1));
        assert!(!is_left("h.q.s", 0));
    }

    #[test]
    fn forged_tokens_displace_no_verified_one_and_all_are_bounded() {
        let cache = VerdictCache::new();
        assert!(ask(&cache, "a", 0, Some("ann")).1);
        for number in 0..2 * MAX_REFUSED {
            ask(&cache, &format!("forged {number}"), 0, None);
        }
        assert_eq!(ask(&cache, "a", 0, None), (Some("ann".into()), false));
        assert!(cache.refused.len() <= MAX_REFUSED);
        for number in 0..2_500 {
            ask(&cache, &format!("{number}{}", "x".repeat(8_000)), 0, Some("ann"));
        }
        assert!(cache.verified.weight() <= MAX_VERDICT_BYTES);
        assert!(cache.verified.len() < 2_100, "{}", cache.verified.len());
    }
}
