//! `compress` of a route: larder gives a response a content coding that its API did not give it. From then on it is a
//! response with that coding: a variant with validators of its own (RFC 9110 §8.8.3.3).

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, TRAILER, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Route;
use super::accept_encoding::{Codings, Negotiated, select_preferred};
use super::cache_control::CacheControl;
use super::entity_tag::{EntityTag, EntityTagList, restore_lines};
use super::http_date::single_value;
use super::response_coding::ResponseCoding;
use super::route::RouteMode;

/// Says that no ranges are cut from the content.
const NO_RANGES: HeaderValue = HeaderValue::from_static("none");

/// Shorter content gains less than its coding costs.
const MIN_LENGTH: u64 = 512;

/// Fields that hold a hash of the content as it is sent (RFC 9530 and before), or may sign it (RFC 9421).
pub(super) const DIGESTS: [HeaderName; 6] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("signature-input"),
    HeaderName::from_static("signature"),
];

/// The coding that responses to `request` get: of those that it likes best, the route's first.
pub(crate) fn select_coding(route: &Route, request: &HeaderMap) -> Option<ResponseCoding> {
    // The content is read of what is stored, and of codings gzip alone is read.
    let is_usable = |coding: &ResponseCoding| *coding == ResponseCoding::Gzip || !route.reads_content();
    let usable = || route.compress.iter().copied().filter(is_usable).filter(|_| compresses(route));
    let selected = select_preferred(request, usable().map(ResponseCoding::to_codings))?;
    usable().find(|coding| coding.to_codings() == selected)
}

/// The variant that a request selects, where the upstream is known to give `codings`. Content that it would send without
/// one exists in each coding of the route.
pub(crate) fn expected_variant(route: &Route, request: &HeaderMap, codings: Codings) -> Negotiated {
    let of_upstream = Negotiated::expected(request, codings);
    if matches!(of_upstream, Negotiated::Coded(_)) || !codings.are_given_by_larder() {
        return of_upstream;
    }
    select_coding(route, request).map_or(of_upstream, |coding| Negotiated::Coded(coding.to_codings()))
}

/// The codings in use for a resource after a response to `request` was received.
pub(crate) fn learn_codings(
    route: &Route,
    request: &HeaderMap,
    codings: Codings,
    (received, response): (Negotiated, &HeaderMap),
) -> Codings {
    let expected = expected_variant(route, request, codings);
    let of_larder = select_coding(route, request).map(|coding| Negotiated::Coded(coding.to_codings()));
    match of_larder {
        Some(coding) if coding == received && has_varying_bytes(response) => {
            codings.learn_from_larder(expected)
        }
        _ => codings.learn(expected, received, response),
    }
}

fn compresses(route: &Route) -> bool {
    !route.compress.is_empty() && route.mode == RouteMode::On
}

/// Decides whether the content of a response to `request` is compressed, and changes its fields accordingly.
/// `has_room`: there is memory for it.
pub(crate) fn compress_response(
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
    let coding = select_coding(route, request).filter(|_| has_room)?;
    response.remove(CONTENT_LENGTH);
    response.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    response.insert(ACCEPT_RANGES, NO_RANGES);
    mark_tag(response, coding);
    Some(coding)
}

