//! The credentials that a request carries.
//!
//! Nothing is verified here: a token's claims may name tags, and never grant access.

mod jwt;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, header};
use sha2::{Digest, Sha256};

use super::caller_fields::CallerFields;
use super::route::Credential;
use super::{RequestHead, Route};
use crate::clock::Timestamp;
use crate::hex;

pub(crate) use jwt::{
    MAX_TOKEN_BYTES, bearer_token, claim_text, decode_claims, find_claim, numeric_date,
    read_claim as jwt_claim,
};

/// The value of the route's `per`: of a credential, or of what a known caller is known by.
pub(crate) fn caller_value<'a>(per: &Credential, request: &RequestHead<'a>) -> Option<Cow<'a, [u8]>> {
    let identity = request.caller.known();
    match per {
        Credential::Claims(paths) => {
            let claim = |path: &String| Some(&*identity?.claim(path)?.json);
            match paths.as_slice() {
                [path] => Some(Cow::Borrowed(claim(path)?.as_bytes())),
                // No two lists of JSON values have the same text.
                paths => {
                    Some(paths.iter().map(claim).collect::<Option<Vec<_>>>()?.join(",").into_bytes().into())
                }
            }
        }
        Credential::Identity => Some(Cow::Borrowed(identity?.name.as_ref()?.as_bytes())),
        Credential::AnyOf(credentials) => combine_values(credentials, request.headers).map(Cow::Owned),
        credential => credential_value(credential, request.headers).map(Cow::Borrowed),
    }
}

/// The values of all that are sent, each behind its position and its length: which one counts is up to the upstream.
/// `None` if none is sent, or one of them has no single value.
fn combine_values(credentials: &[Credential], headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut combined = Vec::new();
    for (position, credential) in credentials.iter().enumerate().filter(|(_, it)| it.is_in(headers)) {
        let value = credential_value(credential, headers)?;
        combined.extend_from_slice(format!("{position} {} ", value.len()).as_bytes());
        combined.extend_from_slice(value);
    }
    (!combined.is_empty()).then_some(combined)
}

/// The value of a credential; `None` if it is absent or repeated, since it is unknown which of two values the upstream
/// uses.
pub(crate) fn credential_value<'a>(credential: &Credential, headers: &'a HeaderMap) -> Option<&'a [u8]> {
    let value = match credential {
        Credential::AnyOf(_) | Credential::Claims(_) | Credential::Identity => None,
        Credential::Authorization => exactly_one(field_lines(headers, &header::AUTHORIZATION)),
        Credential::Header(name) => exactly_one(field_lines(headers, name)),
        // `session =x` is not a session to every upstream.
        Credential::Cookie(name) => exactly_one(cookie_pairs(headers, name))
            .and_then(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")),
    };
    value.filter(|value| !value.trim_ascii().is_empty())
}

/// When the first of the route's `per` credentials expires that is a JWT with `exp`. Not verified: it only shortens
/// lifetimes.
pub(crate) fn credential_expiry(route: &Route, headers: &HeaderMap) -> Option<Timestamp> {
    let values = route.per.as_ref()?.alternatives().iter().filter_map(|it| credential_value(it, headers));
    values.filter_map(jwt::read_expiry).min()
}

/// A hash that stands for a credential in targets.
pub fn hash(credential: &[u8]) -> String {
    hex::encode(&Sha256::digest(credential)[..16])
}

/// Whether a field is in the route's `headers`, or its `per`.
fn is_field_in_key(route: &Route, headers: &HeaderMap, name: &HeaderName) -> bool {
    route.headers.contains(name)
        || match &route.per {
            // The caller was found by these.
            Some(per) if per.is_verified() => route
                .callers
                .iter()
                .any(|callers| is_field_of_credential_sent(&callers.credentials, headers, name)),
            Some(per) => is_field_of_credential_sent(per.alternatives(), headers, name),
            None => false,
        }
}

/// Whether the field has one of the credentials: other cookies are the same caller's only beside the one that is named.
fn is_field_of_credential_sent(credentials: &[Credential], headers: &HeaderMap, name: &HeaderName) -> bool {
    credentials.iter().any(|it| it.field().as_ref() == Some(name) && it.is_in(headers))
}

