//! Cache groups (RFC 9875): a response names its groups, and the response to a write names groups to invalidate.
//!
//! A group becomes two tags: the plain one, for tag purges, and one scoped to its origin, because an origin may
//! only invalidate its own groups (§2.1).

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, List, ListEntry, Parser};

use super::RequestHead;
use crate::purge::Target;

pub(crate) const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
/// Names the groups that a response invalidates (RFC 9875 §3).
pub const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// The tags for the groups of a response (§2). Tag limits apply; §2 requires support for 32 groups of 32
/// characters.
pub(super) fn group_tags(request: &RequestHead<'_>, response_headers: &HeaderMap) -> Vec<String> {
    let groups = parse_group_names(response_headers, &CACHE_GROUPS);
    let of_origins =
        |group: String| origin_group_tags(request, &group).chain([group.clone()]).collect::<Vec<_>>();
    groups.into_iter().flat_map(of_origins).collect()
}

/// The targets that the response to an unsafe request invalidates (§3).
pub fn invalidated_targets(request: &RequestHead<'_>, response_headers: &HeaderMap) -> Vec<Target> {
    let groups = parse_group_names(response_headers, &CACHE_GROUP_INVALIDATION);
    groups.iter().flat_map(|group| origin_group_tags(request, group)).map(Target::tag).collect()
}

/// The origin-scoped tags: scheme, `://`, host, a space, group. Templates and tag lists do not produce a space.
fn origin_group_tags(request: &RequestHead<'_>, group: &str) -> impl Iterator<Item = String> {
    let scheme = request.scheme;
    request.hosts().map(move |host| format!("{scheme}://{} {group}", host.to_ascii_lowercase()))
}

/// Parses a list of strings (RFC 9651) over all lines, ignoring parameters; a malformed list counts as absent.
/// Tokens count as strings, for senders that omit the quotes.
fn parse_group_names(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    if !headers.contains_key(name) {
        return Vec::new();
    }
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(|line| line.as_bytes()).collect();
    let Ok(members) = Parser::new(&lines.join(&b", "[..])).parse::<List>() else { return Vec::new() };
    let groups = members.iter().filter_map(|member| match member {
        ListEntry::Item(item) => match &item.bare_item {
            BareItem::String(group) => Some(group.as_str().to_owned()),
            BareItem::Token(group) => Some(group.as_str().to_owned()),
            _ => None,
        },
        ListEntry::InnerList(_) => None,
    });
    groups.filter(|group| !group.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixtures::{Request, fields};

    fn groups(lines: &[&str]) -> Vec<String> {
        let lines: Vec<_> = lines.iter().map(|line| ("cache-groups", *line)).collect();
        parse_group_names(&fields(&lines), &CACHE_GROUPS)
    }

    #[test]
    fn groups_are_a_list_of_strings_over_all_lines() {
        for (lines, expected) in [
            (&[r#""a", "b""#][..], &["a", "b"][..]),
            (&[r#""a""#, r#""b c";x=1"#], &["a", "b c"]),
            (&[r#""with, comma", "with \"quote\"""#], &["with, comma", "with \"quote\""]),
            (&["a, b"], &["a", "b"]),
            (&[r#""a", 1, ("b")"#], &["a"]),
            (&[""], &[]),
            (&[r#""""#], &[]),
            // A malformed list is ignored as a whole.
            (&[r#""a", "b"#], &[]),
            (&[r#""a", &"#], &[]),
        ] {
            assert_eq!(groups(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn at_least_32_groups_of_32_characters_are_kept() {
        let many: Vec<_> = (0..32).map(|number| format!("\"{number:032}\"")).collect();
        let request = Request::get("/");
        let headers = fields(&[("cache-groups", &many.join(", "))]);
        let tags = crate::policy::response_tags::response_tags(
            &crate::policy::fixtures::route("/"),
            &request.head(),
            &headers,
            None,
        );
        // 32 groups with two tags each, and `(listed)`.
        assert_eq!(tags.map(|tags| tags.len()), Ok(65));
    }

    #[test]
    fn an_invalidation_reaches_groups_of_its_origin_only() {
        let headers = fields(&[("cache-groups", "\"Courses\""), ("cache-group-invalidation", "\"courses\"")]);
        let here = Request::get("/a");
        let ids = |tags: Vec<String>| tags.into_iter().map(|tag| Target::tag(tag).id()).collect::<Vec<_>>();
        let of_response = ids(group_tags(&here.head(), &headers));
        for (host, scheme, reaches) in [
            ("api.example", "http", true),
            ("API.example", "http", true),
            ("b.example", "http", false),
            ("api.example", "https", false),
        ] {
            let write = Request { host: host.to_owned(), scheme, ..Request::new("POST", "/b") };
            let targets = invalidated_targets(&write.head(), &headers);
            assert_eq!(targets.len(), 1);
            assert_eq!(of_response.contains(&targets[0].id()), reaches, "{scheme}://{host}");
        }
        // Purging the plain tag reaches the group too.
        assert!(of_response.contains(&Target::tag("courses").id()));
    }
}
