//! Validation of a stored response by the upstream (RFC 9111 §4.3). Conditions of clients are in `precondition`.

use http::header::{
    ACCEPT_RANGES, AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, SET_COOKIE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::classify::Caller;
use super::entity_tag::EntityTag;
use super::freshness::ExchangeTimes;
use super::hop_by_hop::is_hop_by_hop;
use super::http_date::single_value;
use super::not_stored::NotStored;
pub(crate) use super::precondition::{Precondition, evaluate_precondition};
use super::received_response::ReceivedResponse;
use super::storing::may_store;
use super::validators::has_last_modified;
use super::vary::Vary;
use super::{RequestHead, Route};
use crate::stored_response::{StoredHead, Terms};

/// The fields that make a validation request conditional (§4.3.1), byte for byte as received; empty without a
/// validator.
pub(crate) fn build_conditional_fields(stored: &StoredHead) -> HeaderMap {
    let (stored, mut fields) = (stored.fields.to_map(), HeaderMap::with_capacity(2));
    if EntityTag::from_field(&stored, &ETAG).is_some()
        && let Some(tag) = stored.get(ETAG)
    {
        fields.insert(IF_NONE_MATCH, tag.clone());
    }
    if has_last_modified(&stored)
        && let Some(date) = stored.get(LAST_MODIFIED)
    {
        fields.insert(IF_MODIFIED_SINCE, date.clone());
    }
    fields
}

/// The meaning of the answer to a conditional request (§4.3.3).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ValidationResult {
    /// 304 that selects the stored response. `strong`: by a strong validator, so that the content is known to be
    /// current.
    Freshened { strong: bool },
    /// Any other answer replaces the stored response.
    Replaced,
    /// 5xx: the stored response may be served stale if its terms allow.
    Failed,
    /// 304 for another representation: repeat the request without conditions.
    Mismatch,
}

pub(crate) fn evaluate_validation(
    stored: &StoredHead,
    status: StatusCode,
    headers: &HeaderMap,
) -> ValidationResult {
    match status {
        StatusCode::NOT_MODIFIED => match_stored(&stored.fields.to_map(), headers),
        _ if status.is_server_error() => ValidationResult::Failed,
        _ => ValidationResult::Replaced,
    }
}

