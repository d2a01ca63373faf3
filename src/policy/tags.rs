//! The tags of a response: those of its route, those its own fields name, and those that stand in its content.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use http::{HeaderMap, HeaderName};

use super::content::Content;
use super::storing::NotStored;
use super::template::Sources;
use super::{Names, RequestHead, Route, groups};
use crate::purge::{MAX_TAG_DEPTH, tag_depth};

/// A response with more tags, or a longer or deeper one, is not stored: silently fewer would be stale answers later.
pub const MAX_TAGS: usize = 512;
pub const MAX_TAG_BYTES: usize = 1024;
/// Of all its tags together: each is a target.
const MAX_SEGMENTS: usize = 4 * MAX_TAGS;

/// Every response carries it that names tags by its own fields: those could be any, and stand on any route, so what may
/// mean a tag and does not say which reaches them all by this one.
pub const LISTED: &str = "(listed)";

/// Fields of a response that list its tags.
static LISTS: [HeaderName; 4] = [
    HeaderName::from_static("surrogate-key"),
    HeaderName::from_static("cache-tag"),
    HeaderName::from_static("xkey"),
    HeaderName::from_static("edge-cache-tag"),
];

/// Tags of the route's templates that resolve, then of `Surrogate-Key`, `Cache-Tag`, `xkey` and `Edge-Cache-Tag`, then its
/// groups (RFC 9875), and then [`LISTED`]. `content`: where it is known already, and the route's tags need it.
///
/// # Errors
/// If there are too many, or one can't be made.
pub fn of_response(
    route: &Route,
    request: &RequestHead<'_>,
    response_headers: &HeaderMap,
    content: Option<&Content>,
) -> Result<Vec<String>, NotStored> {
    // What the upstream was asked for, with the defaults: a page named by no one has its tag too.
    let query = route.query.select(request.query);
    let captures = route.path.captures(request.path);
    let sources = Sources {
        request: RequestHead { query: query.as_deref(), ..*request },
        captures: &captures,
        request_content: None,
        response_headers: Some(response_headers),
        response_content: content,
    };
    let rendered: Result<Vec<_>, _> = route.tags.iter().map(|template| template.render(&sources)).collect();
    let rendered = rendered.map_err(|_| NotStored::UnusableJson)?.into_iter().flatten();
    let listed = LISTS.iter().flat_map(|name| listed_in(response_headers, name));
    let groups = groups::tags_of(request, response_headers);

    let mut its_own = listed.chain(groups).peekable();
    let lists_some = its_own.peek().is_some();

    let mut seen = HashSet::new();
    let (mut tags, mut segments) = (Vec::new(), 0);
    for tag in rendered.chain(its_own) {
        if tag.len() > MAX_TAG_BYTES || tag_depth(&tag) > MAX_TAG_DEPTH {
            return Err(NotStored::TooManyTags);
        }
        if seen.insert(tag.to_ascii_lowercase()) {
            segments += tag_depth(&tag);
            tags.push(tag);
        }
        if tags.len() > MAX_TAGS || segments > MAX_SEGMENTS {
            return Err(NotStored::TooManyTags);
        }
    }
    if lists_some && seen.insert(LISTED.to_owned()) {
        tags.push(LISTED.to_owned());
    }
    Ok(tags)
}

/// `hide_tags`: the fields of a response that are meant for caches stay behind.
pub fn hide(route: &Route, response_headers: &mut HeaderMap) {
    if !route.semantics.hide_tags {
        return;
    }
    let of_groups = [groups::CACHE_GROUPS, groups::CACHE_GROUP_INVALIDATION];
    let names = Names::of(response_headers);
    for name in LISTS.iter().chain(&of_groups).chain(&route.semantics.targeted) {
        if names.may_hold(name) {
            response_headers.remove(name);
        }
    }
}

/// A list of tags as fields carry it: by comma, space, or both.
pub fn parse_list(value: &str) -> Vec<String> {
    split(value, |c| c == ',' || c.is_whitespace())
}

/// The members of a field, over all its lines, separated as this field does it.
pub(super) fn listed_in(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let lines = headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
    lines
        .flat_map(|line| match name.as_str() {
            "surrogate-key" => split(&line, char::is_whitespace),
            "xkey" => parse_list(&line),
            _ => split(&line, |c| c == ','),
        })
        .collect()
}

/// A comma left at the end of a member by someone used to the other kind of list is no part of the tag.
fn split(value: &str, separator: impl Fn(char) -> bool) -> Vec<String> {
    let members =
        value.split(separator).map(|member| member.trim_matches(|c: char| c == ',' || c.is_whitespace()));
    members.filter(|member| !member.is_empty()).map(str::to_owned).collect()
}
