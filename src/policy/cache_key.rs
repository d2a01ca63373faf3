//! What selects a stored response (RFC 9111 §2, §4.1): SHA-256 over length-prefixed parts.
//!
//! Equal keys mean equal requests to the upstream, up to what the route drops or does not tell apart.

mod described;
#[cfg(test)]
mod tests;

use http::header::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

pub use described::{KeyPart, described};

use super::query::QueryRule;
use super::route::{Credential, Mode};
use super::{RequestHead, Route, VaryFields, credentials};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey(pub [u8; 32]);

/// Of the part of a route that decides what a stored response may be used for: its key, tags and `per`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u64);

impl CacheKey {
    /// The key of what `request` asks for under `route`. `query` is the selected one; `credential` is the value of
    /// the route's `per`. HEAD has the key of GET, so the method is no part of it.
    pub fn new(
        route: &Route,
        request: &RequestHead<'_>,
        query: Option<&str>,
        credential: Option<&[u8]>,
    ) -> Self {
        let mut parts = Parts::new(b"key 3");
        parts.add(request.scheme.as_bytes());
        parts.add(request.host.as_bytes());
        parts.add(request.front.as_bytes());
        parts.add(request.path.as_bytes());
        parts.add_optional(query.map(str::as_bytes));
        parts.add_optional(credential);
        parts.count(route.headers.len());
        for name in &route.headers {
            parts.add(name.as_str().as_bytes());
            parts.add_list(request.headers.get_all(name).iter().map(|value| value.as_bytes()));
        }
        parts.count(route.cookies.len());
        for name in &route.cookies {
            parts.add(name.as_bytes());
            parts.add_list(credentials::cookie_pairs(request.headers, name));
        }
        CacheKey(parts.digest())
    }

    /// The key of the variant that answers `request`, where the responses under this key differ by `fields`.
    pub fn variant(&self, fields: &VaryFields, request: &RequestHead<'_>) -> CacheKey {
        self.variant_by(fields.names(), request.headers)
    }

    fn variant_by(&self, names: &[HeaderName], headers: &HeaderMap) -> CacheKey {
        let mut parts = Parts::new(b"variant 2");
        parts.add(&self.0);
        for name in names {
            parts.add(name.as_str().as_bytes());
            parts.add_optional(combined(headers, name).as_deref());
        }
        CacheKey(parts.digest())
    }
}

/// RFC 9111 §4.1: lines of one field are combined, and white space around its members says nothing, except in a
/// quoted string, so where there is a quote it all stays as it is. Absent is not empty.
fn combined(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
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
    /// The same in every process that has the same rules: SHA-256 over the text of what the route says.
    pub fn of(route: &Route) -> Self {
        let mut parts = Parts::new(b"larder rules 3");
        // The path says which of its segments a tag's parameter is.
        parts.add(route.path.as_str().as_bytes());
        parts.add_list(route.tags.iter().map(|tag| tag.as_str().as_bytes()));
        if let Some(from) = &route.ttl_from {
            // What was stored without it may be dead already, and its content is not read again.
            parts.add(format!("{from:?}").as_bytes());
        }
        add_query_rule(&mut parts, &route.query);
        add_credential(&mut parts, route.per.as_ref());
        parts.add_list(route.headers.iter().map(|name| name.as_str().as_bytes()));
        parts.add_list(route.cookies.iter().map(String::as_bytes));
        // What was stored for all since the rules said so is not for all when they don't any more.
        let overrides = route.overrides;
        for flag in [route.shared, overrides.lifetime, overrides.private, overrides.no_cache] {
            parts.add(&[u8::from(flag)]);
        }
        parts.add_list(route.semantics.targeted.iter().map(|name| name.as_str().as_bytes()));
        // While a route is watched nothing is left out of what it forwards, so the key does not tell all of it.
        parts.add(&[u8::from(route.mode == Mode::Observe)]);
        parts.fingerprint()
    }

    /// Of what the route says of lifetimes. What was stored under others is judged again, and so is what another
    /// release stored, which may have read the same rules otherwise.
    pub fn of_lifetimes(route: &Route) -> Self {
        let mut parts = Parts::new(b"larder lifetimes 3");
        parts.add(env!("CARGO_PKG_VERSION").as_bytes());
        parts.add(format!("{:?}", route.ttl).as_bytes());
        parts.add(format!("{:?}", route.status).as_bytes());
        let semantics = &route.semantics;
        for flag in [semantics.heuristic, semantics.any_status, semantics.request_directives] {
            parts.add(&[u8::from(flag)]);
        }
        parts.add(&route.stale_while_revalidate.as_nanos().to_be_bytes());
        parts.add(&route.stale_if_error.as_nanos().to_be_bytes());
        parts.fingerprint()
    }

    /// Together with the fields that identify a caller: what was stored for all while a field was none of them is not
    /// for all when it is one.
    pub fn with_credentials(self, credentials: &[HeaderName]) -> Self {
        let mut parts = Parts::new(b"larder credentials 2");
        parts.add(&self.0.to_be_bytes());
        parts.add_list(credentials.iter().map(|name| name.as_str().as_bytes()));
        parts.fingerprint()
    }
}

fn add_query_rule(parts: &mut Parts, rule: &QueryRule) {
    match rule {
        QueryRule::All => parts.add(b"all"),
        QueryRule::Only(wanted) => {
            parts.add(b"only");
            parts.count(wanted.len());
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

fn add_credential(parts: &mut Parts, per: Option<&Credential>) {
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
    }
}

/// Parts are length-prefixed, and what there may be none or many of ends with a mark, so that no two lists of parts
/// are the same bytes.
struct Parts(Sha256);

impl Parts {
    /// `purpose` keeps the hashes of different things apart; its number grows when their reading changes.
    fn new(purpose: &[u8]) -> Self {
        let mut parts = Self(Sha256::new());
        parts.add(purpose);
        parts
    }

    fn add(&mut self, part: &[u8]) {
        self.count(part.len());
        self.0.update(part);
    }

    fn add_optional(&mut self, part: Option<&[u8]>) {
        self.add_list(part.into_iter());
    }

    fn add_list<'p>(&mut self, list: impl Iterator<Item = &'p [u8]>) {
        for part in list {
            self.0.update([1]);
            self.add(part);
        }
        self.0.update([0]);
    }

    /// Seven bits a byte, the highest says that there are more: nearly always one byte, so that nearly every key is one
    /// block of the hash.
    fn count(&mut self, mut count: usize) {
        while count >= 0x80 {
            self.0.update([0x80 | (count & 0x7f) as u8]);
            count >>= 7;
        }
        self.0.update([count as u8]);
    }

    fn digest(self) -> [u8; 32] {
        self.0.finalize().into()
    }

    fn fingerprint(self) -> Fingerprint {
        let [a, b, c, d, e, f, g, h, ..] = self.digest();
        Fingerprint(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}
