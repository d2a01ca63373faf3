//! Brings the header section of a request into the one form that everything else reads, or refuses it.

use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::error::ProxyError;
use super::forwarding::{is_set_by_proxies, may_be_trailer};
use crate::config::Underscores;
use crate::policy::{HeaderNameFilter, is_ambiguous_name, with_dashes};
use crate::upstream::TrailerVerdict;

const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// The names of the fields, once `underscores` was applied to those that can be read as another.
pub(super) fn unambiguous_names(
    parts: &mut Parts,
    underscores: Underscores,
) -> Result<HeaderNameFilter, ProxyError> {
    let names = HeaderNameFilter::from_headers(&parts.headers);
    if !names.has_ambiguous() {
        return Ok(names);
    }
    let removed = apply_underscores(&mut parts.headers, underscores)?;
    if !removed.is_empty() {
        parts.extensions.insert(DroppedUnderscores(removed));
    }
    Ok(HeaderNameFilter::from_headers(&parts.headers))
}

/// The names of the fields that `underscores` dropped from a request; one of its extensions.
#[derive(Clone)]
pub(super) struct DroppedUnderscores(pub Arc<[HeaderName]>);

/// Joins fields that count as one, drops an `Upgrade` without effect, and refuses what can't be framed.
pub(super) fn normalize_fields(
    parts: &mut Parts,
    names: HeaderNameFilter,
    header_count: usize,
    underscores: Underscores,
) -> Result<(), ProxyError> {
    // RFC 9113 §8.2.3: HTTP/2 clients send one field for each cookie. They count as one.
    if names.may_hold(&COOKIE) {
        join_cookies(&mut parts.headers);
    }
    if parts.headers.len() > header_count {
        return Err(ProxyError::TooManyFields);
    }
    if names.may_hold(&UPGRADE) && !asks_for_upgrade(parts) {
        // RFC 9110 §7.8: a recipient may ignore it, and it means nothing without `Connection`.
        parts.headers.remove(UPGRADE);
        parts.headers.remove(HTTP2_SETTINGS);
    }
    if names.may_hold(&CONTENT_LENGTH) {
        join_lengths(&mut parts.headers)?;
    }
    if names.may_hold(&TRAILER) {
        keep_forwarded_trailers(&mut parts.headers, judge_trailers(underscores));
    }
    // hyper lets `Transfer-Encoding` win over `Content-Length`, and closes the connection then (RFC 9112 §6.3). It does
    // not decode any coding but chunked.
    if names.may_hold(&TRANSFER_ENCODING)
        && parts.headers.contains_key(TRANSFER_ENCODING)
        && !is_only(&parts.headers, TRANSFER_ENCODING, "chunked")
    {
        return Err(ProxyError::BadRequest("a transfer coding other than chunked"));
    }
    Ok(())
}

pub(super) fn asks_for_upgrade(parts: &Parts) -> bool {
    let mut protocols = parts.headers.get_all(UPGRADE).iter().map(HeaderValue::as_bytes);
    let (Some(protocol), None) = (protocols.next(), protocols.next()) else { return false };
    let protocol = protocol.trim_ascii().to_ascii_lowercase();
    let is_http = [&b"h2"[..], b"h3", b"http", b"tls"].iter().any(|http| protocol.starts_with(http));
    let mut options =
        parts.headers.get_all(CONNECTION).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let is_named = options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    parts.version == Version::HTTP_11 && !is_http && !protocol.contains(&b',') && is_named
}

/// Leaves one of several equal lengths (RFC 9110 §8.6). Over HTTP/1.1 they are refused before.
fn join_lengths(headers: &mut HeaderMap) -> Result<(), ProxyError> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next().cloned() else { return Ok(()) };
    match (lengths.next(), headers.get_all(CONTENT_LENGTH).iter().all(|length| *length == first)) {
        (None, _) => {}
        (Some(_), true) => drop(headers.insert(CONTENT_LENGTH, first)),
        (Some(_), false) => return Err(ProxyError::BadRequest("several lengths of one content")),
    }
    Ok(())
}

/// Leaves in `Trailer` the names that are forwarded if they come: the upstream may refuse or await the others.
fn keep_forwarded_trailers(headers: &mut HeaderMap, judge: fn(&HeaderName) -> TrailerVerdict) {
    let is_forwarded = |name: &&[u8]| {
        HeaderName::from_bytes(name).is_ok_and(|name| matches!(judge(&name), TrailerVerdict::Forward))
    };
    let lines = headers.get_all(TRAILER).iter();
    let declared = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let kept = declared.filter(is_forwarded).collect::<Vec<_>>().join(&b", "[..]);
    match HeaderValue::from_bytes(&kept) {
        Ok(kept) if !kept.is_empty() => drop(headers.insert(TRAILER, kept)),
        _ => drop(headers.remove(TRAILER)),
    }
}

/// Judges a client's trailers: `underscores` holds for them as for the header section. The upstream may read one as a
/// field of the header section, under the name that it reads in it.
pub(super) fn judge_trailers(underscores: Underscores) -> fn(&HeaderName) -> TrailerVerdict {
    fn judge(name: &HeaderName) -> TrailerVerdict {
        match may_be_trailer(name) {
            true => TrailerVerdict::Forward,
            false => TrailerVerdict::Drop,
        }
    }
    match underscores {
        Underscores::Drop => |name| match is_ambiguous_name(name) {
            true => TrailerVerdict::Drop,
            false => judge(name),
        },
        Underscores::Refuse => |name| match is_ambiguous_name(name) {
            true => TrailerVerdict::Refuse(
                "a trailer whose name has more than letters, digits and `-` (`underscores` in proxy.yaml)",
            ),
            false => judge(name),
        },
        Underscores::Pass => |name| judge(&with_dashes(name)),
    }
}

/// Settles fields with ambiguous names before anything else reads the header section.
fn apply_underscores(
    headers: &mut HeaderMap,
    underscores: Underscores,
) -> Result<Arc<[HeaderName]>, ProxyError> {
    let is_removed: fn(&HeaderName) -> bool = match underscores {
        Underscores::Refuse => {
            return Err(ProxyError::BadRequest(
                "a field whose name has more than letters, digits and `-` (`underscores` in proxy.yaml)",
            ));
        }
        Underscores::Drop => is_ambiguous_name,
        Underscores::Pass => |name| is_ambiguous_name(name) && is_set_by_proxies(&with_dashes(name)),
    };
    let removed: Arc<[HeaderName]> = headers.keys().filter(|name| is_removed(name)).cloned().collect();
    removed.iter().for_each(|name| drop(headers.remove(name)));
    Ok(removed)
}

fn is_only(headers: &HeaderMap, name: HeaderName, value: &str) -> bool {
    let mut values = headers.get_all(name).iter();
    values.next().is_some_and(|first| first.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
        && values.next().is_none()
}

/// RFC 9113 §8.2.3: HTTP/2 may send it in pieces, which are one field to everybody else.
fn join_cookies(headers: &mut HeaderMap) {
    let pieces: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if pieces.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&pieces.join(&b"; "[..]))
    {
        headers.insert(COOKIE, cookie);
    }
}
