//! The fields of an `overlay`: those of the requests for its parts, and those of the merged response.

use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_RANGES, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH,
    COOKIE, ETAG, EXPIRES, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    LAST_MODIFIED, PRAGMA, PROXY_AUTHORIZATION, RANGE, SET_COOKIE, TRAILER,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use super::cache_control::CacheControl;
use super::caller_fields::is_selector;
use super::compression::DIGESTS;
use super::cookies::cookie_pairs;
use super::entity_tag::{restore_lines, strong_tag};
use super::route::SharedPart;
use super::targeted::is_for_caches;
use super::{CallerFields, Route};
use crate::hex;

/// Stands in the tag of a merged response, between the API's own and a hash.
const TAG_MARK: &[u8] = b"-larder-overlay-";

/// The hexadecimal digits of the hash in a tag.
const TAG_DIGITS: usize = 32;

/// Conditions and ranges are about the whole response.
const OF_THE_WHOLE: [HeaderName; 6] =
    [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE];

/// The fields of the request for a part of the caller.
pub(crate) fn part_fields(request: &HeaderMap) -> HeaderMap {
    let mut fields = request.clone();
    OF_THE_WHOLE.iter().for_each(|name| drop(fields.remove(name)));
    fields.insert(ACCEPT, HeaderValue::from_static("application/json"));
    fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    fields
}

impl SharedPart {
    /// The fields that say more than who the caller is (a tenant, a role, somebody to act for), and may select another
    /// response for all of those: they are sent on, and are in the key.
    pub(crate) fn find_selecting_fields<'h>(
        &self,
        request: &'h HeaderMap,
        caller_fields: &CallerFields,
    ) -> Vec<&'h HeaderName> {
        let is_selecting = |name: &&HeaderName| {
            is_selector(name) && !self.is_credential(name) && !self.route.exempt.contains(name)
        };
        caller_fields.find_in(request).filter(is_selecting).collect()
    }

    fn is_credential(&self, name: &HeaderName) -> bool {
        const CREDENTIALS: [HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];
        CREDENTIALS.contains(name) || self.credentials.contains(name)
    }

    /// The fields of the request for the shared part: without those that identify the caller, and of the cookies only those
    /// in the key.
    pub(crate) fn request_fields(&self, request: &HeaderMap, caller_fields: &CallerFields) -> HeaderMap {
        let selecting = self.find_selecting_fields(request, caller_fields);
        let is_removed = |name: &&HeaderName| {
            let is_credential = caller_fields.identify(name) || self.is_credential(name);
            let is_in_key = self.route.headers.contains(name) || selecting.contains(name);
            OF_THE_WHOLE.contains(name) || is_credential && !is_in_key
        };
        let mut fields = request.clone();
        request.keys().filter(is_removed).for_each(|name| drop(fields.remove(name)));
        let pairs = self.route.cookies.iter().flat_map(|name| cookie_pairs(request, name));
        let cookies = pairs.collect::<Vec<_>>().join(&b"; "[..]);
        if !cookies.is_empty()
            && let Ok(cookies) = HeaderValue::from_bytes(&cookies)
        {
            fields.insert(COOKIE, cookies);
        }
        fields.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, value) in &self.headers {
            fields.insert(name, value.clone());
        }
        fields
    }
}

/// The tag of the merged content, and the fields of the parts it was made of.
#[derive(Clone, Copy, Debug)]
pub struct MergedContent<'a> {
    /// The entity tag of the merged content.
    pub tag: Option<&'a HeaderValue>,
    /// The fields of the shared part.
    pub shared: &'a HeaderMap,
    /// The fields of each part of the caller.
    pub of_caller: &'a [&'a HeaderMap],
}

/// The fields of the merged response: those of the shared part, but for what is about its bytes, its lifetime and its
/// client. No cache but the caller's own may store it, and that one asks each time.
pub fn merged_fields(route: &Route, merged: MergedContent<'_>) -> HeaderMap {
    const REPLACED: [HeaderName; 8] = [
        CACHE_CONTROL,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        EXPIRES,
        LAST_MODIFIED,
        PRAGMA,
        SET_COOKIE,
        TRAILER,
    ];
    let MergedContent { tag, shared, of_caller } = merged;
    let mut fields = shared.clone();
    const OTHERS: [&str; 2] = ["no-vary-search", "signature"];
    let is_replaced = |name: &&HeaderName| {
        REPLACED.contains(name)
            || DIGESTS.contains(name)
            || is_for_caches(name)
            || OTHERS.contains(&name.as_str())
    };
    shared.keys().filter(is_replaced).for_each(|name| drop(fields.remove(name)));
    route.drop_response.select_from(shared).keys().for_each(|name| drop(fields.remove(name)));
    let parts = || std::iter::once(shared).chain(of_caller.iter().copied());
    let is_unstorable = parts().any(|part| CacheControl::parse(part).no_store);
    let control = if is_unstorable { "private, no-store" } else { "private, no-cache" };
    fields.insert(CACHE_CONTROL, HeaderValue::from_static(control));
    fields.insert(ACCEPT_RANGES, HeaderValue::from_static("none"));
    // They are answers to this very caller.
    for cookie in of_caller.iter().flat_map(|part| part.get_all(SET_COOKIE)) {
        fields.append(SET_COOKIE, cookie.clone());
    }
    match tag {
        Some(tag) => fields.insert(ETAG, tag.clone()),
        None => fields.remove(ETAG),
    };
    fields
}

/// The tag of the merged content. It names that of the shared part, so that a write can be conditional on it.
pub fn merged_tag(shared: &HeaderMap, content: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_bytes(&tag(strong_tag(shared), content)).ok()
}

fn tag(shared: Option<&[u8]>, content: &[u8]) -> Vec<u8> {
    let hash = hex::encode(&Sha256::digest(content)[..TAG_DIGITS / 2]);
    let own = shared.and_then(|tag| tag.strip_suffix(b"\"")).unwrap_or(b"\"");
    [own, TAG_MARK, hash.as_bytes(), b"\""].concat()
}

/// Gives the API its own tags back in `name`, a condition of a write.
pub(crate) fn restore_tags(request: &mut HeaderMap, name: HeaderName) {
    restore_lines(request, name, |line| Some((restore_line(line)?, ())));
}

/// `None`: no tag of the line is marked. A tag of larder alone stays: the API has none like it.
fn restore_line(line: &[u8]) -> Option<Vec<u8>> {
    let (mut restored, mut rest, mut has_marks) = (Vec::with_capacity(line.len()), line, false);
    while let Some(at) = memchr::memmem::find(rest, TAG_MARK) {
        let end = at + TAG_MARK.len() + TAG_DIGITS;
        let is_hash =
            rest.get(at + TAG_MARK.len()..end).is_some_and(|hash| hash.iter().all(u8::is_ascii_hexdigit));
        let is_restored = is_hash && rest.get(end) == Some(&b'"') && !rest[..at].ends_with(b"\"");
        let kept = if is_restored { at } else { at + TAG_MARK.len() };
        restored.extend_from_slice(&rest[..kept]);
        rest = if is_restored { &rest[end..] } else { &rest[kept..] };
        has_marks |= is_restored;
    }
    restored.extend_from_slice(rest);
    has_marks.then_some(restored)
}
