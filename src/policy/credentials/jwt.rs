//! A claim of the bearer's JSON Web Token (RFC 7519), read and not trusted.

use http::{HeaderMap, header};
use serde_json::Value;

/// A longer token has no claims here.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A claim of the bearer's JWT: strings, numbers and booleans. `org.id` is the claim `id` within `org`, or one whose
/// own name has the dot.
pub fn claim(headers: &HeaderMap, claim: &str) -> Option<String> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    let (scheme, token) = line.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let mut sections = token.trim().split('.');
    let (Some(_header), Some(payload), Some(_signature)) =
        (sections.next(), sections.next(), sections.next())
    else {
        return None;
    };
    let claims: Value = serde_json::from_slice(&base64url(payload)?).ok()?;
    match find(&claims, claim)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn find<'v>(value: &'v Value, claim: &str) -> Option<&'v Value> {
    let object = value.as_object()?;
    object.get(claim).or_else(|| {
        let dots = claim.match_indices('.').map(|(at, _)| claim.split_at(at));
        dots.filter_map(|(outer, inner)| find(object.get(outer)?, &inner[1..])).next()
    })
}

/// RFC 4648 §5, with or without padding.
fn base64url(text: &str) -> Option<Vec<u8>> {
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
