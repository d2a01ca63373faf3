//! `compress` of a route: larder gives a response a content coding that its API did not give it. From then on it is a
//! response with that coding: a variant with validators of its own (RFC 9110 §8.8.3.3).

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    Entry, TRAILER, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Route;
use super::accept_encoding::{Codings, Negotiated};
use super::cache_control::CacheControl;
use super::http_date::single_value;
use super::route::RouteMode;

/// A coding that larder gives to responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseCoding {
    Gzip,
}

/// Ends the tag of a response that larder compressed.
const TAG_END: &[u8] = b"-larder-gzip\"";

/// Says that no ranges are cut from the content.
const NO_RANGES: HeaderValue = HeaderValue::from_static("none");

/// Shorter content gains less than its coding costs.
const MIN_LENGTH: u64 = 512;

/// Fields that hold a hash of the content as it is sent (RFC 9530 and before), or may sign it (RFC 9421).
pub(super) const DIGESTS: [HeaderName; 5] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("signature-input"),
];

/// Whether responses to `request` may be compressed.
pub fn may_compress(route: &Route, request: &HeaderMap) -> bool {
    compresses(route) && Negotiated::expected(request, Codings::GZIP) == Negotiated::Coded(Codings::GZIP)
}

fn compresses(route: &Route) -> bool {
    !route.compress.is_empty() && route.mode == RouteMode::On
}

