//! DECIDES. One pure function for each question, in the RFC's order; answers are enums that carry the reason.
//!
//! No I/O, no clock, no async, no logging, no randomness: `now` is an argument, and what is undecidable is answered
//! towards *less* caching. Imports `purge`, `stored_response` and the time type, nothing else of larder.

pub mod arrival;
pub mod cache_control;
pub mod cache_key;
pub mod cache_status;
pub mod classify;
pub mod content;
pub mod credentials;
mod entity_tag;
pub mod event;
pub mod freshness;
pub mod groups;
pub mod hop_by_hop;
pub mod http_date;
pub mod invalidation;
pub mod json_query;
pub mod lifetime;
pub mod miss;
pub mod names;
pub mod path;
pub mod precondition;
pub mod query;
pub mod range;
pub mod request_directives;
#[cfg(test)]
mod restriction_tests;
pub mod reuse;
pub mod route;
pub mod routes;
pub mod shortening;
pub mod storing;
mod stricter;
pub mod tags;
pub mod targeted;
pub mod template;
#[cfg(test)]
mod testing;
pub mod ttl_from;
pub mod url_template;
pub mod validation;
pub mod vary;

#[cfg(test)]
pub(crate) mod fixtures;

use http::{HeaderMap, HeaderName, Method};

pub use cache_key::{CacheKey, Fingerprint};
pub use names::Names;
pub use route::Route;
pub use vary::VaryFields;

/// What policy sees of a request: the head, with one normalised authority.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    pub method: &'a Method,
    /// `http` or `https`, as the client (or a trusted proxy before larder) spoke it.
    pub scheme: &'a str,
    /// Lower case, with the port if one was given that is not the scheme's own.
    pub host: &'a str,
    /// What else a trusted proxy says of the address that it was asked under (prefix, port …); empty without one.
    pub front: &'a str,
    /// As it came.
    pub path: &'a str,
    /// As it came, without `?`.
    pub query: Option<&'a str>,
    /// All fields of the request; end-to-end and not.
    pub headers: &'a HeaderMap,
    /// Of their names.
    pub names: Names,
}

impl<'a> RequestHead<'a> {
    /// One that says nothing else: to no host, over `http`, without a query.
    pub fn new(method: &'a Method, path: &'a str, headers: &'a HeaderMap) -> Self {
        let names = Names::of(headers);
        Self { method, scheme: "http", host: "", front: "", path, query: None, headers, names }
    }

    pub fn has(&self, name: &HeaderName) -> bool {
        self.names.may_hold(name) && self.headers.contains_key(name)
    }
}
