//! Keys that signatures are verified with: a JWKS (RFC 7517), or one secret.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
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
    /// The only algorithm that the key is for, if it says one.
    algorithm: Option<JwtAlgorithm>,
    material: KeyMaterial,
}

enum KeyMaterial {
    Secret(Vec<u8>),
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// Uncompressed points.
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl KeySet {
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn from_secret(secret: &str) -> Self {
        let material = KeyMaterial::Secret(secret.as_bytes().to_vec());
        Self { keys: vec![VerificationKey { id: None, algorithm: None, material }], digest: [0; 32] }
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
        let keys = keys.iter().take(MAX_KEYS).filter_map(Value::as_object).filter_map(VerificationKey::parse);
        Ok(Self { keys: keys.collect(), digest })
    }

    /// Whether the signature is valid; `None` if no key fits.
    pub(super) fn verify(
        &self,
        algorithm: JwtAlgorithm,
        key_id: Option<&str>,
        signed: &[u8],
        signature: &[u8],
    ) -> Option<bool> {
        let fits = |key: &&VerificationKey| {
            key.algorithm.is_none_or(|only| only == algorithm)
                && key.material.fits(algorithm)
                // A secret has no id, and is the only key.
                && (key_id.is_none() || key.id.as_deref() == key_id || algorithm.is_symmetric())
        };
        let mut fitting = self.keys.iter().filter(fits).take(MAX_TRIES).peekable();
        fitting.peek()?;
        Some(fitting.any(|key| key.material.verify(algorithm, signed, signature)))
    }
}

impl VerificationKey {
    fn parse(key: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        if !may_verify(key) {
            return None;
        }
        let bytes = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(text(name)?).ok();
        let point = |length: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            (x.len() == length && y.len() == length).then(|| [&[4][..], &x, &y].concat())
        };
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => KeyMaterial::Rsa(RsaPublicKeyComponents { n: bytes("n")?, e: bytes("e")? }),
            ("EC", Some("P-256")) => KeyMaterial::P256(point(32)?),
            ("EC", Some("P-384")) => KeyMaterial::P384(point(48)?),
            ("OKP", Some("Ed25519")) => KeyMaterial::Ed25519(bytes("x")?),
            _ => return None,
        };
        let algorithm = match text("alg") {
            None => None,
            Some(name) => Some(JwtAlgorithm::from_name(name)?),
        };
        Some(Self { id: text("kid").map(str::to_owned), algorithm, material })
    }
}

/// Whether the owner of the key lets it verify signatures (RFC 7517 §4.2, §4.3). Each of the two members restricts it.
fn may_verify(key: &Map<String, Value>) -> bool {
    let is_for_signatures = key.get("use").is_none_or(|purpose| purpose == "sig");
    let verifies = |operations: &Value| {
        operations.as_array().is_some_and(|operations| operations.iter().any(|it| it == "verify"))
    };
    is_for_signatures && key.get("key_ops").is_none_or(verifies)
}

impl KeyMaterial {
    fn fits(&self, algorithm: JwtAlgorithm) -> bool {
        match self {
            KeyMaterial::Secret(_) => algorithm.is_symmetric(),
            KeyMaterial::Rsa(_) => rsa_parameters(algorithm).is_some(),
            KeyMaterial::P256(_) => algorithm == JwtAlgorithm::Es256,
            KeyMaterial::P384(_) => algorithm == JwtAlgorithm::Es384,
            KeyMaterial::Ed25519(_) => algorithm == JwtAlgorithm::EdDsa,
        }
    }

    fn verify(&self, algorithm: JwtAlgorithm, signed: &[u8], signature: &[u8]) -> bool {
        fn with<A: VerificationAlgorithm>(
            algorithm: &'static A,
            key: &[u8],
            signed: &[u8],
            signature: &[u8],
        ) -> bool {
            UnparsedPublicKey::new(algorithm, key).verify(signed, signature).is_ok()
        }
        match self {
            KeyMaterial::Secret(secret) => hmac_algorithm(algorithm).is_some_and(|algorithm| {
                hmac::verify(&hmac::Key::new(algorithm, secret), signed, signature).is_ok()
            }),
            KeyMaterial::Rsa(key) => rsa_parameters(algorithm)
                .is_some_and(|parameters| key.verify(parameters, signed, signature).is_ok()),
            KeyMaterial::P256(key) => with(&ECDSA_P256_SHA256_FIXED, key, signed, signature),
            KeyMaterial::P384(key) => with(&ECDSA_P384_SHA384_FIXED, key, signed, signature),
            KeyMaterial::Ed25519(key) => with(&ED25519, key, signed, signature),
        }
    }
}

fn hmac_algorithm(algorithm: JwtAlgorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        JwtAlgorithm::Hs256 => Some(hmac::HMAC_SHA256),
        JwtAlgorithm::Hs384 => Some(hmac::HMAC_SHA384),
        JwtAlgorithm::Hs512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn rsa_parameters(algorithm: JwtAlgorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        JwtAlgorithm::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
        JwtAlgorithm::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
        JwtAlgorithm::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
        JwtAlgorithm::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
        JwtAlgorithm::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
        JwtAlgorithm::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}
