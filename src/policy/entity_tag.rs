//! Entity-tags (RFC 9110 §8.8.3), parsed strictly: a malformed tag matches nothing.

use http::header::{ETAG, Entry};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::http_date::single_value;

/// The entity-tag of a response with its quotes, if it is a strong one.
pub(super) fn strong_tag(headers: &HeaderMap) -> Option<&[u8]> {
    EntityTag::from_field(headers, &ETAG).filter(EntityTag::is_strong).map(|tag| tag.opaque)
}

/// Replaces each line of a condition for which `restore` has another. Returns what it says of the first.
pub(super) fn restore_lines<T>(
    headers: &mut HeaderMap,
    name: HeaderName,
    restore: impl Fn(&[u8]) -> Option<(Vec<u8>, T)>,
) -> Option<T> {
    let Entry::Occupied(mut lines) = headers.entry(name) else { return None };
    let mut first = None;
    for line in lines.iter_mut() {
        let Some((restored, what)) = restore(line.as_bytes()) else { continue };
        if let Ok(restored) = HeaderValue::from_bytes(&restored) {
            *line = restored;
            first.get_or_insert(what);
        }
    }
    first
}

/// A tag such as `"v1"` or `W/"v1"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntityTag<'a> {
    is_weak: bool,
    /// The tag with its quotes.
    opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let (tag, rest) = Self::split_off(value)?;
        rest.is_empty().then_some(tag)
    }

    /// Parses the tag of a field that must occur once.
    pub(super) fn from_field(headers: &'a HeaderMap, name: &HeaderName) -> Option<Self> {
        Self::parse(single_value(headers, name)?.as_bytes())
    }

    /// Strong comparison (§8.8.3.2): both are strong and equal.
    pub(super) fn matches_strongly(&self, other: &EntityTag<'_>) -> bool {
        !self.is_weak && !other.is_weak && self.opaque == other.opaque
    }

    /// Weak comparison (§8.8.3.2): equal apart from strength.
    pub(super) fn matches_weakly(&self, other: &EntityTag<'_>) -> bool {
        self.opaque == other.opaque
    }

    /// The tag with its quotes.
    pub(super) fn text(&self) -> &'a [u8] {
        self.opaque
    }

    pub(super) fn is_strong(&self) -> bool {
        !self.is_weak
    }

    /// Splits `text` into its leading tag and the rest.
    fn split_off(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        // `W/` is case-sensitive.
        let (is_weak, quoted) = match text.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, text),
        };
        let inner = quoted.strip_prefix(b"\"")?;
        let length = inner.iter().position(|byte| !is_tag_byte(*byte))?;
        if inner[length] != b'"' {
            return None;
        }
        let (opaque, rest) = quoted.split_at(length + 2);
        Some((Self { is_weak, opaque }, rest))
    }
}

/// `etagc`: visible ASCII except the quote, and obs-text.
fn is_tag_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)
}

/// The value of `If-Match` or `If-None-Match`: `*`, or a list of tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EntityTagList<'a> {
    Any,
    /// The tags up to the first malformed one, so a malformed list matches less.
    Tags(Vec<EntityTag<'a>>),
}

impl<'a> EntityTagList<'a> {
    /// `None` if the field is absent.
    pub(super) fn from_field(headers: &'a HeaderMap, name: &HeaderName) -> Option<Self> {
        let mut tags = Vec::new();
        let mut lines = headers.get_all(name).iter().map(|line| line.as_bytes()).peekable();
        lines.peek()?;
        if single_value(headers, name).is_some_and(|value| value == "*") {
            return Some(EntityTagList::Any);
        }
        for line in lines {
            parse_list(line, &mut tags);
        }
        Some(EntityTagList::Tags(tags))
    }

    pub(super) fn any(&self, matches: impl Fn(&EntityTag<'a>) -> bool) -> bool {
        match self {
            EntityTagList::Any => true,
            EntityTagList::Tags(tags) => tags.iter().any(matches),
        }
    }
}

fn parse_list<'a>(line: &'a [u8], tags: &mut Vec<EntityTag<'a>>) {
    let mut rest = line;
    loop {
        rest = match rest {
            [b',' | b' ' | b'\t', after @ ..] => after,
            _ => match EntityTag::split_off(rest) {
                Some((tag, after)) => {
                    // A tag must be followed by a separator or the end.
                    if !matches!(after.first(), None | Some(b',' | b' ' | b'\t')) {
                        return;
                    }
                    tags.push(tag);
                    after
                }
                None => return,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::IF_NONE_MATCH;
    use proptest::prelude::*;

    use super::*;

    fn tag(text: &str) -> EntityTag<'_> {
        EntityTag::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text} is a tag"))
    }

    #[test]
    fn strength_counts_where_it_must() {
        // RFC 9110 §8.8.3.2, the table.
        for (one, other, strongly, weakly) in [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
        ] {
            assert_eq!(tag(one).matches_strongly(&tag(other)), strongly, "{one} {other}");
            assert_eq!(tag(one).matches_weakly(&tag(other)), weakly, "{one} {other}");
        }
    }

    #[test]
    fn what_is_malformed_is_no_tag() {
        for text in [
            "",
            "*",
            "a",
            "\"",
            "\"a",
            "a\"",
            "w/\"a\"",
            "W\\\"a\"",
            "W\"a\"",
            "W/a",
            "\"a\"b",
            "\"a b\"",
            "\"a\", \"b\"",
        ] {
            assert_eq!(EntityTag::parse(text.as_bytes()), None, "{text}");
        }
        assert!(EntityTag::parse(b"\"abc\xfc,d'\"").is_some());
        assert!(EntityTag::parse(b"\"\"").is_some());
    }

    #[test]
    fn lists_are_read_up_to_the_first_mistake() {
        for (lines, expected) in [
            (vec!["\"a\", W/\"b,c\" ,,\"d\""], vec!["\"a\"", "W/\"b,c\"", "\"d\""]),
            (vec!["\"a\"", "\"b\""], vec!["\"a\"", "\"b\""]),
            (vec!["\"a\", b, \"c\""], vec!["\"a\""]),
            (vec!["\"a\"x, \"c\""], vec![]),
            (vec!["*, \"a\""], vec![]),
            (vec![""], vec![]),
        ] {
            let headers: HeaderMap =
                lines.iter().map(|line| (IF_NONE_MATCH, line.parse().unwrap())).collect();
            let tags = expected.into_iter().map(tag).collect();
            assert_eq!(
                EntityTagList::from_field(&headers, &IF_NONE_MATCH),
                Some(EntityTagList::Tags(tags)),
                "{lines:?}"
            );
        }
        let any: HeaderMap = [(IF_NONE_MATCH, HeaderValue::from_static("*"))].into_iter().collect();
        assert_eq!(EntityTagList::from_field(&any, &IF_NONE_MATCH), Some(EntityTagList::Any));
        assert_eq!(EntityTagList::from_field(&HeaderMap::new(), &IF_NONE_MATCH), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line in proptest::collection::vec(any::<u8>(), 0..40)) {
            EntityTag::parse(&line);
            parse_list(&line, &mut Vec::new());
        }
    }
}
