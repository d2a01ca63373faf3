//! A response has arrived: is it remembered, for how long, under which key and with which tags? First by its header
//! section, then, where its content tells more, by the whole.
//!
//! The proxy asks this of what comes, and `larder explain` of what could come.

use http::{HeaderMap, StatusCode};

use super::classify::Caller;
use super::content::Content;
use super::shortening::{by_head, shorten};
use super::storing::{Exchange, NotStored, may_store};
use super::vary::Vary;
use super::{CacheKey, RequestHead, Route, tags};
use crate::purge::{LoosePath, Target, TargetId};
use crate::stored_response::Terms;

/// What the response is an answer to.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub route: &'a Route,
    pub caller: Caller,
    /// The key of the request, whatever the variant.
    pub primary: &'a CacheKey,
    /// A GET.
    pub request: &'a RequestHead<'a>,
}

impl Asked<'_> {
    /// The header section is here. `length`: of the content, if it says so. Where the content tells more, these are the
    /// terms until then.
    pub fn terms(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        length: Option<u64>,
        exchange: Exchange,
    ) -> Result<Terms, NotStored> {
        let terms = may_store(self.route, self.caller, self.request, status, headers, exchange)?;
        if length.is_some_and(|length| length > largest(self.route)) {
            return Err(too_large(self.route));
        }
        if !self.route.reads_content() {
            return shorten(self.route, self.primary, terms, headers, None);
        }
        Content::is_expected(headers).map_err(|unreadable| unreadable.not_stored())?;
        by_head(self.route, terms, headers)
    }

    /// The whole is here, of a route that reads it: all its tags, and the terms that hold.
    pub fn whole(
        &self,
        terms: Terms,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(Vec<String>, Terms), NotStored> {
        let content = Content::of_response(headers, body, self.route.max_json)
            .map_err(|unreadable| unreadable.not_stored())?;
        let tags = tags::of_response(self.route, self.request, headers, Some(&content))?;
        Ok((tags, shorten(self.route, self.primary, terms, headers, Some(&content))?))
    }

    /// The key that the response is remembered under: its variant's, where it is one of several.
    pub fn key(&self, headers: &HeaderMap) -> Result<CacheKey, NotStored> {
        match Vary::of(headers) {
            Vary::Nothing => Ok(*self.primary),
            Vary::Fields(fields) => Ok(self.primary.variant(&fields, self.request)),
            Vary::Everything => Err(NotStored::VaryStar),
        }
    }
}

/// Every target by which a purge reaches the response to `request`; `query` is the selected one.
pub fn targets(request: &RequestHead<'_>, query: Option<&str>, tags: &[String]) -> Vec<TargetId> {
    let path = LoosePath::new(request.path);
    Target::all_of(request.host, &path, query.unwrap_or_default(), tags.iter().map(String::as_str))
}

/// Of so many bytes nothing more is kept.
pub fn largest(route: &Route) -> u64 {
    match route.reads_content() {
        true => route.max_size.min(route.max_json),
        false => route.max_size,
    }
}

/// Why a response beyond [`largest`] is not stored.
pub fn too_large(route: &Route) -> NotStored {
    match largest(route) < route.max_size {
        true => NotStored::JsonTooLarge,
        false => NotStored::TooLarge,
    }
}
