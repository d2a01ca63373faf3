//! Targeted fields (RFC 9213): the upstream's word for some caches only, in the place of `Cache-Control`.
//!
//! They are structured fields (RFC 9651), with other rules than `Cache-Control` has for what is wrong: one mistake makes
//! the whole field count as absent. `Cache-Control` itself is never read so.

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::cache_control::CacheControl;

/// The directives that hold for larder, and where they stood.
pub struct Governing {
    pub directives: CacheControl,
    /// From a targeted field: then `Cache-Control` and `Expires` say nothing to larder (§2.2).
    pub targeted: bool,
}

impl Governing {
    /// §2.2: of the fields in `targets`, the first that is there, valid and not empty; else `Cache-Control`.
    pub fn of(targets: &[HeaderName], headers: &HeaderMap) -> Self {
        let targeted = targets.iter().find_map(|name| read(headers, name));
        Self {
            targeted: targeted.is_some(),
            directives: targeted.unwrap_or_else(|| CacheControl::parse(headers)),
        }
    }
}

/// §2.1. `None`: absent, empty, or not a dictionary.
fn read(headers: &HeaderMap, name: &HeaderName) -> Option<CacheControl> {
    if !headers.contains_key(name) {
        return None;
    }
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(|line| line.as_bytes()).collect();
    // RFC 9651 §4.2: all lines are one value.
    let members: Dictionary = Parser::new(&lines.join(&b", "[..])).parse().ok()?;
    if members.is_empty() {
        return None;
    }
    let mut directives = CacheControl::default();
    for (name, value) in &members {
        directives.add_member(name.as_str(), argument(value).as_deref());
    }
    Some(directives)
}

/// How `Cache-Control` would write it: `None` for a directive without argument. What no directive has (a list, a
/// string for a number) becomes something that no directive can read, so that it restricts and permits nothing.
fn argument(value: &ListEntry) -> Option<String> {
    let ListEntry::Item(item) = value else { return Some(String::new()) };
    match &item.bare_item {
        BareItem::Boolean(true) => None,
        BareItem::Integer(number) => Some(number.to_string()),
        _ => Some(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{headers, secs};

    const LARDER: HeaderName = HeaderName::from_static("larder-cache-control");
    const CDN: HeaderName = HeaderName::from_static("cdn-cache-control");

    fn governing(fields: &str) -> Governing {
        Governing::of(&[LARDER, CDN], &headers(fields))
    }

    #[test]
    fn the_first_field_of_the_list_that_is_there_and_valid_takes_the_place_of_cache_control() {
        for (fields, max_age, targeted) in [
            ("Cache-Control: max-age=1", Some(1), false),
            ("CDN-Cache-Control: max-age=2\nCache-Control: max-age=1, no-store", Some(2), true),
            ("CDN-Cache-Control: max-age=2\nLarder-Cache-Control: max-age=3", Some(3), true),
            // Nothing is added up.
            ("Larder-Cache-Control: public\nCDN-Cache-Control: max-age=2", None, true),
            // Empty, or not a dictionary: as if it were not there.
            ("Larder-Cache-Control: \nCDN-Cache-Control: max-age=2", Some(2), true),
            ("Larder-Cache-Control: max-age=3, &&&\nCDN-Cache-Control: max-age=2", Some(2), true),
            (
                "Larder-Cache-Control: max-age =3\nCDN-Cache-Control: MAX-AGE=2\nCache-Control: max-age=1",
                Some(1),
                false,
            ),
            // One that nobody listed.
            ("Other-Cache-Control: max-age=9\nCache-Control: max-age=1", Some(1), false),
        ] {
            let governing = governing(fields);
            assert_eq!(
                (governing.directives.max_age, governing.targeted),
                (max_age.map(secs), targeted),
                "{fields}"
            );
        }
    }

    #[test]
    fn members_are_structured_and_what_no_directive_has_grants_nothing() {
        let directives = |value: &str| governing(&format!("CDN-Cache-Control: {value}")).directives;
        assert_eq!(directives("max-age=10;x=1, a=b").max_age, Some(secs(10)));
        assert_eq!(directives("max-age=99999999999").max_age, Some(secs(1 << 31)));
        // RFC 9651: of a name that stands twice, the last counts.
        assert_eq!(directives("max-age=10, max-age=20").max_age, Some(secs(20)));
        for value in ["max-age=\"10\"", "max-age=10.5", "max-age=-1", "max-age", "max-age=(10)", "max-age=?1"]
        {
            assert_eq!(directives(value).max_age, Some(secs(0)), "{value}");
        }
        for value in ["private", "private=\"x\"", "private=(\"a\" \"b\")", "private=?0"] {
            assert!(directives(value).private, "{value}");
        }
        assert!(directives("public").public);
        assert!(!directives("public=?0").public && !directives("public=1").public);
    }

    #[test]
    fn lines_are_one_value() {
        let directives = governing("CDN-Cache-Control: max-age=10\nCDN-Cache-Control: no-cache").directives;
        assert_eq!((directives.max_age, directives.no_cache), (Some(secs(10)), true));
        assert!(!governing("CDN-Cache-Control: max-age=10\nCDN-Cache-Control: &").targeted);
    }
}
