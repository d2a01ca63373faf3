//! Common test inputs: a route, a request, a response as text.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::classify::{CacheLookup, Caller};
use super::freshness::ExchangeTimes;
use super::no_vary_search::LookupQuery;
use super::not_stored::NotStored;
use super::path::PathTemplate;
use super::received_response::ReceivedResponse;
use super::route::{Route, Ttl};
use super::storing::may_store;
use super::{CacheKey, Fingerprint, RequestHead, fixtures};
use crate::clock::Timestamp;
use crate::purge::{Epoch, PurgeVersion, ReadVersion, ValidityCache};
use crate::stored_response::{EvaluatedUnder, StoredFields, StoredHead, Terms};

/// Sun, 06 Nov 1994 08:49:37 GMT, the RFC's example.
pub(super) const NOW: Timestamp = Timestamp::from_secs(784_111_777);

pub(super) const KEY: CacheKey = CacheKey([7; 32]);

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Parses `Name: value` lines.
pub(super) fn headers(text: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').expect("name: value");
        let name: HeaderName = name.parse().expect("a name");
        headers.append(name, HeaderValue::from_bytes(value.trim().as_bytes()).expect("a value"));
    }
    headers
}

/// A route that stores what the response itself allows.
pub(super) fn route() -> Route {
    Route {
        name: "test".into(),
        path: PathTemplate::default(),
        ttl: Ttl::Upstream,
        max_size: 1 << 20,
        fingerprint: Fingerprint(1),
        lifetime_fingerprint: Fingerprint(1),
        ..fixtures::route("/")
    }
}

pub(super) fn with_ttl(ttl: u64) -> Route {
    Route { ttl: Ttl::For(secs(ttl)), ..route() }
}

pub(super) fn request<'a>(method: &'a Method, headers: &'a HeaderMap) -> RequestHead<'a> {
    RequestHead { host: "api.test", ..RequestHead::new(method, "/", headers) }
}

pub(super) fn at_once() -> ExchangeTimes {
    ExchangeTimes { requested_at: NOW, received_at: NOW }
}

/// Stores the response to a GET without credentials, answered immediately.
pub(super) fn store(route: &Route, status: u16, response: &str) -> Result<Terms, NotStored> {
    store_for(Caller::InKey, route, status, response)
}

pub(super) fn store_for(
    caller: Caller,
    route: &Route,
    status: u16,
    response: &str,
) -> Result<Terms, NotStored> {
    let status = StatusCode::from_u16(status).expect("a status");
    let (fields, response) = (HeaderMap::new(), headers(response));
    let response = ReceivedResponse { status, headers: &response, exchange: at_once() };
    may_store(route, caller, &request(&Method::GET, &fields), response)
}

pub(super) fn stored(response: &str, terms: Terms) -> StoredHead {
    StoredHead {
        key: KEY,
        fingerprint: Fingerprint(1),
        status: StatusCode::OK,
        fields: StoredFields::new(&headers(response), &[""; 0]),
        terms: terms.into(),
        stamp: ReadVersion { epoch: Epoch(0), version: PurgeVersion(0), time: Timestamp::default() },
        targets: Box::new([]),
        fetched_here: false,
        found_valid: ValidityCache::default(),
        evaluated_under: EvaluatedUnder::new(Fingerprint(1)),
        usage: Default::default(),
    }
}

/// Fresh for 60 s from [`NOW`], kept for another 60 s.
pub(super) fn terms() -> Terms {
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

pub(super) fn lookup(route: &Arc<Route>, caller: Caller) -> CacheLookup<'_> {
    CacheLookup { route, key: KEY, query: LookupQuery::default(), caller, fallback_ttl: None }
}
