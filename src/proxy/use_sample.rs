//! Keeps, beside a stored response, a request that asks for it: warming and refreshing send it again.

use std::sync::Arc;

use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::client_request::{ClientHead, forwarded_without_client};
use super::forwarding::FORWARDED;
use super::forwarding::FORWARDED_ADDRESS_FIELDS;
use crate::policy::CallerFields;
use crate::policy::classify::CacheLookup;
use crate::policy::route::Shared;
use crate::policy::vary::Vary;
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
    let route = lookup.route;
    let is_credential = |name: &HeaderName| caller_fields.identify(name);
    let is_personal = route.per.is_some()
        || (route.callers.is_some() && route.shared != Shared::All)
        || !route.cookies.is_empty()
        || route.headers.iter().any(is_credential)
        || (route.shared == Shared::No && caller_fields.find_in(&head.parts.headers).next().is_some());
    if is_personal {
        return None;
    }
    let mut headers = HeaderMap::new();
    if !head.host.is_empty() {
        headers.insert(HOST, HeaderValue::from_str(&head.host).ok()?);
    }
    if head.scheme == "https" {
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    }
    let vary = match stored.vary() {
        Vary::Fields(fields) => fields.names().to_vec(),
        Vary::Nothing | Vary::Everything => Vec::new(),
    };
    let address = head.is_trusted.then_some(FORWARDED_ADDRESS_FIELDS.iter().cloned()).into_iter().flatten();
    for name in route.headers.iter().cloned().chain(vary).chain(NEGOTIATION_FIELDS).chain(address) {
        if is_credential(&name) {
            return None;
        }
        if !headers.contains_key(&name) {
            for value in head.parts.headers.get_all(&name) {
                // A copy: the value itself keeps the connection's read buffer.
                headers.append(name.clone(), HeaderValue::from_bytes(value.as_bytes()).ok()?);
            }
        }
    }
    for value in head.parts.headers.get_all(FORWARDED).iter().filter(|_| head.is_trusted) {
        let value = forwarded_without_client(value.as_bytes());
        // It may still say who the client is.
        if value.contains(&b'"') {
            return None;
        }
        if !value.is_empty() {
            headers.append(FORWARDED, HeaderValue::from_bytes(&value).ok()?);
        }
    }
    let uri = Uri::try_from(head.parts.uri.path_and_query()?.as_str()).ok()?;
    Some(SampleRequest { uri, headers })
}
