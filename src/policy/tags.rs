//! Tags: their limits, and the response fields that list them.

use http::{HeaderMap, HeaderName};

/// A response with more tags, or with a longer or deeper one, is not stored: dropping tags would cause stale
/// answers.
pub(crate) const MAX_TAGS: usize = 512;
/// The longest tag, in bytes.
pub const MAX_TAG_BYTES: usize = 1024;
/// The tag of every response that lists tags in its own fields. Such tags can be any, on any route, so a purge of
/// unknown tags reaches them by this one.
pub const LISTED_TAG: &str = "(listed)";

/// Response fields that list tags. Each field that a purge request may list tags in is one, or its purge would be
/// acknowledged and reach nothing.
pub(crate) static TAG_FIELDS: [HeaderName; 8] = [
    HeaderName::from_static("surrogate-key"),
    HeaderName::from_static("cache-tag"),
    HeaderName::from_static("xkey"),
    HeaderName::from_static("edge-cache-tag"),
    HeaderName::from_static("cache-tags"),
    HeaderName::from_static("x-cache-tags"),
    HeaderName::from_static("purge-cache-tags"),
    HeaderName::from_static("ykey"),
];

/// Parses a list of tags separated by commas, spaces, or both.
pub fn parse_list(value: &str) -> Vec<String> {
    split_list(value, |c| c == ',' || c.is_whitespace())
}

/// The members of a tag field over all lines, with the field's own separator.
pub(super) fn parse_tag_field(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let lines = headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes()));
    lines
        .flat_map(|line| match name.as_str() {
            "surrogate-key" => split_list(&line, char::is_whitespace),
            // Their senders use either separator.
            "xkey" | "ykey" | "cache-tags" | "x-cache-tags" | "purge-cache-tags" => parse_list(&line),
            _ => split_list(&line, |c| c == ','),
        })
        .collect()
}

/// The separator of the tags that larder lists in a field.
pub(super) fn list_separator(name: &HeaderName) -> &'static str {
    match name.as_str() {
        "surrogate-key" | "xkey" | "ykey" => " ",
        _ => ",",
    }
}

/// A trailing comma in a space-separated list is not part of the tag.
fn split_list(value: &str, separator: impl Fn(char) -> bool) -> Vec<String> {
    let members =
        value.split(separator).map(|member| member.trim_matches(|c: char| c == ',' || c.is_whitespace()));
    members.filter(|member| !member.is_empty()).map(str::to_owned).collect()
}
