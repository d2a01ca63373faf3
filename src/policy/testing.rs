//! What the tests of several questions begin with: a route, a request, a response as text.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::classify::{Caller, Lookup};
use super::path::PathTemplate;
use super::query::QueryRule;
use super::route::{Mode, Overrides, Route, Semantics, Ttl};
use super::storing::{Exchange, NotStored, may_store};
use super::{CacheKey, Fingerprint, RequestHead};
use crate::clock::Timestamp;
use crate::purge::{FoundValid, Incarnation, Position, Stamp};
use crate::stored_response::{JudgedBy, StoredFields, StoredHead, Terms};

/// Sun, 06 Nov 1994 08:49:37 GMT: the RFC's own example.
pub const NOW: Timestamp = Timestamp::from_secs(784_111_777);

pub const KEY: CacheKey = CacheKey([7; 32]);

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// `Name: value` by line.
pub fn headers(text: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').expect("name: value");
        let name: HeaderName = name.parse().expect("a name");
        headers.append(name, HeaderValue::from_bytes(value.trim().as_bytes()).expect("a value"));
    }
    headers
}

/// Stores what the response itself allows, and nothing more.
pub fn route() -> Route {
    Route {
        index: 0,
        name: "test".into(),
        path: PathTemplate::default(),
        mode: Mode::On,
        ttl: Ttl::Upstream,
        ttl_from: None,
        jitter: 0,
        tags: Vec::new(),
        purges: None,
        query: QueryRule::All,
        shared: false,
        status: Default::default(),
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        refresh_ahead: Duration::ZERO,
        max_size: 1 << 20,
        max_json: 1 << 20,
        timeout: None,
        collapse: Default::default(),
        collapse_wait: Duration::from_secs(5),
        per: None,
        headers: Vec::new(),
        cookies: Vec::new(),
        overrides: Overrides::default(),
        semantics: Semantics::default(),
        guard: false,
        settle: Duration::ZERO,
        fingerprint: Fingerprint(1),
        lifetimes: Fingerprint(1),
    }
}

pub fn with_ttl(ttl: u64) -> Route {
    Route { ttl: Ttl::For(secs(ttl)), ..route() }
}

pub fn request<'a>(method: &'a Method, headers: &'a HeaderMap) -> RequestHead<'a> {
    RequestHead { host: "api.test", ..RequestHead::new(method, "/", headers) }
}

pub fn at_once() -> Exchange {
    Exchange { requested_at: NOW, received_at: NOW }
}

/// A GET without credentials, answered at once.
pub fn store(route: &Route, status: u16, response: &str) -> Result<Terms, NotStored> {
    store_for(Caller::InKey, route, status, response)
}

pub fn store_for(caller: Caller, route: &Route, status: u16, response: &str) -> Result<Terms, NotStored> {
    let status = StatusCode::from_u16(status).expect("a status");
    let (fields, response) = (HeaderMap::new(), headers(response));
    may_store(route, caller, &request(&Method::GET, &fields), status, &response, at_once())
}

pub fn stored(response: &str, terms: Terms) -> StoredHead {
    StoredHead {
        key: KEY,
        fingerprint: Fingerprint(1),
        status: StatusCode::OK,
        fields: StoredFields::new(&headers(response), &[""; 0]),
        terms: terms.into(),
        stamp: Stamp { incarnation: Incarnation(0), as_of: Position(0) },
        targets: Box::new([]),
        found_valid: FoundValid::default(),
        judged_by: JudgedBy::rules(Fingerprint(1)),
        usage: Default::default(),
    }
}

/// Fresh for 60 s from [`NOW`], and kept for another 60.
pub fn terms() -> Terms {
    Terms {
        requested_at: NOW,
        received_at: NOW,
        initial_age: Duration::ZERO,
        freshness_lifetime: secs(60),
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        always_validate: false,
        must_revalidate: false,
        open_to_credentials: false,
        expires_at: NOW.plus(secs(120)),
    }
}

pub fn lookup(route: &Arc<Route>, caller: Caller) -> Lookup<'_> {
    Lookup { route, key: KEY, query: None, caller, fallback_ttl: None }
}
