//! Admits a response to the store: whether, for how long, under which key and with which tags. Decided by the
//! headers first, then, where the route reads it, by the whole content.
//!
//! Shared by the proxy and by `larder explain`.

use http::{HeaderMap, StatusCode};

use super::classify::Caller;
use super::content::Content;
use super::credential::caller_value;
use super::freshness::ExchangeTimes;
use super::invalidation::{absence_target, caller_target, route_target};
use super::lifetime_limits::{bound_by_headers, limit_lifetime};
use super::no_vary_search::SearchVariance;
use super::not_stored::NotStored;
use super::path::framework_readings;
use super::received_response::ReceivedResponse;
use super::route::OwnUrl;
use super::routes::is_absence;
use super::storing::may_store;
use super::tag_lists::EntryTags;
use super::vary::Vary;
use super::{CacheKey, RequestHead, Route};
use crate::purge::{NormalizedPath, Target, TargetId};
use crate::stored_response::Terms;

/// The request that the response answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestContext<'a> {
    pub route: &'a Route,
    pub caller: Caller,
    /// The key of the request, without its variant.
    pub primary: &'a CacheKey,
    /// A GET.
    pub request: &'a RequestHead<'a>,
}

impl RequestContext<'_> {
    /// Decides by the headers. `length` is the declared content length. If the route reads the content, the terms
    /// are provisional.
    pub(crate) fn admit_headers(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        length: Option<u64>,
        exchange: ExchangeTimes,
    ) -> Result<Terms, NotStored> {
        let response = ReceivedResponse { status, headers, exchange };
        let terms = may_store(self.route, self.caller, self.request, response)?;
        if length.is_some_and(|length| length > max_stored_body(self.route)) {
            return Err(too_large_reason(self.route));
        }
        if !self.route.reads_content() {
            return limit_lifetime(self.route, self.primary, terms, headers, None);
        }
        Content::is_expected(headers).map_err(|unreadable| unreadable.as_not_stored())?;
        bound_by_headers(self.route, terms, headers)
    }

    /// Decides by the whole content, on routes that read it: all tags, and the final terms.
    pub(crate) fn admit_content(
        &self,
        terms: Terms,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(EntryTags, Terms), NotStored> {
        let content = Content::parse_response(headers, body, self.route.max_json)
            .map_err(|unreadable| unreadable.as_not_stored())?;
        let tags = EntryTags::collect(self.route, self.request, headers, Some(&content))?;
        Ok((tags, limit_lifetime(self.route, self.primary, terms, headers, Some(&content))?))
    }

    /// The key to store the response under: that of its variant, if it has `Vary`.
    pub(crate) fn select_variant_key(&self, headers: &HeaderMap) -> Result<CacheKey, NotStored> {
        match Vary::parse_ignoring(headers, &self.route.ignore_vary) {
            Vary::Nothing => Ok(*self.primary),
            Vary::Fields(fields) => Ok(self.primary.variant_key_of_response(&fields, self.request, headers)),
            Vary::Everything => Err(NotStored::VaryStar),
        }
    }
}

/// All targets by which a purge can reach the response to `request` with `headers`; `query` is the selected query.
pub fn response_targets(
    route: &Route,
    request: &RequestHead<'_>,
    query: Option<&str>,
    headers: &HeaderMap,
    tags: &[String],
) -> Vec<TargetId> {
    let path = NormalizedPath::new(request.path);
    let tags = tags.iter().map(String::as_str);
    let mut ids = Target::ids_for_response(request.host, &path, query.unwrap_or_default(), tags);
    if let Some(host) = request.forwarded_host {
        ids.extend(Target::ids_for_response(host, &path, query.unwrap_or_default(), []));
    }
    if route.no_vary_search && SearchVariance::parse(headers).is_some() {
        ids.extend(request.hosts().flat_map(|host| TargetId::list_equivalents(host, &path)));
    }
    ids.push(route_target(route).id());
    let own_caller = route.per.as_ref().filter(|_| route.own_url == OwnUrl::Caller);
    let credential = own_caller.and_then(|per| caller_value(per, request));
    ids.extend(credential.iter().map(|credential| caller_target(credential, &path).id()));
    for reading in framework_readings(&path) {
        let hosts = [""].into_iter().chain(request.hosts());
        ids.extend(hosts.flat_map(|host| TargetId::list_path_and_above(host, &reading)));
        ids.extend(credential.iter().map(|credential| caller_target(credential, &reading).id()));
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The targets by which a write above `path` reaches a response that says that nothing is there.
pub(crate) fn absence_targets(status: StatusCode, path: &str) -> Vec<TargetId> {
    if !is_absence(status.as_u16()) {
        return Vec::new();
    }
    let path = NormalizedPath::new(path);
    let readings = framework_readings(&path);
    let above = std::iter::once(&path).chain(&readings).flat_map(NormalizedPath::prefixes);
    let mut ids: Vec<_> = above.map(|above| absence_target(above).id()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The maximum number of bytes that are stored of a body.
pub(crate) fn max_stored_body(route: &Route) -> u64 {
    match route.reads_content() {
        true => route.max_size.min(route.max_json),
        false => route.max_size,
    }
}

/// The reason for not storing a body beyond [`max_stored_body`].
pub(crate) fn too_large_reason(route: &Route) -> NotStored {
    match max_stored_body(route) < route.max_size {
        true => NotStored::JsonTooLarge,
        false => NotStored::TooLarge,
    }
}
