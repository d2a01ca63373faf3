//! Bearer tokens for tests.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The value of an `Authorization` field whose JWT carries these claims, such as `{"sub":"ann"}`. Nothing signs it.
pub fn bearer(claims: &str) -> String {
    format!("Bearer {}.{}.c2lnbmF0dXJl", base64url(br#"{"alg":"HS256"}"#), base64url(claims))
}

/// RFC 4648 §5, without padding.
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

/// Issues tokens signed with ES256.
pub struct Issuer {
    pair: EcdsaKeyPair,
    key_id: &'static str,
}

impl Issuer {
    pub fn new(key_id: &'static str) -> Self {
        Self { pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"), key_id }
    }

    /// The public keys of these issuers (RFC 7517 §5).
    pub fn key_set(issuers: &[&Issuer]) -> String {
        let keys: Vec<_> = issuers.iter().map(|issuer| issuer.jwk()).collect();
        json!({"keys": keys}).to_string()
    }

    fn jwk(&self) -> Value {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        json!({"kty": "EC", "crv": "P-256", "kid": self.key_id, "x": base64url(x), "y": base64url(y)})
    }

    /// The JWT with these claims.
    pub fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let signed = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", base64url(signature))
    }
}
