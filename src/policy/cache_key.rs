//! The key of a stored response (RFC 9111 §2, §4.1): SHA-256 over length-prefixed parts.
//!
//! Equal keys mean equal requests to the upstream, except for the parts that the route ignores.

mod description;
#[cfg(test)]
mod tests;

use http::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderName};

pub(crate) use description::{KeyPart, describe_key};

use super::accept_encoding::Negotiated;
use super::content_key::{canonical_content, content_metadata};
use super::cookies::cookie_pairs;
use super::key_hasher::KeyHasher;
use super::route::Anonymous;
use super::{RequestHead, Route, VaryFields, selecting_fields};
use crate::hex;
use crate::purge::normalize_escapes;

/// Selects a stored response: the SHA-256 of all that the response may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey(pub [u8; 32]);

impl CacheKey {
    /// Reads hexadecimal digits, as keys in Redis end.
    pub(crate) fn from_digits(digits: &str) -> Option<Self> {
        hex::decode(digits).map(Self)
    }

    /// Builds the key of `request` under `route`. `query` is the selected query; `credential` is the value of the
    /// route's `per`. HEAD shares the key of GET, so the method is not hashed.
    pub fn new(
        route: &Route,
        request: &RequestHead<'_>,
        query: Option<&str>,
        credential: Option<&[u8]>,
    ) -> Self {
        let mut parts = KeyHasher::new(b"key 4");
        parts.add(match request.scheme {
            "http" => b"",
            "https" => b"s",
            other => other.as_bytes(),
        });
        parts.add(request.host.as_bytes());
        parts.add(request.forwarded_address.as_bytes());
        parts.add(request.path.as_bytes());
        parts.add_optional(query.map(normalize_escapes).as_deref().map(str::as_bytes));
        parts.add_optional(credential);
        if route.anonymous == Anonymous::Share {
            let is_known = request.caller.known().is_some();
            parts.add(if is_known { b"known" } else { b"nobody" });
        }
        if route.callers.is_some() {
            parts.add_optional(request.caller.token_kind_part(route.per.as_ref()));
        }
        parts.add_count(route.headers.len());
        for name in &route.headers {
            parts.add(name.as_str().as_bytes());
            parts.add_list(request.headers.get_all(name).iter().map(|value| value.as_bytes()));
        }
        parts.add_count(route.cookies.len());
        for name in &route.cookies {
            parts.add(name.as_bytes());
            parts.add_list(cookie_pairs(request.headers, name));
        }
        if let Some(content) = request.content {
            parts.add(request.method.as_str().as_bytes());
            content_metadata(request.headers).for_each(|value| parts.add(&value));
            parts.add(&canonical_content(request, &route.ignore, content));
        }
        for name in selecting_fields::present(route, request) {
            parts.add(name.as_str().as_bytes());
            parts.add_list(request.headers.get_all(name).iter().map(|value| value.as_bytes()));
        }
        if selecting_fields::has_selecting_accept(route, request) {
            parts.add(ACCEPT.as_str().as_bytes());
            parts.add_optional(combine_lines(request.headers, &ACCEPT).as_deref());
        }
        CacheKey(parts.digest())
    }

    /// Builds the key of the variant for `request`, where the responses under this key differ by `fields`.
    /// `negotiated` stands for `Accept-Encoding`.
    pub(crate) fn variant_key(
        &self,
        fields: &VaryFields,
        request: &RequestHead<'_>,
        negotiated: Negotiated,
    ) -> CacheKey {
        self.variant_key_by_names(fields.names(), request.headers, negotiated)
    }

    /// Builds the key of a response to `request` that differs by `fields`.
    pub(crate) fn variant_key_of_response(
        &self,
        fields: &VaryFields,
        request: &RequestHead<'_>,
        response: &HeaderMap,
    ) -> CacheKey {
        self.variant_key(fields, request, Negotiated::received(request.headers, response))
    }

    /// Builds the key of the requests for this response that have these values in the selected fields.
    pub(crate) fn key_of_fields(
        &self,
        headers: &HeaderMap,
        is_selected: impl Fn(&HeaderName) -> bool,
    ) -> CacheKey {
        let mut names: Vec<&HeaderName> = headers.keys().filter(|name| is_selected(name)).collect();
        names.sort_unstable_by_key(|name| name.as_str());
        let mut parts = KeyHasher::new(b"fields 1");
        parts.add(&self.0);
        for name in names {
            parts.add(name.as_str().as_bytes());
            parts.add_list(headers.get_all(name).iter().map(|value| value.as_bytes()));
        }
        CacheKey(parts.digest())
    }

    fn variant_key_by_names(
        &self,
        names: &[HeaderName],
        headers: &HeaderMap,
        negotiated: Negotiated,
    ) -> CacheKey {
        let mut parts = KeyHasher::new(b"variant 3");
        parts.add(&self.0);
        for name in names {
            parts.add(name.as_str().as_bytes());
            match negotiated.key_part().filter(|_| *name == ACCEPT_ENCODING) {
                Some(coding) => parts.add_list([&b"coding"[..], coding].into_iter()),
                None => parts.add_optional(combine_lines(headers, name).as_deref()),
            }
        }
        CacheKey(parts.digest())
    }
}

/// Combines the lines of a field (RFC 9111 §4.1), in the case that goes to the upstream: not all ignore it where they
/// should. White space around members is dropped, unless a quote occurs:
/// then everything stays as it is. An absent field differs from an empty one.
fn combine_lines(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(|value| value.as_bytes()).collect();
    if lines.is_empty() {
        return None;
    }
    if lines.iter().any(|line| line.contains(&b'"')) {
        return Some(lines.join(&b","[..]));
    }
    let members = lines.iter().flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    Some(members.collect::<Vec<_>>().join(&b","[..]))
}
