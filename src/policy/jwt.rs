//! Unverified claims of the bearer's JSON Web Token (RFC 7519).

use std::time::Duration;

use http::{HeaderMap, header};
use serde_json::Value;

use crate::clock::Timestamp;

/// Claims of longer tokens are not read.
pub(crate) const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Reads a string, number or boolean claim of the bearer's JWT. `org.id` is the claim `id` within `org`, or a claim
/// with a dot in its name.
pub(crate) fn read_claim(headers: &HeaderMap, claim: &str) -> Option<String> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    claim_text(find_claim(&decode_token(bearer_token(line.as_bytes())?)?, claim)?)
}

/// The time in `exp` (RFC 7519 §4.1.4) of a credential that is a JWT, with or without `Bearer`. It may be without its
/// signature, which some APIs send in another cookie, and `exp` a number in a string.
pub(super) fn read_expiry(credential: &[u8]) -> Option<Timestamp> {
    let claims = decode_payload(bearer_token(credential).unwrap_or(credential), false)?;
    match claims.get("exp")? {
        Value::String(text) => numeric_date(&Value::Number(text.trim().parse().ok()?)),
        exp => numeric_date(exp),
    }
}

/// RFC 7519 §2. Fractions are dropped.
pub(crate) fn numeric_date(value: &Value) -> Option<Timestamp> {
    let seconds = value
        .as_u64()
        .or_else(|| Some(Duration::try_from_secs_f64(value.as_f64()?).unwrap_or(Duration::ZERO).as_secs()))?;
    Some(Timestamp::from_secs(seconds))
}

/// The token of a `Bearer` credential (RFC 6750 §2.1).
pub(crate) fn bearer_token(credential: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = credential.split_at_checked("bearer".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer") && token.first() == Some(&b' ');
    is_bearer.then(|| token.trim_ascii())
}

/// The claims of a token, with or without `Bearer`.
pub(crate) fn decode_claims(credential: &[u8]) -> Option<Value> {
    decode_token(bearer_token(credential).unwrap_or(credential))
}

fn decode_token(token: &[u8]) -> Option<Value> {
    decode_payload(token, true)
}

fn decode_payload(token: &[u8], needs_signature: bool) -> Option<Value> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let mut sections = std::str::from_utf8(token).ok()?.trim().split('.');
    let (_header, payload, signature) = (sections.next()?, sections.next()?, sections.next());
    if needs_signature && signature.is_none() {
        return None;
    }
    serde_json::from_slice(&decode_base64url(payload)?).ok()
}

/// A claim as part of a tag; `None` for a list, an object and `null`.
pub(crate) fn claim_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// `org.id` is the claim `id` within `org`, or a claim with a dot in its name.
pub(crate) fn find_claim<'v>(value: &'v Value, claim: &str) -> Option<&'v Value> {
    let object = value.as_object()?;
    object.get(claim).or_else(|| {
        let dots = claim.match_indices('.').map(|(at, _)| claim.split_at(at));
        dots.filter_map(|(outer, inner)| find_claim(object.get(outer)?, &inner[1..])).next()
    })
}

/// RFC 4648 §5, with or without padding.
pub(super) fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.chunks(4) {
        let mut bits = 0_u32;
        for digit in group {
            bits = bits << 6 | u32::from(digit_value(*digit)?);
        }
        let [_, first, second, third] = (bits << (6 * (4 - group.len()))).to_be_bytes();
        match group.len() {
            4 => bytes.extend([first, second, third]),
            3 => bytes.extend([first, second]),
            2 => bytes.push(first),
            _ => return None,
        }
    }
    Some(bytes)
}

fn digit_value(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
