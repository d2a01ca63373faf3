//! Validation of a stored response by the upstream (RFC 9111 §4.3). That of the client's by us is `precondition`.

use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, LAST_MODIFIED, SET_COOKIE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::classify::Caller;
use super::entity_tag::EntityTag;
use super::hop_by_hop::is_hop_by_hop;
use super::http_date::{self, only_value};
pub use super::precondition::{Precondition, precondition};
use super::storing::{Exchange, NotStored, may_store};
use super::vary::Vary;
use super::{RequestHead, Route};
use crate::clock::Timestamp;
use crate::stored_response::{StoredHead, Terms};

/// Whether [`conditional_fields`] finds something: fields that are no validators, to the letter, don't count.
pub fn has_validator(headers: &HeaderMap) -> bool {
    EntityTag::of(headers, &ETAG).is_some() || has_date(headers)
}

fn has_date(headers: &HeaderMap) -> bool {
    // Whether something is a date does not depend on when it is asked.
    http_date::of_field(headers, LAST_MODIFIED, Timestamp::default()).is_some()
}

/// §4.3.1: the fields that make the request for a stored response conditional; empty if it has no validator. Byte for
/// byte as the upstream gave them.
pub fn conditional_fields(stored: &StoredHead) -> HeaderMap {
    let (stored, mut fields) = (stored.fields.to_map(), HeaderMap::with_capacity(2));
    if EntityTag::of(&stored, &ETAG).is_some()
        && let Some(tag) = stored.get(ETAG)
    {
        fields.insert(IF_NONE_MATCH, tag.clone());
    }
    if has_date(&stored)
        && let Some(date) = stored.get(LAST_MODIFIED)
    {
        fields.insert(IF_MODIFIED_SINCE, date.clone());
    }
    fields
}

/// §4.3.3: what the answer to a conditional request means for the stored response.
#[derive(Debug, PartialEq, Eq)]
pub enum Validated {
    /// 304 that selects it: it is still good. `strong`: by a strong validator, so that its content is known to be
    /// the one of now.
    Freshened { strong: bool },
    /// Any other answer replaces it, or answers for itself.
    Replaced,
    /// 5xx: it may be served stale if its terms allow.
    Failed,
    /// 304, but for another representation: ask again without condition.
    Mismatch,
}

pub fn after_validation(stored: &StoredHead, status: StatusCode, headers: &HeaderMap) -> Validated {
    match status {
        StatusCode::NOT_MODIFIED => selects(&stored.fields.to_map(), headers),
        _ if status.is_server_error() => Validated::Failed,
        _ => Validated::Replaced,
    }
}

/// §4.3.4: whether a 304 is about the stored response, by the best validator that it carries.
fn selects(stored: &HeaderMap, update: &HeaderMap) -> Validated {
    // Beyond the RFC: a 304 that was selected by more request fields than the stored response is about a variant.
    if !varies_no_further(stored, update) {
        return Validated::Mismatch;
    }
    let freshened_if =
        |matches, strong| if matches { Validated::Freshened { strong } } else { Validated::Mismatch };
    if update.contains_key(ETAG) {
        let (Some(ours), Some(theirs)) = (EntityTag::of(stored, &ETAG), EntityTag::of(update, &ETAG)) else {
            return Validated::Mismatch;
        };
        return match theirs.is_strong() {
            // "If the new response contains one or more strong validators, then each of those strong validators
            // identifies a selected representation for update."
            true => freshened_if(theirs.matches_strongly(&ours), true),
            // "If the new response contains no strong validators but does contain one or more weak validators, and if
            // those validators correspond to one of the initial set's stored responses" …
            false => freshened_if(theirs.matches_weakly(&ours), false),
        };
    }
    if update.contains_key(LAST_MODIFIED) {
        let ours = only_value(stored, &LAST_MODIFIED);
        return freshened_if(ours.is_some() && ours == only_value(update, &LAST_MODIFIED), false);
    }
    // "If the new response does not include any form of validator": the RFC selects only a response that has none
    // either. Many upstreams leave them out, and only ours was asked about; but nothing is proved by it.
    Validated::Freshened { strong: false }
}