/// Decides whether the content of a response to `request` is compressed, and changes its fields accordingly.
/// `has_room`: there is memory for it.
pub fn compress_response(
    route: &Route,
    request: &HeaderMap,
    status: StatusCode,
    response: &mut HeaderMap,
    has_room: bool,
) -> Option<ResponseCoding> {
    if !compresses(route) || status != StatusCode::OK || !is_compressible(response) {
        return None;
    }
    response.append(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
    if !has_room || !may_compress(route, request) {
        return None;
    }
    response.remove(CONTENT_LENGTH);
    response.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.insert(ACCEPT_RANGES, NO_RANGES);
    mark_tag(response);
    Some(ResponseCoding::Gzip)
}

/// Whether the bytes of the content may be others in another response with the same validators, so that no ranges are
/// cut from it: coded content whose sender supports none (RFC 9110 §14.3).
pub fn has_varying_bytes(response: &HeaderMap) -> bool {
    response.contains_key(CONTENT_ENCODING) && response.get(ACCEPT_RANGES) == Some(&NO_RANGES)
}

fn is_compressible(response: &HeaderMap) -> bool {
    let has_any = |names: &[HeaderName]| names.iter().any(|name| response.contains_key(name));
    if has_digest_trailer(response) || CacheControl::parse(response).no_transform {
        return false;
    }
    let length =
        single_value(response, &CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let is_long = length.is_none_or(|length: u64| length >= MIN_LENGTH);
    is_long && !has_any(&[CONTENT_ENCODING, CONTENT_RANGE]) && !has_any(&DIGESTS) && has_text(response)
}

fn has_digest_trailer(response: &HeaderMap) -> bool {
    let lines = response.get_all(TRAILER).iter();
    let mut names = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    names.any(|name| HeaderName::from_bytes(name.trim_ascii()).is_ok_and(|name| DIGESTS.contains(&name)))
}

/// Whether the media type is one of text, which compresses well. Events are left alone: each must arrive at once.
fn has_text(response: &HeaderMap) -> bool {
    let value =
        single_value(response, &CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media_type.split_once('/') {
        Some(("text", subtype)) => subtype != "event-stream",
        Some(("application", "json" | "javascript" | "xml" | "wasm" | "x-ndjson")) => true,
        Some((_, subtype)) => subtype.ends_with("+json") || subtype.ends_with("+xml"),
        None => false,
    }
}

/// Marks the entity-tag as that of the compressed content.
pub fn mark_tag(headers: &mut HeaderMap) {
    let Some(tag) = single_value(headers, &ETAG).and_then(|tag| tag.as_bytes().strip_suffix(b"\"")) else {
        return;
    };
    if let Ok(marked) = HeaderValue::from_bytes(&[tag, TAG_END].concat()) {
        headers.insert(ETAG, marked);
    }
}

/// Gives the API its own entity-tags back in `name`, a condition. Whether one of them was marked.
pub fn restore_tags(request: &mut HeaderMap, name: HeaderName) -> bool {
    let Entry::Occupied(mut lines) = request.entry(name) else { return false };
    let mut has_marks = false;
    for line in lines.iter_mut() {
        let parts: Vec<&[u8]> = split_at_marks(line.as_bytes()).collect();
        if let (2.., Ok(restored)) = (parts.len(), HeaderValue::from_bytes(&parts.join(&b"\""[..]))) {
            *line = restored;
            has_marks = true;
        }
    }
    has_marks
}

fn split_at_marks(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let text = rest?;
        let mark = text.windows(TAG_END.len()).position(|window| window == TAG_END);
        rest = mark.map(|mark| &text[mark + TAG_END.len()..]);
        Some(&text[..mark.unwrap_or(text.len())])
    })
}

#[cfg(test)]
mod tests {
    use http::header::IF_MATCH;

    use super::*;
    use crate::policy::fixtures::{fields, route};

    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

    fn compressed(request: &[(&'static str, &str)], response: &[(&'static str, &str)]) -> (bool, HeaderMap) {
        let route = Route { compress: vec![ResponseCoding::Gzip], ..route("/a") };
        let mut headers = fields(response);
        let coding = compress_response(&route, &fields(request), StatusCode::OK, &mut headers, true);
        (coding.is_some(), headers)
    }

    #[test]
    fn text_is_compressed_for_clients_that_accept_it() {
        let gzip = ("accept-encoding", "gzip, br");
        let response = [JSON, ("content-length", "2000"), ("etag", "\"v1\""), ("vary", "Origin")];
        let (is_compressed, headers) = compressed(&[gzip], &response);
        assert!(is_compressed);
        assert_eq!(
            (headers.get(CONTENT_LENGTH), &headers[CONTENT_ENCODING]),
            (None, &"gzip".parse().unwrap())
        );
        assert_eq!(headers[ETAG], "\"v1-larder-gzip\"");
        let vary: Vec<_> = headers.get_all(VARY).iter().collect();
        assert_eq!(vary, ["Origin", "accept-encoding"]);
        for request in [&[][..], &[("accept-encoding", "br")], &[("accept-encoding", "gzip;q=0")]] {
            let (is_compressed, headers) = compressed(request, &response);
            assert!(!is_compressed && headers.get_all(VARY).iter().count() == 2, "{request:?}");
            assert_eq!(
                (&headers[ETAG], headers.contains_key(CONTENT_ENCODING)),
                (&"\"v1\"".parse().unwrap(), false)
            );
        }
    }

    #[test]
    fn what_gains_nothing_or_must_not_change_stays() {
        let gzip = ("accept-encoding", "gzip");
        let no_transform = ("cache-control", "max-age=1, no-transform");
        for (request, response) in [
            (&[gzip][..], &[("content-type", "image/png")][..]),
            (&[gzip], &[("content-type", "text/event-stream")]),
            (&[gzip], &[]),
            (&[gzip], &[JSON, ("content-length", "511")]),
            (&[gzip], &[JSON, ("content-encoding", "br")]),
            (&[gzip], &[JSON, ("content-range", "bytes 0-1/2")]),
            (&[gzip], &[JSON, ("repr-digest", "sha-256=:x:")]),
            (&[gzip], &[JSON, no_transform]),
            (&[gzip], &[JSON, ("signature-input", "sig=()")]),
            (&[gzip], &[JSON, ("trailer", "x-time, Content-Digest")]),
        ] {
            let (is_compressed, headers) = compressed(request, response);
            assert!(!is_compressed && headers == fields(response), "{request:?} {response:?}");
        }
        for content_type in ["text/html", "application/problem+json", "image/svg+xml", "Application/JSON"] {
            assert!(compressed(&[gzip], &[("content-type", content_type)]).0, "{content_type}");
        }
    }

    /// All clients of the stored response would get what one client asked for.
    #[test]
    fn a_request_does_not_forbid_it() {
        let request = [("accept-encoding", "gzip"), ("cache-control", "no-transform")];
        assert!(compressed(&request, &[JSON]).0);
    }

    #[test]
    fn without_room_the_content_stays_and_varies() {
        let route = Route { compress: vec![ResponseCoding::Gzip], ..route("/a") };
        let (request, mut headers) = (fields(&[("accept-encoding", "gzip")]), fields(&[JSON]));
        assert_eq!(compress_response(&route, &request, StatusCode::OK, &mut headers, false), None);
        assert_eq!(headers, fields(&[JSON, ("vary", "accept-encoding")]));
    }

    #[test]
    fn the_api_gets_its_own_tags_back() {
        for (sent, restored) in [
            ("\"v1-larder-gzip\"", Some("\"v1\"")),
            ("W/\"v1-larder-gzip\", \"v2\" ,\"v3-larder-gzip\"", Some("W/\"v1\", \"v2\" ,\"v3\"")),
            ("\"v1-gzip\"", None),
            ("*", None),
        ] {
            let mut request = fields(&[("if-match", sent)]);
            assert_eq!(restore_tags(&mut request, IF_MATCH), restored.is_some(), "{sent}");
            assert_eq!(request[IF_MATCH], restored.unwrap_or(sent));
        }
        assert!(!restore_tags(&mut HeaderMap::new(), IF_MATCH));
    }
}
