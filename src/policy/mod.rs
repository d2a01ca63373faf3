//! Caching decisions as pure functions, in the order of the RFC; results are enums that carry the reason.
//!
//! No I/O, clock, async, logging or randomness: `now` is an argument. Undecidable cases are decided towards *less*
//! caching. Imports only `purge`, `stored_response` and the time type.

pub mod accept_encoding;
pub mod cache_control;
pub(crate) mod cache_key;
pub mod cache_status;
pub mod caller;
pub(crate) mod caller_fields;
pub mod classify;
pub(crate) mod compression;
pub mod content;
pub(crate) mod content_key;
pub(crate) mod cookies;
pub(crate) mod core_number;
pub mod credential;
pub(crate) mod credentials;
pub(crate) mod decimal;
pub(crate) mod disguised_write;
pub(crate) mod downstream;
pub(crate) mod downstream_fields;
pub(crate) mod dropped_fields;
mod effective_terms;
mod entity_tag;
pub mod event;
mod field_syntax;
mod fingerprint;
pub(crate) mod forwarding_fields;
pub(crate) mod freshness;
mod graphql;
pub mod groups;
pub(crate) mod header_name_filter;
pub(crate) mod hop_by_hop;
pub mod http_date;
pub mod invalidation;
pub mod json_query;
pub(crate) mod jwt;
mod key_hasher;
pub mod languages;
pub mod lifetime;
pub mod lifetime_limits;
pub(crate) mod methods;
pub mod miss_reason;
pub(crate) mod next_page;
pub mod no_vary_search;
pub mod not_stored;
pub mod on_miss;
pub(crate) mod operation_content;
pub mod overlay;
pub mod overlay_fields;
pub mod override_fields;
pub mod path;
pub mod precondition;
pub mod purge_channels;
pub(crate) mod purge_scope;
pub mod purge_targets;
pub mod query;
pub mod range;
pub mod rate_budget;
pub mod rate_limit;
pub(crate) mod received_response;
pub mod request_directives;
pub mod response_admission;
pub(crate) mod response_coding;
pub mod response_tags;
#[cfg(test)]
mod restriction_tests;
pub mod reuse;
pub mod route;
mod route_fingerprint;
pub(crate) mod route_keys;
pub mod routes;
pub(crate) mod secret_parameters;
pub(crate) mod selecting_fields;
pub mod storing;
pub(crate) mod tag_lists;
pub mod tags;
pub mod targeted;
pub mod template;
#[cfg(test)]
mod testing;
pub(crate) mod token_kind;
pub mod ttl_from;
pub(crate) mod url_template;
mod usual_fields;
pub(crate) mod validation;
mod validators;
pub mod vary;
pub(crate) mod withdrawal;
pub mod write_outcome;

#[cfg(test)]
pub(crate) mod fixtures;

use http::{HeaderMap, HeaderName, Method};

pub use cache_key::CacheKey;
use caller::CallerView;
pub use caller_fields::CallerFields;
pub use fingerprint::Fingerprint;
pub use header_name_filter::{HeaderNameFilter, is_ambiguous_name, with_dashes};
use no_vary_search::SearchVariance;
pub use route::Route;
pub use vary::VaryFields;

/// The head of a request, with one normalised authority.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// `http` or `https`, as spoken by the client or as reported by a trusted proxy.
    pub scheme: &'a str,
    /// Lower case; the port is included unless it is the scheme's default.
    pub host: &'a str,
    /// The `X-Forwarded-Host` of a trusted proxy, where it names another host.
    pub forwarded_host: Option<&'a str>,
    /// Further address information of a trusted proxy (prefix, port, …); empty without one.
    pub forwarded_address: &'a str,
    /// Undecoded.
    pub path: &'a str,
    /// Undecoded, without `?`.
    pub query: Option<&'a str>,
    /// All fields, hop-by-hop ones included.
    pub headers: &'a HeaderMap,
    /// The whole content of a QUERY or POST, where it has been read.
    pub content: Option<&'a [u8]>,
    /// The content as JSON, where it has been parsed already.
    pub json: Option<&'a serde_json::Value>,
    /// The `No-Vary-Search` of the latest response of the path.
    pub search_hint: Option<&'a SearchVariance>,
    /// A filter over the names in `headers`.
    pub name_filter: HeaderNameFilter,
    /// The identified caller.
    pub caller: CallerView<'a>,
}

impl<'a> RequestHead<'a> {
    /// A request over `http` without host and query.
    pub fn new(method: &'a Method, path: &'a str, headers: &'a HeaderMap) -> Self {
        let names = HeaderNameFilter::from_headers(headers);
        Self {
            method,
            scheme: "http",
            host: "",
            forwarded_host: None,
            forwarded_address: "",
            path,
            query: None,
            headers,
            content: None,
            json: None,
            search_hint: None,
            name_filter: names,
            caller: CallerView::NotAsked,
        }
    }

    /// The names under which the client may know the API.
    pub fn hosts(&self) -> impl Iterator<Item = &'a str> {
        std::iter::once(self.host).chain(self.forwarded_host)
    }

    /// Whether the field is present.
    pub fn has(&self, name: &HeaderName) -> bool {
        self.name_filter.may_hold(name) && self.headers.contains_key(name)
    }
}
