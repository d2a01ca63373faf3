//! Request fields that select a response although few APIs name them in `Vary`: an API version, a preference, a part of the
//! content, and what a request without content says of its content, which frameworks read all the same. Where they are
//! present, they are part of the key.

use std::sync::LazyLock;

use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName};

use super::header_name_filter::HeaderNameFilter;
use super::{RequestHead, Route};

/// In the order of the alphabet.
static NAMES: [HeaderName; 63] = [
    HeaderName::from_static("accept-api-version"),
    HeaderName::from_static("accept-crs"),
    HeaderName::from_static("accept-datetime"),
    HeaderName::from_static("accept-profile"),
    HeaderName::from_static("accept-timezone"),
    HeaderName::from_static("accept-version"),
    HeaderName::from_static("adyen-version"),
    HeaderName::from_static("anthropic-beta"),
    HeaderName::from_static("anthropic-version"),
    HeaderName::from_static("api-version"),
    HeaderName::from_static("asana-enable"),
    HeaderName::from_static("consistencylevel"),
    CONTENT_ENCODING,
    HeaderName::from_static("content-profile"),
    CONTENT_TYPE,
    HeaderName::from_static("currency"),
    HeaderName::from_static("dataserviceversion"),
    HeaderName::from_static("duffel-version"),
    HeaderName::from_static("gdata-version"),
    HeaderName::from_static("gocardless-version"),
    HeaderName::from_static("hx-request"),
    HeaderName::from_static("intercom-version"),
    HeaderName::from_static("key-inflection"),
    HeaderName::from_static("linkedin-version"),
    HeaderName::from_static("maxdataserviceversion"),
    HeaderName::from_static("notion-version"),
    HeaderName::from_static("odata-maxversion"),
    HeaderName::from_static("odata-version"),
    HeaderName::from_static("openai-beta"),
    HeaderName::from_static("plaid-version"),
    HeaderName::from_static("prefer"),
    HeaderName::from_static("revision"),
    HeaderName::from_static("soapaction"),
    HeaderName::from_static("square-version"),
    HeaderName::from_static("stripe-version"),
    HeaderName::from_static("time-zone"),
    HeaderName::from_static("timezone"),
    HeaderName::from_static("turbo-frame"),
    HeaderName::from_static("version"),
    HeaderName::from_static("x-amz-target"),
    HeaderName::from_static("x-api-version"),
    HeaderName::from_static("x-country"),
    HeaderName::from_static("x-country-code"),
    HeaderName::from_static("x-currency"),
    HeaderName::from_static("x-expand"),
    HeaderName::from_static("x-fields"),
    HeaderName::from_static("x-github-api-version"),
    HeaderName::from_static("x-goog-fieldmask"),
    HeaderName::from_static("x-inertia"),
    HeaderName::from_static("x-inertia-partial-component"),
    HeaderName::from_static("x-inertia-partial-data"),
    HeaderName::from_static("x-inertia-partial-except"),
    HeaderName::from_static("x-inertia-reset"),
    HeaderName::from_static("x-lang"),
    HeaderName::from_static("x-language"),
    HeaderName::from_static("x-locale"),
    HeaderName::from_static("x-ms-version"),
    HeaderName::from_static("x-pjax"),
    HeaderName::from_static("x-requested-with"),
    HeaderName::from_static("x-restli-protocol-version"),
    HeaderName::from_static("x-shopify-api-version"),
    HeaderName::from_static("x-timezone"),
    HeaderName::from_static("x-version"),
];

static FILTER: LazyLock<HeaderNameFilter> = LazyLock::new(|| HeaderNameFilter::from_names(NAMES.iter()));

/// All selecting fields.
#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = &'static HeaderName> {
    NAMES.iter()
}

/// The selecting fields of a request.
pub(crate) fn names_in(headers: &HeaderMap) -> impl Iterator<Item = &'static HeaderName> + use<> {
    named(find(headers))
}

/// The selecting fields of the request that the route does not list in `headers`.
pub(super) fn present<'a>(
    route: &'a Route,
    request: &'a RequestHead<'_>,
) -> impl Iterator<Item = &'static HeaderName> + use<'a> {
    let filter = request.name_filter;
    let may_be_present = filter.may_hold(&CONTENT_TYPE) || filter.may_hold_any_rare(*FILTER);
    let present = named(if may_be_present { find(request.headers) } else { 0 });
    // The metadata of content that was read is part of the key already.
    let is_in_key = |name: &HeaderName| {
        request.content.is_some() && [CONTENT_TYPE, CONTENT_ENCODING].contains(name)
            || route.headers.contains(name)
    };
    present.filter(move |name| !is_in_key(name))
}

/// The names at these places.
fn named(mut places: u64) -> impl Iterator<Item = &'static HeaderName> {
    std::iter::from_fn(move || {
        let name = NAMES.get(places.trailing_zeros() as usize)?;
        places &= places - 1;
        Some(name)
    })
}

/// The places of a request's fields in [`NAMES`], as bits. A request has fewer names than there are here, and none is hashed.
fn find(headers: &HeaderMap) -> u64 {
    let place = |name: &HeaderName| NAMES.binary_search_by(|it| it.as_str().cmp(name.as_str())).ok();
    let names = headers.keys().filter(|name| FILTER.may_hold(name));
    names.filter_map(place).fold(0, |found, place| found | 1 << place)
}

/// Media ranges that a client of JSON names, beside others or alone: an API with one format answers all of them alike.
const RANGES_OF_JSON: [&[u8]; 9] = [
    b"*/*",
    b"application/*",
    b"application/json",
    b"application/*+json",
    b"application/problem+json",
    b"application/javascript",
    b"text/javascript",
    b"text/json",
    b"text/plain",
];

/// Whether `Accept` is part of the key: it names a format or a version beside what clients of JSON do, and few APIs that
/// answer by it say so in `Vary`.
pub(super) fn has_selecting_accept(route: &Route, request: &RequestHead<'_>) -> bool {
    let headers = request.headers;
    // Each request comes here, and the field is among the first of most: this takes fewer instructions than its hash.
    let first = headers.iter().find(|(name, _)| **name == ACCEPT).map(|(_, line)| line.as_bytes());
    match first {
        None => false,
        Some(b"application/json" | b"*/*") if headers.len() == headers.keys_len() => false,
        Some(_) => {
            let mut lines = headers.get_all(&ACCEPT).iter();
            !route.headers.contains(&ACCEPT) && !lines.all(|line| is_of_json(line.as_bytes()))
        }
    }
}

/// Whether all ranges of a line are among those of JSON, without parameters beside the weight (RFC 9110 §12.5.1).
fn is_of_json(line: &[u8]) -> bool {
    let is_weight = |parameter: &[u8]| {
        let parameter = parameter.trim_ascii();
        parameter.get(..2).is_some_and(|name| name.eq_ignore_ascii_case(b"q=")) && !parameter.contains(&b'"')
    };
    let is_known = |member: &[u8]| {
        let mut parts = member.split(|byte| *byte == b';');
        let range = parts.next().unwrap_or_default().trim_ascii();
        let is_range = range.is_empty() || RANGES_OF_JSON.iter().any(|it| range.eq_ignore_ascii_case(it));
        is_range && parts.all(is_weight)
    };
    line.split(|byte| *byte == b',').all(is_known)
}
