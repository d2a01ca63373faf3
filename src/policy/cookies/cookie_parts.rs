//! Cookies that belong to another one: its signature, and the chunks of a value that is too long for one cookie.

use super::is_alike;

/// The role of a cookie that belongs to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CookiePart {
    /// `session.sig` of Express's `cookie-session`, and of all signed cookies of Koa.
    Signature,
    /// `token.0` of Auth.js and Supabase, `.AspNetCore.CookiesC1` of ASP.NET Core.
    Chunk,
}

const SIGNATURES: [&[u8]; 5] = [b"sig", b"signature", b"mac", b"hmac", b"hash"];

/// Whether the cookie `sent` is a part of the cookie `name`. A name that only looks like a part costs a miss.
pub(super) fn find_part(sent: &[u8], name: &str) -> Option<CookiePart> {
    let (start, end) = sent.split_at_checked(name.len())?;
    let (separator, word) = end.split_first()?;
    let is_number = !word.is_empty() && word.iter().all(u8::is_ascii_digit);
    let is_signature = || SIGNATURES.iter().any(|signature| word.eq_ignore_ascii_case(signature));
    let part = match separator {
        b'.' | b'-' | b'_' | b'C' if is_number => CookiePart::Chunk,
        b'.' | b'-' | b'_' if is_signature() => CookiePart::Signature,
        _ => return None,
    };
    is_alike(start, name.as_bytes()).then_some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_by_what_follows_the_name() {
        for (sent, expected) in [
            ("sid.sig", Some(CookiePart::Signature)),
            ("sid-Signature", Some(CookiePart::Signature)),
            ("sid_hmac", Some(CookiePart::Signature)),
            ("sid.0", Some(CookiePart::Chunk)),
            ("sid_12", Some(CookiePart::Chunk)),
            ("sidC1", Some(CookiePart::Chunk)),
            ("sid", None),
            ("sid.", None),
            ("sidC", None),
            ("sid1", None),
            ("sid.sigs", None),
            ("sidsig", None),
            ("sid.1a", None),
            ("xsid.sig", None),
            ("other.sig", None),
        ] {
            assert_eq!(find_part(sent.as_bytes(), "sid"), expected, "{sent}");
        }
        // PHP reads both as one.
        assert_eq!(find_part(b"koa_sess.sig", "koa.sess"), Some(CookiePart::Signature));
    }
}