/// Whether all credentials of the request are in the route's key; see [`judge_credentials`].
pub(crate) fn are_credentials_in_key(
    route: &Route,
    headers: &HeaderMap,
    caller_fields: &CallerFields,
) -> bool {
    judge_credentials(route, headers, caller_fields).0
}

/// Whether all credentials of the request are in the route's key (as `per`, or in `headers` or `cookies`), and the fields
/// beside `per` that are in it, too.
///
/// A credential outside the key may change the response even beside one inside it (`Authorization` for the account,
/// a cookie for the role), so each counts, and `Cookie` only if every cookie is in the key. If `per` names a
/// cookie, the other cookies belong to the same caller: browsers always send some.
///
/// Where the route says `per`, a field that only looks like a credential may select another response for the same caller (a
/// tenant, somebody to act for), so it is in the key, too. A field that the route's `callers` read always counts.
pub(crate) fn judge_credentials<'h>(
    route: &Route,
    headers: &'h HeaderMap,
    caller_fields: &CallerFields,
) -> (bool, Vec<&'h HeaderName>) {
    let cookie_in_key = |name: &str| route.cookies.iter().any(|cookie| cookie == name);
    let name_in_key = |name: &HeaderName| is_name_in_key(route, headers, name);
    let (mut are_in_key, mut beside) = (true, Vec::new());
    for name in caller_fields.find_in(headers) {
        if route.exempt.contains(name) || name_in_key(name) {
            continue;
        }
        match route.per.is_some() && !caller_fields.is_named(name) {
            true => beside.push(name),
            false => are_in_key = false,
        }
    }
    let credential_in_key = |credential: &Credential| match credential {
        Credential::Cookie(name) if cookie_in_key(name) => true,
        credential => credential.field().is_none_or(|name| name_in_key(&name)),
    };
    let mut of_callers = route.callers.iter().flat_map(|callers| &callers.credentials);
    // Where `per` is verified, what the callers are found by is in the key.
    let callers_in_key = route.per.as_ref().is_some_and(Credential::is_verified)
        || of_callers.all(|credential| !credential.is_in(headers) || credential_in_key(credential));
    (are_in_key && callers_in_key, beside)
}

/// The first field of the request that identifies its caller and is not in the route's key.
pub(crate) fn field_outside_key<'h>(
    route: &Route,
    headers: &'h HeaderMap,
    caller_fields: &CallerFields,
) -> Option<&'h HeaderName> {
    let mut outside = caller_fields
        .find_in(headers)
        .filter(|name| !route.exempt.contains(name) && !is_name_in_key(route, headers, name));
    // Beside `per`, fields that only look like a credential's are in the key.
    outside.find(|name| route.per.is_none() || caller_fields.is_named(name))
}

/// Whether the whole field is in the route's key.
fn is_name_in_key(route: &Route, headers: &HeaderMap, name: &HeaderName) -> bool {
    let is_cookie_in_key = |cookie: Cookie<'_>| {
        std::str::from_utf8(cookie.name).is_ok_and(|name| route.cookies.iter().any(|it| it == name))
    };
    is_field_in_key(route, headers, name)
        || *name == header::COOKIE && parse_cookies(headers).all(is_cookie_in_key)
}

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
    let read = |byte: &u8| if matches!(byte, b'.' | b' ' | b'[') { b'_' } else { *byte };
    let is_alike = |sent: &[u8]| sent.iter().map(read).eq(name.iter().map(read));
    let list = sent.iter().position(|byte| *byte == b'[');
    is_alike(sent) || list.is_some_and(|end| is_alike(&sent[..end]))
}

/// Parses `Cookie` (RFC 6265 §5.4), over all lines (RFC 9113 §8.2.3).
fn parse_cookies(headers: &HeaderMap) -> impl Iterator<Item = Cookie<'_>> {
    let pairs = field_lines(headers, &header::COOKIE).flat_map(|line| line.split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()).map(|pair| {
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let name = halves.next().unwrap_or_default().trim_ascii();
        let value = halves.next().unwrap_or_default();
        Cookie { name, value, pair }
    })
}

impl Credential {
    /// Whether the request has it, in whatever form.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        match self {
            Credential::Cookie(name) => cookies_named(headers, name).next().is_some(),
            credential => credential.field().is_some_and(|name| headers.contains_key(name)),
        }
    }
}

fn field_lines<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).iter().map(|value| value.as_bytes())
}

fn exactly_one<T>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.next().is_none().then_some(first)
}
