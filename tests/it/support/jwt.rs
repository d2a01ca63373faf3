//! Bearer tokens for tests: claims that larder reads and never trusts, so nothing signs them.

/// The value of an `Authorization` field whose JWT carries these claims, such as `{"sub":"ann"}`.
pub fn bearer(claims: &str) -> String {
    format!("Bearer {}.{}.c2lnbmF0dXJl", base64url(br#"{"alg":"HS256"}"#), base64url(claims.as_bytes()))
}

/// RFC 4648 §5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..=group.len() {
            text.push(ALPHABET[(bits >> (18 - 6 * place)) as usize & 63] as char);
        }
    }
    text
}

#[test]
fn the_encoding_is_rfc_4648s() {
    for (bytes, text) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg")] {
        assert_eq!(base64url(bytes.as_bytes()), text);
    }
    assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
}
