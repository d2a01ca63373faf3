//! A credential: the part of a request by which a route tells its callers apart, and its value.
//!
//! Nothing is verified here.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use super::RequestHead;
use super::cookies::{cookie_pairs, cookie_parts, is_cookie_sent};
use crate::hex;

/// The distinction between callers: a part of the request, or a name or claims that `callers` finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The `Authorization` field.
    Authorization,
    /// A cookie, by its name.
    Cookie(String),
    /// A request field.
    Header(HeaderName),
    /// At least two fields or cookies; callers send one of them.
    AnyOf(Vec<Credential>),
    /// Verified claims; callers with the same ones share a response.
    Claims(Vec<String>),
    /// The caller's name.
    Identity,
}

/// The spelling of the configuration.
impl Display for Credential {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Credential::Authorization => f.write_str("authorization"),
            Credential::Cookie(name) => write!(f, "cookie.{name}"),
            Credential::Header(name) => write!(f, "header.{name}"),
            Credential::AnyOf(credentials) => {
                let names: Vec<String> = credentials.iter().map(Credential::to_string).collect();
                f.write_str(&names.join(" | "))
            }
            Credential::Claims(claims) => write!(f, "jwt.{}", claims.join(", jwt.")),
            Credential::Identity => f.write_str("identity"),
        }
    }
}

impl Credential {
    /// The request field that it is sent in.
    pub(crate) fn field(&self) -> Option<HeaderName> {
        match self {
            Credential::Authorization => Some(AUTHORIZATION),
            Credential::Cookie(_) => Some(COOKIE),
            Credential::Header(name) => Some(name.clone()),
            Credential::AnyOf(_) | Credential::Claims(_) | Credential::Identity => None,
        }
    }

    /// The credentials of [`Credential::AnyOf`]; any other stands for itself.
    pub(crate) fn alternatives(&self) -> &[Credential] {
        match self {
            Credential::AnyOf(credentials) => credentials,
            credential => std::slice::from_ref(credential),
        }
    }

    pub(crate) fn is_verified(&self) -> bool {
        matches!(self, Credential::Claims(_) | Credential::Identity)
    }

    /// Whether the request has it, in whatever form.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        match self {
            Credential::Cookie(name) => is_cookie_sent(headers, name),
            credential => credential.field().is_some_and(|name| headers.contains_key(name)),
        }
    }
}

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
        credential => whole_value(credential, request.headers),
    }
}

/// The values of all that are sent, each behind its position and its length: which one counts is up to the upstream.
/// `None` if none is sent, or one of them has no single value.
fn combine_values(credentials: &[Credential], headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut combined = Vec::new();
    for (position, credential) in credentials.iter().enumerate().filter(|(_, it)| it.is_in(headers)) {
        let value = whole_value(credential, headers)?;
        combined.extend_from_slice(format!("{position} {} ", value.len()).as_bytes());
        combined.extend_from_slice(&value);
    }
    (!combined.is_empty()).then_some(combined)
}

/// All that a caller presents as a credential; `None` as in [`credential_value`]. A cookie counts with its parts: the value
/// alone may be a name that anybody can write, whose signature is in `NAME.sig`, or only the number of its chunks.
pub(crate) fn whole_value<'a>(credential: &Credential, headers: &'a HeaderMap) -> Option<Cow<'a, [u8]>> {
    let value = credential_value(credential, headers);
    let Credential::Cookie(name) = credential else { return value.map(Cow::Borrowed) };
    let parts = cookie_parts(headers, name);
    if parts.is_empty() {
        return value.map(Cow::Borrowed);
    }
    let is_in_chunks = cookie_pairs(headers, name).next().is_none() && is_cookie_sent(headers, name);
    let mut whole = if is_in_chunks { Vec::new() } else { value?.to_vec() };
    for (_, pair) in parts {
        // No cookie has a semicolon.
        whole.push(b';');
        whole.extend_from_slice(pair);
    }
    Some(Cow::Owned(whole))
}

/// The value of a credential; `None` if it is absent or repeated, since it is unknown which of two values the upstream
/// uses.
pub(crate) fn credential_value<'a>(credential: &Credential, headers: &'a HeaderMap) -> Option<&'a [u8]> {
    let value = match credential {
        Credential::AnyOf(_) | Credential::Claims(_) | Credential::Identity => None,
        Credential::Authorization => exactly_one(field_lines(headers, &AUTHORIZATION)),
        Credential::Header(name) => exactly_one(field_lines(headers, name)),
        // `session =x` is not a session to every upstream.
        Credential::Cookie(name) => exactly_one(cookie_pairs(headers, name))
            .and_then(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")),
    };
    value.filter(|value| !value.trim_ascii().is_empty())
}

/// A hash that stands for a credential in targets.
pub fn hash(credential: &[u8]) -> String {
    hex::encode(&Sha256::digest(credential)[..16])
}

fn field_lines<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).iter().map(|value| value.as_bytes())
}

fn exactly_one<T>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let first = values.next()?;
    values.next().is_none().then_some(first)
}
