//! The tags of a path, by the convention of its segments: `/pets/{petId}/photos` is below the pet `pets:{petId}`, and a
//! list of `photos`.

use std::collections::BTreeSet;

use super::operation::{PathItem, PathSegment};
use crate::policy::path::AffixedParameter;

/// A tag, and why a route has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub text: String,
    pub why: String,
}

/// The tags that a path suggests.
#[derive(Clone, Debug, Default)]
pub(super) struct Resource {
    /// A tag for each item on the path: `pets:{petId}`.
    pub items: Vec<String>,
    /// The kinds of these items: `pets`.
    pub kinds: Vec<String>,
    /// The last segment, if it is a literal: a list, or an action.
    pub list: Option<String>,
}

impl Resource {
    pub(super) fn new(item: &PathItem) -> Self {
        let mut resource = Self::default();
        let mut kind = None;
        let mut values = String::new();
        let segments = item.named_segments();
        for (at, segment) in segments.iter().enumerate() {
            match segment {
                PathSegment::Literal(text) => {
                    kind = tag_name(text);
                    values.clear();
                }
                PathSegment::Parameter(name) | PathSegment::Affixed(AffixedParameter { name, .. }) => {
                    // `Courses({id})` is an item of `Courses`.
                    if let PathSegment::Affixed(AffixedParameter { prefix, .. }) = segment
                        && let Some(own) = tag_name(prefix)
                    {
                        kind = Some(own);
                        values.clear();
                    }
                    if !values.is_empty() {
                        values.push('/');
                    }
                    values.push_str(&format!("{{{name}}}"));
                    let own = kind.clone().or_else(|| tag_name(name)).unwrap_or_else(|| "item".into());
                    let goes_on = match segments.get(at + 1) {
                        Some(PathSegment::Parameter(_)) => true,
                        Some(PathSegment::Affixed(next)) => tag_name(&next.prefix).is_none(),
                        Some(PathSegment::Literal(_)) | None => false,
                    };
                    if !goes_on {
                        resource.items.push(format!("{own}:{values}"));
                        resource.kinds.push(own);
                    }
                }
            }
        }
        resource.list = segments.last().and_then(PathSegment::literal).and_then(tag_name);
        resource
    }

    /// The kind of the item that the path ends in.
    pub(super) fn item_kind(&self) -> Option<&str> {
        self.kinds.last().filter(|_| self.list.is_none()).map(String::as_str)
    }
}

/// Suffixes of segments that name a format: `/posts.json` is the list of `posts`.
const FORMATS: [&str; 9] = [".json", ".xml", ".csv", ".html", ".yaml", ".yml", ".txt", ".rss", ".atom"];

/// The text without a format at its end.
pub(super) fn without_format(text: &str) -> &str {
    let is_format = |(at, _): &(usize, &str)| {
        *at > 0 && FORMATS.iter().any(|known| text[*at..].eq_ignore_ascii_case(known))
    };
    text.rmatch_indices('.').next().filter(is_format).map_or(text, |(at, _)| &text[..at])
}

/// A literal as a tag: lower case, without a format, and without characters that mean something in tags.
pub(super) fn tag_name(text: &str) -> Option<String> {
    let text = without_format(text);
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let name: String = text.chars().filter(|c| is_word(*c)).flat_map(char::to_lowercase).take(64).collect();
    (!name.is_empty()).then_some(name)
}

/// The tag without the names of its parameters: tags of one shape name the same values.
pub(super) fn shape(tag: &str) -> String {
    let mut shape = String::with_capacity(tag.len());
    let mut is_name = false;
    for c in tag.chars() {
        match c {
            '}' => is_name = false,
            _ if is_name => continue,
            '{' => is_name = true,
            _ => {}
        }
        shape.push(c);
    }
    shape
}

/// Whether a purge of a tag reaches one of these: the same, or one below it. All are shapes.
pub(super) fn reaches_any(purged: &str, carried: &BTreeSet<String>) -> bool {
    let below = format!("{purged}/");
    carried.contains(purged)
        || carried.range(below.clone()..).next().is_some_and(|tag| tag.starts_with(&below))
}

/// Whether a purge of one of these reaches a tag.
pub(super) fn is_reached(carried: &str, purged: &BTreeSet<String>) -> bool {
    let ends = carried.match_indices('/').map(|(end, _)| end).chain([carried.len()]);
    ends.into_iter().any(|end| purged.contains(&carried[..end]))
}
