//! The parts of a key as text, for operators. Credentials and cookies are shown by their hash only.
//!
//! Mirrors [`CacheKey`](super::CacheKey); a test checks that equal descriptions mean equal keys.

use std::borrow::Cow;

use http::HeaderName;
use http::header::ACCEPT;
use sha2::{Digest, Sha256};

use super::combine_lines;
use crate::hex;
use crate::policy::content_key::{canonical_content, content_metadata};
use crate::policy::cookies::cookie_pairs;
use crate::policy::credential::caller_value;
use crate::policy::route::Anonymous;
use crate::policy::{CallerFields, RequestHead, Route, VaryFields, credentials, selecting_fields};
use crate::purge::normalize_escapes;

/// One part with its values; it is absent if it has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyPart {
    pub name: String,
    pub values: Vec<String>,
}

/// Describes the key of `request` under `route`. `query` is the selected query; values of `caller_fields` are
/// hashed; `vary` lists the fields that select the variant.
pub(crate) fn describe_key(
    route: &Route,
    request: &RequestHead<'_>,
    query: Option<&str>,
    vary: Option<&VaryFields>,
    caller_fields: &CallerFields,
) -> Vec<KeyPart> {
    let mut parts = vec![
        key_part("scheme", [request.scheme.to_owned()]),
        key_part("host", [request.host.to_owned()]),
        key_part("path", [request.path.to_owned()]),
        key_part("query", query.map(|query| normalize_escapes(query).into_owned())),
    ];
    if !request.forwarded_address.is_empty() {
        parts.insert(2, key_part("forwarded", [request.forwarded_address.to_owned()]));
    }
    parts.extend(describe_caller(route, request));
    let shown = |name: &HeaderName, value: &[u8]| match caller_fields.identify(name) {
        true => hash_for_display(value),
        false => value.escape_ascii().to_string(),
    };
    for name in &route.headers {
        let values = request.headers.get_all(name).iter().map(|value| shown(name, value.as_bytes()));
        parts.push(key_part(format!("header {name}"), values));
    }
    for name in credentials::judge_credentials(route, request.headers, caller_fields).1 {
        let values = request.headers.get_all(name).iter().map(|value| hash_for_display(value.as_bytes()));
        parts.push(key_part(format!("header {name}"), values));
    }
    for name in &route.cookies {
        parts.push(key_part(
            format!("cookie {name}"),
            cookie_pairs(request.headers, name).map(hash_for_display),
        ));
    }
    parts.extend(request.content.into_iter().flat_map(|content| describe_content(route, request, content)));
    for name in selecting_fields::present(route, request) {
        let values =
            request.headers.get_all(name).iter().map(|value| value.as_bytes().escape_ascii().to_string());
        parts.push(key_part(format!("header {name}"), values));
    }
    if selecting_fields::has_selecting_accept(route, request) {
        let value = combine_lines(request.headers, &ACCEPT).map(|value| value.escape_ascii().to_string());
        parts.push(key_part("header accept", value));
    }
    for name in vary.iter().flat_map(|fields| fields.names()) {
        let value = combine_lines(request.headers, name).map(|value| shown(name, &value));
        parts.push(key_part(format!("vary {name}"), value));
    }
    parts
}

/// The parts that tell callers apart.
fn describe_caller(route: &Route, request: &RequestHead<'_>) -> Vec<KeyPart> {
    let mut parts = Vec::new();
    if let Some(per) = &route.per {
        let shown = |value: Cow<'_, [u8]>| match per.is_verified() {
            true => String::from_utf8_lossy(&value).into_owned(),
            false => hash_for_display(&value),
        };
        parts.push(key_part(per.to_string(), caller_value(per, request).map(shown)));
    }
    if route.anonymous == Anonymous::Share {
        parts.push(key_part("signed in", request.caller.known().map(|_| "yes".to_owned())));
    }
    let kind = request.caller.token_kind_part(route.per.as_ref()).map(hash_for_display);
    parts.extend(route.callers.is_some().then(|| key_part("kind of token", kind)));
    parts
}

/// The parts of a QUERY or POST by which the route is read.
fn describe_content(route: &Route, request: &RequestHead<'_>, content: &[u8]) -> [KeyPart; 3] {
    let canonical = canonical_content(request, &route.ignore, content);
    let metadata = content_metadata(request.headers);
    [
        key_part("method", [request.method.to_string()]),
        key_part("content type", metadata.map(|value| value.escape_ascii().to_string())),
        key_part("content", [hash_for_display(&canonical)]),
    ]
}

fn key_part(name: impl Into<String>, values: impl IntoIterator<Item = String>) -> KeyPart {
    KeyPart { name: name.into(), values: values.into_iter().collect() }
}

/// A short hash: enough to compare values by eye.
fn hash_for_display(value: &[u8]) -> String {
    format!("sha256:{}", hex::encode(&Sha256::digest(value)[..6]))
}
