//! Keeps, beside a stored response, a request that asks for it: warming and refreshing send it again.

use std::sync::Arc;

use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, FORWARDED, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::client_request::{ClientHead, forwarded_without_client};
use super::forwarding::FORWARDED_ADDRESS_FIELDS;
use crate::policy::classify::CacheLookup;
use crate::policy::forwarding_fields::{X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::policy::route::Shared;
use crate::policy::vary::Vary;
use crate::policy::{CallerFields, Route, override_fields, selecting_fields};
use crate::stored_response::{SampleRequest, StoredHead};

/// Fields that upstreams select a variant by.
const NEGOTIATION_FIELDS: [HeaderName; 3] = [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE];

/// Counts the use of a stored response, and keeps a sample request where there is none.
pub(super) fn record_use(
    head: &ClientHead,
    lookup: &CacheLookup<'_>,
    stored: &Arc<StoredHead>,
    caller_fields: &CallerFields,
) {
    if head.refresh.is_none() && head.content.is_none() {
        stored.usage.record_use(|| anonymous_sample(head, lookup, stored, caller_fields));
    }
}

/// The request without what identifies its client. `None` if the response belongs to one caller, or a credential stands
/// in the key.
fn anonymous_sample(
    head: &ClientHead,
    lookup: &CacheLookup<'_>,
    stored: &StoredHead,
    caller_fields: &CallerFields,
) -> Option<SampleRequest> {
    if is_personal(lookup.route, &head.parts.headers, caller_fields) {
        return None;
    }
    let mut headers = HeaderMap::new();
    if !head.host.is_empty() {
        headers.insert(HOST, HeaderValue::from_str(&head.host).ok()?);
    }
    if head.scheme == "https" {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    }
    if let Some(host) = head.forwarded_host() {
        headers.insert(X_FORWARDED_HOST, HeaderValue::from_str(host).ok()?);
    }
    for name in fields_in_key(head, lookup.route, stored) {
        if caller_fields.identify(&name) {
            return None;
        }
        if !headers.contains_key(&name) {
            for value in head.parts.headers.get_all(&name) {
                // A copy: the value itself keeps the connection's read buffer.
                headers.append(name.clone(), HeaderValue::from_bytes(value.as_bytes()).ok()?);
            }
        }
    }
    if head.is_trusted {
        copy_forwarded(&head.parts.headers, &mut headers)?;
    }
    let uri = Uri::try_from(head.parts.uri.path_and_query()?.as_str()).ok()?;
    Some(SampleRequest { uri, headers })
}

/// Whether a response of this route belongs to one caller, or a credential stands in its key.
fn is_personal(route: &Route, fields: &HeaderMap, caller_fields: &CallerFields) -> bool {
    route.per.is_some()
        || (route.callers.is_some() && route.shared != Shared::All)
        || !route.cookies.is_empty()
        || route.headers.iter().any(|name| caller_fields.identify(name))
        || (route.shared == Shared::No && caller_fields.find_in(fields).next().is_some())
}

/// The fields that select a variant, here or at the upstream.
fn fields_in_key(head: &ClientHead, route: &Route, stored: &StoredHead) -> impl Iterator<Item = HeaderName> {
    let vary = match stored.vary(&route.ignore_vary) {
        Vary::Fields(fields) => fields.names().to_vec(),
        Vary::Nothing | Vary::Everything => Vec::new(),
    };
    // The override fields that were not removed are in the key.
    let is_of_address =
        |name: &&HeaderName| FORWARDED_ADDRESS_FIELDS.contains(name) || override_fields::is_override(name);
    let address = head.is_trusted.then(|| head.parts.headers.keys().filter(is_of_address).cloned());
    let address = address.into_iter().flatten();
    // One that is absent identifies nobody, although `credentials` may name it.
    let unnamed = selecting_fields::names_in(&head.parts.headers).cloned();
    route.headers.iter().cloned().chain(vary).chain(NEGOTIATION_FIELDS).chain(unnamed).chain(address)
}

/// Copies `Forwarded` without the client. `None` if it may still say who the client is.
fn copy_forwarded(from: &HeaderMap, to: &mut HeaderMap) -> Option<()> {
    for value in from.get_all(FORWARDED) {
        let value = forwarded_without_client(value.as_bytes());
        if value.contains(&b'"') {
            return None;
        }
        if !value.is_empty() {
            to.append(FORWARDED, HeaderValue::from_bytes(&value).ok()?);
        }
    }
    Some(())
}