/// Whether a 304 selects the stored response by its best validator (§4.3.4).
fn match_stored(stored: &HeaderMap, update: &HeaderMap) -> ValidationResult {
    // Beyond the RFC: a 304 with more `Vary` fields than the stored response is about a variant.
    if !has_no_new_vary(stored, update) {
        return ValidationResult::Mismatch;
    }
    let freshened_if = |matches, strong| {
        if matches { ValidationResult::Freshened { strong } } else { ValidationResult::Mismatch }
    };
    if update.contains_key(ETAG) {
        let (Some(ours), Some(theirs)) =
            (EntityTag::from_field(stored, &ETAG), EntityTag::from_field(update, &ETAG))
        else {
            return ValidationResult::Mismatch;
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
        let ours = single_value(stored, &LAST_MODIFIED);
        return freshened_if(ours.is_some() && ours == single_value(update, &LAST_MODIFIED), false);
    }
    // "If the new response does not include any form of validator": the RFC selects only a stored response without
    // validators. Many upstreams omit them, and only this response was asked about; but it is no strong proof.
    ValidationResult::Freshened { strong: false }
}

/// Whether a 200 to a HEAD is about the stored response (§4.3.5): "if the stored response and HEAD response have
/// matching values for any received validator fields (ETag and Last-Modified) and, if the HEAD response has a
/// Content-Length header field, the value of Content-Length matches that of the stored response".
///
/// Beyond the RFC, at least one validator is required. On a mismatch "the cache SHOULD consider the stored response
/// to be stale", which it already is: a fresh one answers HEAD itself.
pub(crate) fn is_freshened_by_head(
    stored: &StoredHead,
    content_length: u64,
    status: StatusCode,
    update: &HeaderMap,
) -> bool {
    let fields = stored.fields.to_map();
    let length = single_value(update, &CONTENT_LENGTH).map(HeaderValue::as_bytes);
    let same_length = !update.contains_key(CONTENT_LENGTH)
        || length.is_some_and(|length| length == content_length.to_string().as_bytes());
    status == StatusCode::OK
        && stored.status == StatusCode::OK
        && same_length
        && [ETAG, LAST_MODIFIED].iter().any(|name| update.contains_key(name))
        && is_same_or_absent(&fields, update, &LAST_MODIFIED)
        && matches!(match_stored(&fields, update), ValidationResult::Freshened { .. })
}

fn is_same_or_absent(stored: &HeaderMap, update: &HeaderMap, name: &HeaderName) -> bool {
    let ours = single_value(stored, name);
    !update.contains_key(name) || (ours.is_some() && ours == single_value(update, name))
}

fn has_no_new_vary(stored: &HeaderMap, update: &HeaderMap) -> bool {
    match (Vary::parse(stored), Vary::parse(update)) {
        (_, Vary::Nothing) => true,
        (Vary::Fields(ours), Vary::Fields(theirs)) => {
            theirs.names().iter().all(|name| ours.names().contains(name))
        }
        _ => false,
    }
}

/// Applies a 304 that selected `stored` (§4.3.4): updated fields and terms. An error means that the response may no
/// longer be kept.
pub(crate) fn freshen(
    route: &Route,
    caller: Caller,
    request: &RequestHead<'_>,
    stored: &StoredHead,
    update: ReceivedResponse<'_>,
) -> Result<(HeaderMap, Terms), NotStored> {
    let ReceivedResponse { headers: update, exchange, .. } = update;
    let mut headers = merge_headers(&stored.fields.to_map(), update);
    // The age of the 304 counts for the terms; stored fields exclude it.
    for age in update.get_all(AGE) {
        headers.append(AGE, age.clone());
    }
    // A 304 with a cookie is meant for one caller.
    if update.contains_key(SET_COOKIE) && !route.drop_response.drops_cookies() {
        return Err(NotStored::SetCookie);
    }
    let response = ReceivedResponse { status: stored.status, headers: &headers, exchange };
    let terms = may_store(route, caller, request, response)?;
    headers.remove(AGE);
    Ok((headers, merge_terms(&stored.terms(), terms, exchange)))
}

/// The stored fields updated from a 304 or a HEAD, without `Age` (§3.2, §4.3.4).
pub(crate) fn merge_headers(stored: &HeaderMap, update: &HeaderMap) -> HeaderMap {
    let mut headers = stored.clone();
    // §3.2: `Age` is not stored. Without a new `Date`, the update was generated when it was received (RFC 9110
    // §6.6.1).
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

/// §3.2: "MUST add each header field in the provided response to the stored response, replacing field values that
/// are already present", with exceptions.
fn is_updated(name: &HeaderName, update: &HeaderMap) -> bool {
    // "Header fields excepted from storage in §3.1", and fields that larder never stores.
    let is_never_stored =
        is_hop_by_hop(name, update) || [AGE, SET_COOKIE].contains(name) || name == "set-cookie2";
    // "Header fields that the cache's stored response depends upon" and "that are automatically processed and
    // removed by the recipient": they describe the stored content.
    let is_of_content = [ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_TYPE, CONTENT_RANGE, ETAG]
        .contains(name)
        || ["content-digest", "content-md5", "digest", "repr-digest"].contains(&name.as_str());
    // The stored response is filed by its `Vary`; a 304 that changes it would not have selected it.
    !is_never_stored && !is_of_content && *name != VARY
}

/// The terms of a freshened response; `terms` are those of its updated fields.
///
/// A 304 may close a response to requests with credentials, but not open it: it does not tell for whom the content
/// was generated.
fn merge_terms(stored: &Terms, terms: Terms, exchange: ExchangeTimes) -> Terms {
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
