//! Who is asking: which credential a request carries.
//!
//! Reads, and never verifies: a token's claims may name tags, they never stand for who is allowed to see something.

mod jwt;
#[cfg(test)]
mod tests;

use http::{HeaderMap, HeaderName, header};

use super::Route;
use super::route::Credential;

pub use jwt::claim as jwt_claim;

/// The value of the credential that a `per:` route tells callers apart by; `None` if the request does not carry it,
/// or carries it twice: which of the two the upstream believes is not known.
pub fn value_of<'a>(credential: &Credential, headers: &'a HeaderMap) -> Option<&'a [u8]> {
    let value = match credential {
        Credential::Authorization => only_one(lines(headers, &header::AUTHORIZATION)),
        Credential::Header(name) => only_one(lines(headers, name)),
        // An oddly spelled `session =x` is no session to every upstream.
        Credential::Cookie(name) => only_one(cookie_pairs(headers, name))
            .and_then(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")),
    };
    value.filter(|value| !value.trim_ascii().is_empty())
}

/// Whether the request carries any of the fields that identify callers.
pub fn presented(headers: &HeaderMap, credentials: &[HeaderName]) -> bool {
    credentials.iter().any(|name| headers.contains_key(name))
}

/// Whether every credential that the request carries stands in the route's key: as its `per`, or among its `headers`
/// and `cookies`.
///
/// One that does not stand there may change the response too, even beside one that does (an `Authorization` for the
/// account, a cookie for the role). So each counts, and `Cookie` only if every single cookie is in the key. But where the
/// route says which cookie tells callers apart, the others are the same caller's: browsers always send some.
pub fn all_in_key(route: &Route, headers: &HeaderMap, credentials: &[HeaderName]) -> bool {
    let field_in_key = |name: &HeaderName| {
        route.headers.contains(name)
            || match &route.per {
                Some(Credential::Authorization) => *name == header::AUTHORIZATION,
                Some(Credential::Header(per)) => name == per,
                Some(Credential::Cookie(_)) => *name == header::COOKIE,
                None => false,
            }
    };
    let cookie_in_key = |name: &str| route.cookies.iter().any(|cookie| cookie == name);
    credentials.iter().filter(|name| headers.contains_key(*name)).all(|name| {
        field_in_key(name)
            || *name == header::COOKIE
                && cookies(headers).all(|cookie| std::str::from_utf8(cookie.name).is_ok_and(cookie_in_key))
    })
}

/// The value of one cookie; `None` if it is sent twice, or is not text.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    std::str::from_utf8(only_one(cookie_values(headers, name))?).ok()
}

/// All the values of one cookie, in their order.
pub(super) fn cookie_values<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    named(headers, name).map(|cookie| cookie.value)
}

/// All the places where one cookie is given, as they are written (`theme` and `theme=` are not the same to each
/// upstream).
pub(super) fn cookie_pairs<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    named(headers, name).map(|cookie| cookie.pair)
}

#[derive(Clone, Copy)]
struct Cookie<'a> {
    name: &'a [u8],
    value: &'a [u8],
    pair: &'a [u8],
}

fn named<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = Cookie<'a>> {
    cookies(headers).filter(move |cookie| cookie.name == name.as_bytes())
}

/// RFC 6265 §5.4, also over several lines (RFC 9113 §8.2.3).
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = Cookie<'_>> {
    let pairs = lines(headers, &header::COOKIE).flat_map(|line| line.split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()).map(|pair| {
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let name = halves.next().unwrap_or_default().trim_ascii();
        let value = halves.next().unwrap_or_default();
        Cookie { name, value, pair }
    })
}

fn lines<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).iter().map(|value| value.as_bytes())
}

fn only_one<T>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.next().is_none().then_some(first)
}
