//! The key of a stored response (RFC 9111 §2, §4.1): SHA-256 over length-prefixed parts.
//!
//! Equal keys mean equal requests to the upstream, except for the parts that the route ignores.

mod description;
#[cfg(test)]
mod tests;

use aws_lc_rs::digest::{SHA256, digest};
use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderName};

pub(crate) use description::{KeyPart, describe_key};

use super::accept_encoding::Negotiated;
use super::content_key::{IgnoredContent, ReadMethods, canonical_content, content_metadata};
use super::cookies::cookie_pairs;
use super::credential::Credential;
use super::overlay::OverlayAs;
use super::query::QueryRule;
use super::route::{Anonymous, OwnUrl, RouteMode};
use super::{CallerFields, RequestHead, Route, VaryFields, selecting_fields};
use crate::purge::normalize_escapes;

/// Selects a stored response: the SHA-256 of all that the response may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey(pub [u8; 32]);

/// A hash of the route rules that decide which requests a stored response may answer: key, tags and `per`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u64);

impl CacheKey {
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
            let kind = request.caller.token_kind_parts(route.per.as_ref());
            kind.into_iter().for_each(|part| parts.add_optional(part));
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
            parts.add(&canonical_content(route, request, content));
        }
        for name in selecting_fields::present(route, request) {
            parts.add(name.as_str().as_bytes());
            parts.add_list(request.headers.get_all(name).iter().map(|value| value.as_bytes()));
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

impl Fingerprint {
    /// Hashes what the route says: the same in every process that has the same rules.
    pub(crate) fn from_route(route: &Route) -> Self {
        let mut parts = KeyHasher::new(b"larder rules 5");
        // The path defines which segment a tag's parameter stands for.
        parts.add(route.path.as_str().as_bytes());
        parts.add_list(route.tags.iter().map(|tag| tag.as_str().as_bytes()));
        if let Some(from) = &route.ttl_from {
            // Responses stored without `ttl_from` may be dead already, and their content is not read again.
            parts.add(format!("{from:?}").as_bytes());
        }
        add_query_rule(&mut parts, &route.query);
        add_credential(&mut parts, route.per.as_ref());
        parts.add_list(route.headers.iter().map(|name| name.as_str().as_bytes()));
        parts.add_list(route.cookies.iter().map(String::as_bytes));
        // A response that was shared under earlier overrides is not shared without them.
        let overrides = route.overrides;
        parts.add(format!("{:?} {:?}", route.shared, route.anonymous).as_bytes());
        // A name of one issuer is another person's at another.
        parts.add_optional(route.callers.as_ref().map(|callers| callers.rules.as_bytes()));
        parts.add(route.drop_response.describe().as_bytes());
        parts.add_list(route.exempt.iter().map(|name| name.as_str().as_bytes()));
        for flag in [overrides.lifetime, overrides.private, overrides.no_cache] {
            parts.add(&[u8::from(flag)]);
        }
        // A response that was stored without its caller's target is not reached by a purge of it.
        parts.add(&[u8::from(route.own_url == OwnUrl::Caller)]);
        parts.add_list(route.targeted.iter().map(|name| name.as_str().as_bytes()));
        if route.methods != ReadMethods::default() || route.ignore != IgnoredContent::default() {
            parts.add(format!("{:?} {:?}", route.methods, route.ignore).as_bytes());
        }
        // A response that was stored without the target of its equivalents is not reached by a purge of their URLs.
        if route.no_vary_search {
            parts.add(b"no-vary-search");
        }
        // A response that was stored for all values of a field is not one for a request with another value.
        if !route.ignore_vary.is_empty() {
            parts.add(b"ignore-vary");
            parts.add_list(route.ignore_vary.iter().map(|name| name.as_str().as_bytes()));
        }
        // An observed route forwards the whole request, so its key does not cover all of it.
        parts.add(&[u8::from(route.mode == RouteMode::Observe)]);
        parts.fingerprint()
    }

    /// Hashes the route's lifetime rules. A response stored under other rules, or by another release, is evaluated
    /// again.
    pub(crate) fn from_lifetimes(route: &Route) -> Self {
        let mut parts = KeyHasher::new(b"larder lifetimes 4");
        parts.add(env!("CARGO_PKG_VERSION").as_bytes());
        parts.add(format!("{:?}", route.ttl).as_bytes());
        parts.add(format!("{:?}", route.status).as_bytes());
        let by_s_maxage = route.overrides.s_maxage_revalidation;
        for flag in [route.heuristic, route.any_status, route.request_directives, by_s_maxage] {
            parts.add(&[u8::from(flag)]);
        }
        parts.add(&route.stale_while_revalidate.as_nanos().to_be_bytes());
        parts.add(&route.stale_if_error.as_nanos().to_be_bytes());
        parts.fingerprint()
    }

    /// Tells the shared part of a route with `overlay` from the route without it, whose responses may be of one caller, and
    /// from the part as it was asked for without one of the fields `removed`, or with others than `added`.
    pub(crate) fn as_shared_part(
        self,
        asked_as: OverlayAs,
        removed: &[HeaderName],
        added: &HeaderMap,
    ) -> Self {
        let mut parts = KeyHasher::new(b"larder shared part 1");
        parts.add(&self.0.to_be_bytes());
        parts.add(&[u8::from(asked_as == OverlayAs::Background)]);
        let mut removed: Vec<&[u8]> = removed.iter().map(|name| name.as_str().as_bytes()).collect();
        removed.sort_unstable();
        removed.dedup();
        parts.add_list(removed.into_iter());
        let mut added: Vec<_> =
            added.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())).collect();
        added.sort_unstable();
        parts.add_list(added.into_iter().flat_map(|(name, value)| [name, value]));
        parts.fingerprint()
    }

    /// Adds the fields that identify callers: a response that was shared before a field became a credential is not
    /// shared after.
    pub(crate) fn with_caller_fields(self, caller_fields: &CallerFields) -> Self {
        let mut parts = KeyHasher::new(b"larder credentials 3");
        parts.add(&self.0.to_be_bytes());
        parts.add_list(caller_fields.describe());
        parts.fingerprint()
    }
}

