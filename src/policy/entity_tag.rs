//! Entity-tags (RFC 9110 §8.8.3): what is not one, to the letter, matches nothing.

use http::{HeaderMap, HeaderName};

use super::http_date::only_value;

/// As it came: `"v1"` or `W/"v1"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntityTag<'a> {
    is_weak: bool,
    /// With its quotes.
    opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    pub(super) fn read(value: &'a [u8]) -> Option<Self> {
        let (tag, rest) = Self::split_off(value)?;
        rest.is_empty().then_some(tag)
    }

    /// The one in a field that must occur once.
    pub(super) fn of(headers: &'a HeaderMap, name: &HeaderName) -> Option<Self> {
        Self::read(only_value(headers, name)?.as_bytes())
    }

    /// §8.8.3.2: both strong, and the same.
    pub(super) fn matches_strongly(&self, other: &EntityTag<'_>) -> bool {
        !self.is_weak && !other.is_weak && self.opaque == other.opaque
    }

    /// §8.8.3.2: the same but for strength.
    pub(super) fn matches_weakly(&self, other: &EntityTag<'_>) -> bool {
        self.opaque == other.opaque
    }

    pub(super) fn is_strong(&self) -> bool {
        !self.is_weak
    }

    /// The tag that `text` begins with, and what follows it.
    fn split_off(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        // `W/` is the one part of the syntax where case counts.
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

/// `etagc`: visible ASCII but the quote, and obs-text.
fn is_tag_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)
}

/// `If-Match`, `If-None-Match`: `*`, or a list of tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TagList<'a> {
    Any,
    /// Those that could be read: what follows a mistake is left out, so it matches less.
    Tags(Vec<EntityTag<'a>>),
}

impl<'a> TagList<'a> {
    /// `None` if the field is absent.
    pub(super) fn of(headers: &'a HeaderMap, name: &HeaderName) -> Option<Self> {
        let mut tags = Vec::new();
        let mut lines = headers.get_all(name).iter().map(|line| line.as_bytes()).peekable();
        lines.peek()?;
        if only_value(headers, name).is_some_and(|value| value == "*") {
            return Some(TagList::Any);
        }
        for line in lines {
            read_list(line, &mut tags);
        }
        Some(TagList::Tags(tags))
    }

    pub(super) fn any(&self, matches: impl Fn(&EntityTag<'a>) -> bool) -> bool {
        match self {
            TagList::Any => true,
            TagList::Tags(tags) => tags.iter().any(matches),
        }
    }
}

fn read_list<'a>(line: &'a [u8], tags: &mut Vec<EntityTag<'a>>) {
    let mut rest = line;
    loop {
        rest = match rest {
            [b',' | b' ' | b'\t', after @ ..] => after,
            _ => match EntityTag::split_off(rest) {
                Some((tag, after)) => {
                    // A tag ends where the list goes on or ends; else it was none.
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
        EntityTag::read(text.as_bytes()).unwrap_or_else(|| panic!("{text} is a tag"))
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
            assert_eq!(EntityTag::read(text.as_bytes()), None, "{text}");
        }
        assert!(EntityTag::read(b"\"abc\xfc,d'\"").is_some());
        assert!(EntityTag::read(b"\"\"").is_some());
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
            assert_eq!(TagList::of(&headers, &IF_NONE_MATCH), Some(TagList::Tags(tags)), "{lines:?}");
        }
        let any: HeaderMap = [(IF_NONE_MATCH, HeaderValue::from_static("*"))].into_iter().collect();
        assert_eq!(TagList::of(&any, &IF_NONE_MATCH), Some(TagList::Any));
        assert_eq!(TagList::of(&HeaderMap::new(), &IF_NONE_MATCH), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line in proptest::collection::vec(any::<u8>(), 0..40)) {
            EntityTag::read(&line);
            read_list(&line, &mut Vec::new());
        }
    }
}
