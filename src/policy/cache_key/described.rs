//! The parts of a key in words, for people. A credential is shown by its hash only, as is every cookie.
//!
//! Says what [`CacheKey`](super::CacheKey) is made of; a test sees to it that equal words are equal keys.

use http::HeaderName;
use sha2::{Digest, Sha256};

use super::combined;
use crate::hex;
use crate::policy::route::Credential;
use crate::policy::{RequestHead, Route, VaryFields, credentials};

/// One part, and each of its values; without any it is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPart {
    pub name: String,
    pub values: Vec<String>,
}

/// Of the key of `request` under `route`; `query` is the selected one. `secret`: fields whose values are not to be seen.
/// `vary`: what tells the variants apart.
pub fn described(
    route: &Route,
    request: &RequestHead<'_>,
    query: Option<&str>,
    vary: Option<&VaryFields>,
    secret: &[HeaderName],
) -> Vec<KeyPart> {
    let mut parts = vec![
        part("scheme", [request.scheme.to_owned()]),
        part("host", [request.host.to_owned()]),
        part("path", [request.path.to_owned()]),
        part("query", query.map(str::to_owned)),
    ];
    if !request.front.is_empty() {
        parts.insert(2, part("forwarded", [request.front.to_owned()]));
    }
    if let Some(per) = &route.per {
        let name = match per {
            Credential::Authorization => "authorization".to_owned(),
            Credential::Cookie(name) => format!("cookie.{name}"),
            Credential::Header(name) => format!("header.{name}"),
        };
        parts.push(part(name, credentials::value_of(per, request.headers).map(hashed)));
    }
    let shown = |name: &HeaderName, value: &[u8]| match secret.contains(name) {
        true => hashed(value),
        false => value.escape_ascii().to_string(),
    };
    for name in &route.headers {
        let values = request.headers.get_all(name).iter().map(|value| shown(name, value.as_bytes()));
        parts.push(part(format!("header {name}"), values));
    }
    for name in &route.cookies {
        parts.push(part(
            format!("cookie {name}"),
            credentials::cookie_pairs(request.headers, name).map(hashed),
        ));
    }
    for name in vary.iter().flat_map(|fields| fields.names()) {
        let value = combined(request.headers, name).map(|value| shown(name, &value));
        parts.push(part(format!("vary {name}"), value));
    }
    parts
}

fn part(name: impl Into<String>, values: impl IntoIterator<Item = String>) -> KeyPart {
    KeyPart { name: name.into(), values: values.into_iter().collect() }
}

/// Enough to tell values apart by eye, and none of them.
fn hashed(value: &[u8]) -> String {
    format!("sha256:{}", hex::encode(&Sha256::digest(value)[..6]))
}
