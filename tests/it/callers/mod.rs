//! A hit is for a caller who is known, as far as the route says so.

mod ask;
mod rights;
mod table;
mod tokens;

use aws_lc_rs::hmac;

use crate::support::base64url;

pub const SECRET: &str = "a secret of more than thirty-two bytes";

/// The JWT with these claims, signed with HS256.
pub fn token(claims: &str) -> String {
    token_signed_with(SECRET, claims)
}

pub fn token_signed_with(secret: &str, claims: &str) -> String {
    let signed = format!("{}.{}", base64url(br#"{"alg":"HS256"}"#), base64url(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", base64url(signature))
}