/// §4.3.5: whether a 200 to a HEAD is about the stored response: "if the stored response and HEAD response have matching
/// values for any received validator fields (ETag and Last-Modified) and, if the HEAD response has a Content-Length header
/// field, the value of Content-Length matches that of the stored response".
///
/// Beyond the RFC, a validator must have come: without one, nothing is proved. Where they differ "the cache SHOULD
/// consider the stored response to be stale", which it is already: a fresh one answers HEAD itself.
pub fn is_freshened_by_head(
    stored: &StoredHead,
    content_length: u64,
    status: StatusCode,
    update: &HeaderMap,
) -> bool {
    let fields = stored.fields.to_map();
    let length = only_value(update, &CONTENT_LENGTH).map(HeaderValue::as_bytes);
    let same_length = !update.contains_key(CONTENT_LENGTH)
        || length.is_some_and(|length| length == content_length.to_string().as_bytes());
    status == StatusCode::OK
        && stored.status == StatusCode::OK
        && same_length
        && [ETAG, LAST_MODIFIED].iter().any(|name| update.contains_key(name))
        && same_or_absent(&fields, update, &LAST_MODIFIED)
        && matches!(selects(&fields, update), Validated::Freshened { .. })
}

fn same_or_absent(stored: &HeaderMap, update: &HeaderMap, name: &HeaderName) -> bool {
    let ours = only_value(stored, name);
    !update.contains_key(name) || (ours.is_some() && ours == only_value(update, name))
}

fn varies_no_further(stored: &HeaderMap, update: &HeaderMap) -> bool {
    match (Vary::of(stored), Vary::of(update)) {
        (_, Vary::Nothing) => true,
        (Vary::Fields(ours), Vary::Fields(theirs)) => {
            theirs.names().iter().all(|name| ours.names().contains(name))
        }
        _ => false,
    }
}

/// §4.3.4 whole, for a 304 that selected `stored`: its fields and its terms of now. An error says that it may not be
/// kept any longer under them.
pub fn freshen(
    route: &Route,
    caller: Caller,
    request: &RequestHead<'_>,
    stored: &StoredHead,
    update: &HeaderMap,
    exchange: Exchange,
) -> Result<(HeaderMap, Terms), NotStored> {
    let mut headers = freshened_headers(&stored.fields.to_map(), update);
    // How old the 304 was when it came counts for the terms; the stored fields go without it.
    for age in update.get_all(AGE) {
        headers.append(AGE, age.clone());
    }
    // A cookie that comes with the 304 is not stored, but says that the answer was for one caller.
    if update.contains_key(SET_COOKIE) {
        return Err(NotStored::SetCookie);
    }
    let terms = may_store(route, caller, request, stored.status, &headers, exchange)?;
    headers.remove(AGE);
    Ok((headers, freshened_terms(&stored.terms(), terms, exchange)))
}

/// §3.2, §4.3.4: the stored fields, updated from a 304 (or a HEAD); without `Age`.
pub fn freshened_headers(stored: &HeaderMap, update: &HeaderMap) -> HeaderMap {
    let mut headers = stored.clone();
    // §3.2: `Age` is not a field of what is stored. The old `Date` is not that of the update: without one, it was made
    // when it was received (RFC 9110 §6.6.1).
    headers.remove(AGE);
    headers.remove(DATE);
    for name in update.keys().filter(|name| is_updated(name, update)) {
        headers.remove(name);
        for value in update.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    headers
}

/// §3.2: "MUST add each header field in the provided response to the stored response, replacing field values that are
/// already present", with these exceptions.
fn is_updated(name: &HeaderName, update: &HeaderMap) -> bool {
    // "Header fields excepted from storage in §3.1", and those that are never stored here.
    let is_never_stored =
        is_hop_by_hop(name, update) || [AGE, SET_COOKIE].contains(name) || name == "set-cookie2";
    // "Header fields that the cache's stored response depends upon" and "that are automatically processed and removed by
    // the recipient": they say what the stored bytes are, and the 304 brought no others.
    let is_of_content = [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_TYPE, CONTENT_RANGE, ETAG].contains(name)
        || ["content-digest", "content-md5", "digest", "repr-digest"].contains(&name.as_str());
    // By `Vary` the stored response was filed; one that changes it would not have selected it.
    !is_never_stored && !is_of_content && *name != VARY
}

/// The terms of a response that was freshened; `terms` are those that its updated fields give.
///
/// A 304 may close a response to requests with credentials, but does not open it: it does not tell for whom the content
/// was made.
pub fn freshened_terms(stored: &Terms, terms: Terms, exchange: Exchange) -> Terms {
    Terms {
        requested_at: exchange.requested_at,
        received_at: exchange.received_at,
        open_to_credentials: stored.open_to_credentials && terms.open_to_credentials,
        ..terms
    }
}

#[cfg(test)]
#[path = "validation_tests.rs"]
mod tests;
