//! Targeted fields (RFC 9213), which replace `Cache-Control` for some caches.
//!
//! They are structured fields (RFC 9651): a syntax error makes the whole field count as absent, unlike in
//! `Cache-Control`.

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::cache_control::CacheControl;

/// The directives that apply to larder, and their source.
pub struct GoverningDirectives {
    /// The directives of the selected field.
    pub directives: CacheControl,
    /// The source is a targeted field: `Cache-Control` and `Expires` are ignored (§2.2).
    pub targeted: bool,
}

impl GoverningDirectives {
    /// Selects the first present, valid and non-empty field of `targets`; otherwise `Cache-Control` (§2.2).
    pub fn select(targets: &[HeaderName], headers: &HeaderMap) -> Self {
        let targeted = targets.iter().find_map(|name| parse_field(headers, name));
        Self {
            targeted: targeted.is_some(),
            directives: targeted.unwrap_or_else(|| CacheControl::parse(headers)),
        }
    }
}

/// The field of the Edge Architecture Specification, for surrogates such as this cache.
pub(crate) const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// Whether the field is for some of the caches between larder and its clients, in place of `Cache-Control`.
pub(crate) fn is_for_caches(name: &HeaderName) -> bool {
    const OTHERS: [&str; 3] = ["edge-control", "surrogate-control", "x-accel-expires"];
    name.as_str().ends_with("-cache-control") || OTHERS.contains(&name.as_str())
}

/// §2.1. `None`: absent, empty or not a dictionary.
fn parse_field(headers: &HeaderMap, name: &HeaderName) -> Option<CacheControl> {
    if !headers.contains_key(name) {
        return None;
    }
    if *name == SURROGATE_CONTROL {
        return parse_surrogate_control(headers);
    }
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(|line| line.as_bytes()).collect();
    // RFC 9651 §4.2: all lines are one value.
    let members: Dictionary = Parser::new(&lines.join(&b", "[..])).parse().ok()?;
    if members.is_empty() {
        return None;
    }
    let mut directives = CacheControl::default();
    for (name, value) in &members {
        directives.add_member(name.as_str(), format_argument(value).as_deref());
    }
    Some(directives)
}

/// Parses `Surrogate-Control: max-age=60+30, content="ESI/1.0"`: `+30` is a stale window, and `;name` says for which
/// surrogate a directive is. Directives for others don't count. `content` demands processing that larder does not do, and
/// the field counts nevertheless: its lifetime is that of the content as it is.
fn parse_surrogate_control(headers: &HeaderMap) -> Option<CacheControl> {
    let mut directives = CacheControl::default();
    let mut is_empty = true;
    let lines = headers.get_all(SURROGATE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    for member in lines.flat_map(|line| line.split(',')).map(str::trim).filter(|member| !member.is_empty()) {
        let (directive, surrogate) = member.split_once(';').unwrap_or((member, "larder"));
        if !surrogate.trim().eq_ignore_ascii_case("larder") {
            continue;
        }
        let (name, value) = match directive.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (directive.trim(), None),
        };
        is_empty = false;
        match value.and_then(|value| value.split_once('+')).filter(|_| name.eq_ignore_ascii_case("max-age")) {
            Some((fresh, stale)) => {
                directives.add_member("max-age", Some(fresh));
                directives.add_member("stale-while-revalidate", Some(stale));
            }
            None => directives.add_member(&name.to_ascii_lowercase(), value),
        }
    }
    (!is_empty).then_some(directives)
}

/// Formats a member's value as `Cache-Control` would; `None`: a directive without argument. Types that no directive
/// has become an unreadable argument, which restricts and permits nothing.
fn format_argument(value: &ListEntry) -> Option<String> {
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

    fn governing(fields: &str) -> GoverningDirectives {
        GoverningDirectives::select(&[LARDER, CDN], &headers(fields))
    }

    #[test]
    fn surrogate_control_is_read_as_its_specification_says() {
        for (field, max_age, window, no_store) in [
            ("max-age=60", Some(60), None, false),
            ("max-age=60+30, content=\"ESI/1.0\"", Some(60), Some(30), false),
            ("no-store", None, None, true),
            ("no-store, max-age=60;larder", Some(60), None, true),
            ("max-age=60;varnish, max-age=5", Some(5), None, false),
            ("Max-Age=oops", Some(0), None, false),
        ] {
            let fields = headers(&format!("Surrogate-Control: {field}\nCache-Control: max-age=1"));
            let governing = GoverningDirectives::select(&[SURROGATE_CONTROL], &fields);
            let found = governing.directives;
            assert!(governing.targeted, "{field}");
            assert_eq!((found.max_age, found.no_store), (max_age.map(secs), no_store), "{field}");
            assert_eq!(found.stale_while_revalidate, window.map(secs), "{field}");
        }
        let fields = headers("Surrogate-Control: max-age=60;varnish\nCache-Control: max-age=1");
        assert!(!GoverningDirectives::select(&[SURROGATE_CONTROL], &fields).targeted);
    }

    #[test]
    fn the_first_valid_targeted_field_replaces_cache_control() {
        for (fields, max_age, targeted) in [
            ("Cache-Control: max-age=1", Some(1), false),
            ("CDN-Cache-Control: max-age=2\nCache-Control: max-age=1, no-store", Some(2), true),
            ("CDN-Cache-Control: max-age=2\nLarder-Cache-Control: max-age=3", Some(3), true),
            // Fields are not merged.
            ("Larder-Cache-Control: public\nCDN-Cache-Control: max-age=2", None, true),
            // An empty or malformed field counts as absent.
            ("Larder-Cache-Control: \nCDN-Cache-Control: max-age=2", Some(2), true),
            ("Larder-Cache-Control: max-age=3, &&&\nCDN-Cache-Control: max-age=2", Some(2), true),
            (
                "Larder-Cache-Control: max-age =3\nCDN-Cache-Control: MAX-AGE=2\nCache-Control: max-age=1",
                Some(1),
                false,
            ),
            // The field is not in the list.
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
    fn targeted_members_are_structured_and_grant_nothing_new() {
        let directives = |value: &str| governing(&format!("CDN-Cache-Control: {value}")).directives;
        assert_eq!(directives("max-age=10;x=1, a=b").max_age, Some(secs(10)));
        assert_eq!(directives("max-age=99999999999").max_age, Some(secs(1 << 31)));
        // RFC 9651: the last of duplicate keys counts.
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