/// Whether the bytes of the content may be others in another response with the same validators, so that no ranges are
/// cut from it: coded content whose sender supports none (RFC 9110 §14.3).
pub(crate) fn has_varying_bytes(response: &HeaderMap) -> bool {
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
pub(crate) fn mark_tag(headers: &mut HeaderMap, coding: ResponseCoding) {
    let Some(tag) = single_value(headers, &ETAG).and_then(|tag| tag.as_bytes().strip_suffix(b"\"")) else {
        return;
    };
    if let Ok(marked) = HeaderValue::from_bytes(&[tag, coding.tag_end()].concat()) {
        headers.insert(ETAG, marked);
    }
}

/// Gives the API its own entity-tags back in `name`, a condition. The coding of the first that was marked.
pub(crate) fn restore_tags(request: &mut HeaderMap, name: HeaderName) -> Option<ResponseCoding> {
    restore_lines(request, name, restore_line)
}

/// `None`: no tag of the line is marked.
fn restore_line(line: &[u8]) -> Option<(Vec<u8>, ResponseCoding)> {
    /// Every `tag_end` begins so.
    const MARK: &[u8] = b"-larder-";
    let (mut restored, mut rest, mut first) = (Vec::with_capacity(line.len()), line, None);
    // Each byte is looked at once: a client chooses how many marks there are.
    while let Some(at) = memchr::memmem::find(rest, MARK) {
        let (before, marked) = rest.split_at(at);
        restored.extend_from_slice(before);
        let coding = ResponseCoding::ALL.into_iter().find(|coding| marked.starts_with(coding.tag_end()));
        let length = match coding {
            Some(coding) => {
                restored.push(b'"');
                first.get_or_insert(coding);
                coding.tag_end().len()
            }
            None => {
                restored.extend_from_slice(MARK);
                MARK.len()
            }
        };
        rest = &marked[length..];
    }
    restored.extend_from_slice(rest);
    Some((restored, first?))
}

/// Marks the tag of a 304 as the client knows it. `sent`: the client's `If-None-Match`. It stays if the client sent it as
/// it is.
pub(crate) fn mark_as_sent(response: &mut HeaderMap, sent: &HeaderMap) {
    let Some(own) = EntityTag::from_field(response, &ETAG) else { return };
    let Some(EntityTagList::Tags(tags)) = EntityTagList::from_field(sent, &IF_NONE_MATCH) else { return };
    if tags.iter().any(|tag| tag.matches_weakly(&own)) {
        return;
    }
    let coding = ResponseCoding::ALL.into_iter().find(|coding| {
        let marked = [own.text().strip_suffix(b"\"").unwrap_or_default(), coding.tag_end()].concat();
        tags.iter().any(|tag| tag.text() == marked)
    });
    if let Some(coding) = coding {
        mark_tag(response, coding);
    }
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
            (&[gzip], &[JSON, ("trailer", "Signature")]),
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
            ("\"v1-larder-br\", W/\"v2-larder-zstd\"", Some("\"v1\", W/\"v2\"")),
            ("\"v1-gzip\"", None),
            ("*", None),
        ] {
            let mut request = fields(&[("if-match", sent)]);
            assert_eq!(restore_tags(&mut request, IF_MATCH).is_some(), restored.is_some(), "{sent}");
            assert_eq!(request[IF_MATCH], restored.unwrap_or(sent));
        }
        assert_eq!(restore_tags(&mut HeaderMap::new(), IF_MATCH), None);
    }

    #[test]
    fn the_clients_weights_come_first_and_then_the_routes_order() {
        use ResponseCoding::{Brotli, Gzip, Zstd};
        let select = |compress: &[ResponseCoding], accepted: &str| {
            let route = Route { compress: compress.to_vec(), ..route("/a") };
            select_coding(&route, &fields(&[("accept-encoding", accepted)]))
        };
        let all = &[Zstd, Brotli, Gzip];
        for (compress, accepted, selected) in [
            (&all[..], "gzip, deflate, br, zstd", Some(Zstd)),
            (&all[..], "gzip, deflate, br", Some(Brotli)),
            (&all[..], "gzip", Some(Gzip)),
            (&all[..], "x-gzip", Some(Gzip)),
            (&[Gzip, Zstd], "gzip, br, zstd", Some(Gzip)),
            (&[Gzip, Zstd], "gzip;q=0.5, zstd", Some(Zstd)),
            (&all[..], "zstd;q=0.1, gzip;q=0.2, br;q=0.3", Some(Brotli)),
            (&all[..], "zstd;q=0, *", Some(Brotli)),
            (&all[..], "*;q=0.5", Some(Zstd)),
            (&all[..], "gzip;q=0.5, identity", None),
            (&all[..], "gzip;q=0.5, identity;q=0.5", Some(Gzip)),
            (&all[..], "deflate", None),
            (&all[..], "", None),
            (&all[..], "gzip;q=2", None),
            (&[Zstd], "gzip, br", None),
            (&[], "gzip", None),
        ] {
            assert_eq!(select(compress, accepted), selected, "{compress:?} {accepted}");
        }
        // Content is read through gzip alone.
        let tags = crate::policy::fixtures::templates(&["item:{response.json:$.id}"]);
        let reading = Route { compress: all.to_vec(), tags, ..route("/a") };
        assert_eq!(select_coding(&reading, &fields(&[("accept-encoding", "zstd, gzip")])), Some(Gzip));
    }

    #[test]
    fn what_larder_compresses_exists_in_each_coding_of_the_route() {
        let route = Route { compress: vec![ResponseCoding::Zstd, ResponseCoding::Gzip], ..route("/a") };
        let request = fields(&[("accept-encoding", "gzip, br, zstd")]);
        let expected = |codings| expected_variant(&route, &request, codings);
        assert_eq!(expected(Codings::default()), Negotiated::Offered);
        // Another client has brought gzip; this one gets what it would get of a fetch.
        let of_larder = Codings::default().learn_from_larder(Negotiated::Offered);
        assert_eq!(expected(of_larder), Negotiated::Coded(Codings::ZSTD));
        assert_eq!(expected_variant(&route, &HeaderMap::new(), of_larder), Negotiated::Plain);
        // The API compresses itself, and what it does not larder does.
        let mixed = Codings::GZIP.learn_from_larder(Negotiated::Offered);
        for codings in [Codings::GZIP, mixed] {
            assert_eq!(expected(codings), Negotiated::Coded(Codings::GZIP));
        }
        let zstd = fields(&[("accept-encoding", "zstd")]);
        assert_eq!(expected_variant(&route, &zstd, mixed), Negotiated::Coded(Codings::ZSTD));
    }

    #[test]
    fn a_304_has_the_tag_that_the_client_knows() {
        for (sent, tag, marked) in [
            ("\"v1-larder-br\"", "\"v1\"", "\"v1-larder-br\""),
            ("\"v0\", \"v1-larder-zstd\"", "\"v1\"", "\"v1-larder-zstd\""),
            ("W/\"v1-larder-gzip\"", "W/\"v1\"", "W/\"v1-larder-gzip\""),
            ("\"v1\", \"v1-larder-gzip\"", "\"v1\"", "\"v1\""),
            ("\"v2-larder-gzip\"", "\"v1\"", "\"v1\""),
            ("*", "\"v1\"", "\"v1\""),
        ] {
            let mut response = fields(&[("etag", tag)]);
            mark_as_sent(&mut response, &fields(&[("if-none-match", sent)]));
            assert_eq!(response[ETAG], marked, "{sent}");
        }
    }

    #[test]
    fn a_line_full_of_marks_is_restored_in_one_pass() {
        let line = b"\"a-larder-br\", -larder-overlay-\", \"-larder-gzip ".repeat(1000);
        let (restored, coding) = restore_line(&line).expect("marked");
        assert!(restored == b"\"a\", -larder-overlay-\", \"-larder-gzip ".repeat(1000));
        assert_eq!(coding, ResponseCoding::Brotli);
        assert!(restore_line(b"\"-larder-overlay-1\"").is_none());
    }
}
