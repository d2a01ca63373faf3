//! The cookies of a request, as servers read them.

mod cookie_parts;

use http::{HeaderMap, HeaderName, header};

use cookie_parts::{CookiePart, find_part};

/// Whether all servers read the same cookies: they differ in what they make of one that breaks the grammar of RFC 6265
/// §4.1.1 (Python's standard library ignores all of the others, too), of more than they read (PHP: 1,000), and of names that
/// some of them change or give a meaning: `$Version` (Tomcat), `%6awt` and `a.b` (PHP), `JWT` (ASP.NET).
pub(crate) fn are_cookies_plain(headers: &HeaderMap) -> bool {
    const MAX_COOKIES: usize = 200;
    let cookies: Vec<_> = parse_cookies(headers).take(MAX_COOKIES + 1).collect();
    if cookies.len() > MAX_COOKIES || !cookies.iter().all(is_plain_cookie) {
        return false;
    }
    // Two spellings of one name: which of them counts, or whether both do, differs.
    let fold = |byte: &u8| if *byte == b'.' { b'_' } else { byte.to_ascii_lowercase() };
    let mut names: Vec<(Vec<u8>, &[u8])> =
        cookies.iter().map(|cookie| (cookie.name.iter().map(fold).collect(), cookie.name)).collect();
    names.sort_unstable();
    names.windows(2).all(|two| two[0].0 != two[1].0 || two[0].1 == two[1].1)
}

/// Whether all servers read this cookie alike.
fn is_plain_cookie(cookie: &Cookie<'_>) -> bool {
    const ATTRIBUTES: [&[u8]; 10] = [
        b"comment",
        b"domain",
        b"expires",
        b"httponly",
        b"max-age",
        b"partitioned",
        b"path",
        b"samesite",
        b"secure",
        b"version",
    ];
    cookie.pair.contains(&b'=')
        && HeaderName::from_bytes(cookie.name).is_ok()
        && !cookie.name.starts_with(b"$")
        && !cookie.name.contains(&b'%')
        && !ATTRIBUTES.iter().any(|attribute| cookie.name.eq_ignore_ascii_case(attribute))
        && is_plain_value(cookie.value)
}

/// The values of the grammar, and beyond it a comma, which all read as part of the value.
fn is_plain_value(value: &[u8]) -> bool {
    let inner = match value {
        [b'"', inner @ .., b'"'] => inner,
        value => value,
    };
    inner.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b';' | b'\\'))
}

/// All values of one cookie, in order.
pub(super) fn cookie_values<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    cookies_named(headers, name).map(|cookie| cookie.value)
}

/// All pairs of one cookie as written: `theme` and `theme=` may differ to an upstream.
pub(crate) fn cookie_pairs<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    cookies_named(headers, name).map(|cookie| cookie.pair)
}

/// The pairs of a cookie that is a credential, and of its parts; none if the credential is not sent.
pub(crate) fn credential_pairs<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let is_sent = is_cookie_sent(headers, name);
    let belongs = move |cookie: &Cookie<'_>| {
        is_sent && (is_cookie_name(cookie.name, name.as_bytes()) || find_part(cookie.name, name).is_some())
    };
    parse_cookies(headers).filter(belongs).map(|cookie| cookie.pair)
}

/// Whether the cookie is there, in one piece or in chunks.
pub(super) fn is_cookie_sent(headers: &HeaderMap, name: &str) -> bool {
    parse_cookies(headers).any(|cookie| {
        is_cookie_name(cookie.name, name.as_bytes())
            || find_part(cookie.name, name) == Some(CookiePart::Chunk)
    })
}

/// The names and pairs of a cookie's parts, by their names. Which of two with one name counts is up to the upstream: their
/// order stays.
pub(super) fn cookie_parts<'a>(headers: &'a HeaderMap, name: &str) -> Vec<(&'a [u8], &'a [u8])> {
    let is_part = |cookie: &Cookie<'_>| find_part(cookie.name, name).is_some();
    let parts = parse_cookies(headers).filter(is_part).map(|cookie| (cookie.name, cookie.pair));
    let mut parts: Vec<_> = parts.collect();
    parts.sort_by_key(|(name, _)| *name);
    parts
}

/// The names of all cookies.
pub(super) fn cookie_names(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    parse_cookies(headers).map(|cookie| cookie.name)
}

#[derive(Clone, Copy)]
struct Cookie<'a> {
    name: &'a [u8],
    value: &'a [u8],
    pair: &'a [u8],
}

fn cookies_named<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = Cookie<'a>> {
    parse_cookies(headers).filter(move |cookie| is_cookie_name(cookie.name, name.as_bytes()))
}

/// Whether an upstream may take the name of a cookie for this one: PHP reads `site.lang`, `site lang` and `site[lang` as
/// `site_lang`, and `site_lang[]` as a list of that name.
fn is_cookie_name(sent: &[u8], name: &[u8]) -> bool {
    if sent == name {
        return true;
    }
    let list = sent.iter().position(|byte| *byte == b'[');
    is_alike(sent, name) || list.is_some_and(|end| is_alike(&sent[..end], name))
}

/// Whether PHP reads both as one name, but for lists.
fn is_alike(sent: &[u8], name: &[u8]) -> bool {
    let read = |byte: &u8| if matches!(byte, b'.' | b' ' | b'[') { b'_' } else { *byte };
    sent.iter().map(read).eq(name.iter().map(read))
}

/// Parses `Cookie` (RFC 6265 §5.4), over all lines (RFC 9113 §8.2.3).
fn parse_cookies(headers: &HeaderMap) -> impl Iterator<Item = Cookie<'_>> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()).map(|pair| {
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let name = halves.next().unwrap_or_default().trim_ascii();
        let value = halves.next().unwrap_or_default();
        Cookie { name, value, pair }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixtures::fields;

    #[test]
    fn a_cookie_that_is_sent_twice_has_all_its_values() {
        let headers = fields(&[("cookie", "a=1; b=2; b=3")]);
        assert_eq!(cookie_values(&headers, "b").collect::<Vec<_>>(), [b"2", b"3"]);
    }
}