fn add_query_rule(parts: &mut KeyHasher, rule: &QueryRule) {
    match rule {
        QueryRule::All => parts.add(b"all"),
        QueryRule::Only(wanted) => {
            parts.add(b"only");
            parts.add_count(wanted.len());
            for (name, default) in wanted {
                parts.add(name.as_bytes());
                parts.add_optional(default.as_deref().map(str::as_bytes));
            }
        }
        QueryRule::Ignore(patterns) => {
            parts.add(b"ignore");
            parts.add_list(patterns.iter().map(String::as_bytes));
        }
    }
}

fn add_credential(parts: &mut KeyHasher, per: Option<&Credential>) {
    match per {
        None => parts.add(b"all"),
        Some(Credential::Authorization) => parts.add(b"authorization"),
        Some(Credential::Cookie(name)) => {
            parts.add(b"cookie");
            parts.add(name.as_bytes());
        }
        Some(Credential::Header(name)) => {
            parts.add(b"header");
            parts.add(name.as_str().as_bytes());
        }
        Some(Credential::AnyOf(credentials)) => {
            parts.add(b"any of");
            parts.add_count(credentials.len());
            credentials.iter().for_each(|credential| add_credential(parts, Some(credential)));
        }
        Some(Credential::Claims(paths)) => {
            parts.add(b"claims");
            parts.add_list(paths.iter().map(String::as_bytes));
        }
        Some(Credential::Identity) => parts.add(b"identity"),
    }
}

/// Collects length-prefixed parts, and hashes them together; optional parts and lists end in a marker, so that different
/// lists of parts never produce the same bytes. The largest part is a content, which is bounded.
struct KeyHasher(Vec<u8>);

/// Room for nearly every key.
const USUAL_KEY_BYTES: usize = 256;

impl KeyHasher {
    /// `purpose` separates hashes of different kinds. Increase its number when the encoding changes.
    fn new(purpose: &[u8]) -> Self {
        let mut parts = Self(Vec::with_capacity(USUAL_KEY_BYTES));
        parts.add(purpose);
        parts
    }

    fn add(&mut self, part: &[u8]) {
        self.add_count(part.len());
        self.0.extend_from_slice(part);
    }

    fn add_optional(&mut self, part: Option<&[u8]>) {
        self.add_list(part.into_iter());
    }

    fn add_list<'p>(&mut self, list: impl Iterator<Item = &'p [u8]>) {
        for part in list {
            self.0.push(1);
            self.add(part);
        }
        self.0.push(0);
    }

    /// Encodes seven bits a byte, with the highest bit as the continuation flag: one byte for nearly every count,
    /// so that nearly every key fits one block of the hash.
    fn add_count(&mut self, mut count: usize) {
        while count >= 0x80 {
            self.0.push(0x80 | (count & 0x7f) as u8);
            count >>= 7;
        }
        self.0.push(count as u8);
    }

    fn digest(self) -> [u8; 32] {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        hash
    }

    fn fingerprint(self) -> Fingerprint {
        let [a, b, c, d, e, f, g, h, ..] = self.digest();
        Fingerprint(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}
