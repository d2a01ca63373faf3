//! Cache groups (RFC 9875): a response names the groups it belongs to, and the response to a write names those that it
//! invalidates.
//!
//! A group is a tag, so that all that purges tags reaches it; and a tag of its origin alone, since what one origin says
//! invalidates nothing of another's (§2.1).

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, List, ListEntry, Parser};

use super::RequestHead;
use crate::purge::Target;

pub const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
pub const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// §2: the tags of a response by its groups. What bounds tags bounds groups too; §2 asks for no less than 32 of 32
/// characters each.
pub(super) fn tags_of(request: &RequestHead<'_>, response_headers: &HeaderMap) -> Vec<String> {
    let groups = named_in(response_headers, &CACHE_GROUPS);
    groups.into_iter().flat_map(|group| [of_origin(request, &group), group]).collect()
}

/// §3: what the response to an unsafe request invalidates. Not asked for a safe one, on which the field says nothing.
pub fn invalidated(request: &RequestHead<'_>, response_headers: &HeaderMap) -> Vec<Target> {
    let groups = named_in(response_headers, &CACHE_GROUP_INVALIDATION);
    groups.iter().map(|group| Target::tag(of_origin(request, group))).collect()
}

/// A scheme, `://` and a host, then a space: no template or list of tags is likely to make one, and if it did, more would
/// be purged.
fn of_origin(request: &RequestHead<'_>, group: &str) -> String {
    format!("{}://{} {group}", request.scheme, request.host.to_ascii_lowercase())
}

/// A list of strings (RFC 9651), over all lines; parameters say nothing. What is no such list is as if it were not there.
/// A token is taken for a string: whoever forgot the quotes meant the group.
fn named_in(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
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
        named_in(&fields(&lines), &CACHE_GROUPS)
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
            // Not a list: nothing of it counts.
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
        let tags = super::super::tags::of_response(
            &crate::policy::fixtures::route("/"),
            &request.head(),
            &headers,
            None,
        );
        // Each by its origin and by itself, and that there are some.
        assert_eq!(tags.map(|tags| tags.len()), Ok(65));
    }

    #[test]
    fn an_invalidation_reaches_the_group_of_the_same_origin_and_of_no_other() {
        let headers = fields(&[("cache-groups", "\"Courses\""), ("cache-group-invalidation", "\"courses\"")]);
        let here = Request::get("/a");
        let ids = |tags: Vec<String>| tags.into_iter().map(|tag| Target::tag(tag).id()).collect::<Vec<_>>();
        let of_response = ids(tags_of(&here.head(), &headers));
        for (host, scheme, reaches) in [
            ("api.example", "http", true),
            ("API.example", "http", true),
            ("b.example", "http", false),
            ("api.example", "https", false),
        ] {
            let write = Request { host: host.to_owned(), scheme, ..Request::new("POST", "/b") };
            let targets = invalidated(&write.head(), &headers);
            assert_eq!(targets.len(), 1);
            assert_eq!(of_response.contains(&targets[0].id()), reaches, "{scheme}://{host}");
        }
        // One mechanism: whoever purges the tag reaches the group too.
        assert!(of_response.contains(&Target::tag("courses").id()));
    }
}
