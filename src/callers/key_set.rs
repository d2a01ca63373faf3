//! Keys that signatures are verified with: a JWKS (RFC 7517), or one secret.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{AlgorithmFamily, DecodingKey, crypto};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::config::JwtAlgorithm;
use crate::policy::content::parse_strict_json;

/// More keys are not read.
const MAX_KEYS: usize = 100;

/// Keys without an id that one token is tried with.
const MAX_TRIES: usize = 4;

#[derive(Default)]
pub(super) struct KeySet {
    keys: Vec<VerificationKey>,
    /// The hash of the document.
    pub(super) digest: [u8; 32],
}

struct VerificationKey {
    id: Option<String>,
    /// Those that the key is for.
    algorithms: Vec<JwtAlgorithm>,
    key: DecodingKey,
}

impl KeySet {
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn from_secret(secret: &str) -> Self {
        let algorithms = AlgorithmFamily::Hmac.algorithms().to_vec();
        let key = DecodingKey::from_secret(secret.as_bytes());
        let key = key.ok().map(|key| VerificationKey { id: None, algorithms, key });
        Self { keys: key.into_iter().collect(), digest: [0; 32] }
    }

    /// Reads a JWKS. Keys for encryption, of unknown kinds, and secret ones are skipped. A set without any other has no
    /// keys: all may have been withdrawn.
    ///
    /// # Errors
    /// Says why it is no JWKS.
    pub(super) fn parse(document: &[u8]) -> Result<Self, String> {
        let digest = Sha256::digest(document).into();
        let document = parse_strict_json(document).ok_or("it is no JSON")?;
        let keys = document.get("keys").and_then(Value::as_array).ok_or("it has no list `keys`")?;
        let keys = keys.iter().take(MAX_KEYS).filter_map(VerificationKey::parse);
        Ok(Self { keys: keys.collect(), digest })
    }

    /// Whether the signature (in base64) is valid; `None` if no key fits.
    pub(super) fn verify(
        &self,
        algorithm: JwtAlgorithm,
        key_id: Option<&str>,
        signed: &[u8],
        signature: &str,
    ) -> Option<bool> {
        // A secret has no id, and is the only key.
        let has_id = |key: &VerificationKey| {
            key.id.as_deref() == key_id || algorithm.family() == AlgorithmFamily::Hmac
        };
        let fits =
            |key: &&VerificationKey| key.algorithms.contains(&algorithm) && (key_id.is_none() || has_id(key));
        let mut fitting = self.keys.iter().filter(fits).take(MAX_TRIES).peekable();
        fitting.peek()?;
        Some(fitting.any(|key| crypto::verify(signature, signed, &key.key, algorithm).unwrap_or(false)))
    }
}

impl VerificationKey {
    fn parse(jwk: &Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(jwk.clone()).ok()?;
        if !may_verify(&jwk) {
            return None;
        }
        let mut algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa.algorithms().to_vec(),
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                vec![JwtAlgorithm::ES256]
            }
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => {
                vec![JwtAlgorithm::ES384]
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                vec![JwtAlgorithm::EdDSA]
            }
            _ => return None,
        };
        if let Some(only) = jwk.common.key_algorithm {
            let only = JwtAlgorithm::try_from(only).ok()?;
            algorithms.retain(|algorithm| *algorithm == only);
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id: jwk.common.key_id, algorithms, key })
    }
}

/// Whether the owner of the key lets it verify signatures (RFC 7517 §4.2, §4.3). Each of the two members restricts it.
fn may_verify(jwk: &Jwk) -> bool {
    let is_for_signatures =
        jwk.common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature);
    let operations = jwk.common.key_operations.as_ref();
    is_for_signatures && operations.is_none_or(|all| all.contains(&KeyOperations::Verify))
}
