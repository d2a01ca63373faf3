//! The tags of a response: from the route, from the response's fields, and from its content.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use http::{HeaderMap, HeaderName};

use super::content::Content;
use super::credential::caller_value;
use super::not_stored::NotStored;
use super::path::{Segment, framework_readings};
use super::tags::{LISTED_TAG, MAX_TAG_BYTES, MAX_TAGS, TAG_FIELDS, parse_tag_field};
use super::template::{RenderLimits, Template, TemplateContext};
use super::{HeaderNameFilter, RequestHead, Route, groups};
use crate::purge::{MAX_TAG_DEPTH, NormalizedPath, tag_depth};

/// Maximum segments of all tags together: each becomes a target.
const MAX_TAG_SEGMENTS: usize = 4 * MAX_TAGS;

/// The tags of the route's templates, of the response fields that list tags, of groups (RFC 9875), and [`LISTED_TAG`].
/// `content`: if the route's tags need it and it is known.
///
/// # Errors
/// If there are too many tags, a value cannot be part of a tag, or one that names the caller has none.
pub fn response_tags(
    route: &Route,
    request: &RequestHead<'_>,
    response_headers: &HeaderMap,
    content: Option<&Content>,
) -> Result<Vec<String>, NotStored> {
    let rendered = render_tags(route, &route.tags, request, (response_headers, content))?;
    let listed = TAG_FIELDS.iter().flat_map(|name| parse_tag_field(response_headers, name));
    let mut its_own = listed.chain(groups::group_tags(request, response_headers)).peekable();
    let lists_some = its_own.peek().is_some();
    let mut tags = collect_distinct(rendered.into_iter().chain(its_own))?;
    if lists_some && !tags.iter().any(|tag| tag.eq_ignore_ascii_case(LISTED_TAG)) {
        tags.push(LISTED_TAG.to_owned());
    }
    Ok(tags)
}

/// Those of [`response_tags`] that say nothing of who sent the request, for the fields in `list_tags`.
pub(crate) fn public_tags(
    route: &Route,
    request: &RequestHead<'_>,
    response_headers: &HeaderMap,
    content: Option<&Content>,
) -> Result<Vec<String>, NotStored> {
    let parameters: Vec<&str> = route.path.segments().iter().filter_map(Segment::parameter).collect();
    let is_kept = |name: &HeaderName| !route.drop_response.drops(name);
    let is_public = |template: &&Template| template.names_resource_only(&parameters, is_kept);
    let templates: Vec<Template> = route.tags.iter().filter(is_public).cloned().collect();
    let rendered = render_tags(route, &templates, request, (response_headers, content))?;
    let fields = TAG_FIELDS.iter().filter(|name| is_kept(name));
    let listed = fields.flat_map(|name| parse_tag_field(response_headers, name));
    collect_distinct(rendered.into_iter().chain(listed).chain(groups::group_tags(request, response_headers)))
}

/// The tags of `templates`, which are those of the route or some of them.
fn render_tags(
    route: &Route,
    templates: &[Template],
    request: &RequestHead<'_>,
    (response_headers, content): (&HeaderMap, Option<&Content>),
) -> Result<Vec<String>, NotStored> {
    // The selected query with defaults, so that a page without parameters has its tag.
    let query = route.query.select(request.query);
    let render = |template: &Template, captures: &[(&str, String)]| {
        template.render(&TemplateContext {
            request: RequestHead { query: query.as_deref(), ..*request },
            captures,
            request_content: None,
            response_headers: Some(response_headers),
            response_content: content,
            limits: RenderLimits::RESPONSE,
        })
    };
    let captures = route.path.captures(request.path);
    let is_one_callers = route.per.as_ref().is_some_and(|per| caller_value(per, request).is_some());
    let written = templates.iter().map(|template| match render(template, &captures) {
        Ok(tags) if tags.is_empty() && is_one_callers && template.names_caller() => {
            Err(NotStored::NoCallerTag)
        }
        rendered => rendered.map_err(|_| NotStored::UnusableJson),
    });
    // A write to `/courses/7` purges `/courses/7.json`, too.
    let by_path = || templates.iter().filter(|template| template.path_parameters().next().is_some());
    let readings = match by_path().next() {
        Some(_) => framework_readings(&NormalizedPath::new(request.path)),
        None => Vec::new(),
    };
    let read = readings.iter().flat_map(|reading| {
        let captures = route.path.captures_loosely(reading);
        let tags = |template| render(template, &captures).map_err(|_| NotStored::UnusableJson);
        by_path().map(tags).collect::<Vec<_>>()
    });
    let rendered: Vec<_> = written.chain(read).collect::<Result<_, _>>()?;
    Ok(rendered.into_iter().flatten().collect())
}

/// Each tag once, whatever its case, within the limits.
fn collect_distinct(all: impl Iterator<Item = String>) -> Result<Vec<String>, NotStored> {
    let mut seen = HashSet::new();
    let (mut tags, mut segments) = (Vec::new(), 0);
    for tag in all {
        if tag.len() > MAX_TAG_BYTES || tag_depth(&tag) > MAX_TAG_DEPTH {
            return Err(NotStored::TooManyTags);
        }
        if seen.insert(tag.to_ascii_lowercase()) {
            segments += tag_depth(&tag);
            tags.push(tag);
        }
        if tags.len() > MAX_TAGS || segments > MAX_TAG_SEGMENTS {
            return Err(NotStored::TooManyTags);
        }
    }
    Ok(tags)
}

/// Removes the fields that are meant for caches, if the route has `hide_tags`. `lists_tags`: those of `list_tags` are
/// larder's own.
pub(crate) fn remove_cache_fields(route: &Route, response_headers: &mut HeaderMap, lists_tags: bool) {
    if !route.hide_tags {
        return;
    }
    let of_groups = [groups::CACHE_GROUPS, groups::CACHE_GROUP_INVALIDATION];
    let names = HeaderNameFilter::from_headers(response_headers);
    for name in TAG_FIELDS.iter().chain(&of_groups).chain(&route.targeted) {
        if names.may_hold(name) && !(lists_tags && route.list_tags.contains(name)) {
            response_headers.remove(name);
        }
    }
}
