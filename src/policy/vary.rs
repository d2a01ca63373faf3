//! RFC 9111 §4.1: which request fields a response was selected by.

use http::header::VARY;
use http::{HeaderMap, HeaderName};

/// A response that names more is taken for one that matches no other request: what it varies by can't repeat.
const MOST_FIELDS: usize = 32;

/// larder itself adds the client's address to it, so what the client sent does not tell which response was selected.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The names in `Vary`, sorted, each once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VaryFields(Box<[HeaderName]>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vary {
    /// No `Vary`, or an empty one.
    Nothing,
    Fields(VaryFields),
    /// `*` anywhere, something that can't be read, or `X-Forwarded-For`: matches no other request.
    Everything,
}

impl Vary {
    /// All lines of the field are one list (RFC 9110 §12.5.5), of which empty members don't count (§5.6.1).
    pub fn of(response_headers: &HeaderMap) -> Self {
        let lines = response_headers.get_all(VARY).iter();
        let members = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        let mut names = Vec::new();
        for member in members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()) {
            match HeaderName::from_bytes(member) {
                Ok(name) if member != b"*" && name != FORWARDED_FOR && names.len() < MOST_FIELDS => {
                    names.push(name);
                }
                _ => return Vary::Everything,
            }
        }
        if names.is_empty() { Vary::Nothing } else { Vary::Fields(VaryFields::new(names)) }
    }
}

impl VaryFields {
    /// Sorted and deduplicated.
    pub fn new(mut names: Vec<HeaderName>) -> Self {
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        Self(names.into_boxed_slice())
    }

    pub fn names(&self) -> &[HeaderName] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&[u8]]) -> Vary {
        let values = lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok());
        Vary::of(&values.map(|value| (VARY, value)).collect())
    }

    fn fields(names: &[&'static str]) -> Vary {
        Vary::Fields(VaryFields::new(names.iter().map(|name| HeaderName::from_static(name)).collect()))
    }

    #[test]
    fn names_are_sorted_and_each_stands_once() {
        assert_eq!(of(&[b"Origin, accept ,ACCEPT", b"", b",a"]), fields(&["a", "accept", "origin"]));
        let Vary::Fields(named) = of(&[b"b, a, B"]) else { panic!("it names fields") };
        assert_eq!(named.names(), ["a", "b"]);
    }

    #[test]
    fn a_star_anywhere_matches_nothing() {
        for lines in [
            vec![&b"*"[..]],
            vec![b"*, *"],
            vec![b"*", b"*"],
            vec![b", *"],
            vec![b"", b"*"],
            vec![b"*, Foo"],
            vec![b"Foo, *"],
            vec![b"Foo", b"*"],
        ] {
            assert_eq!(of(&lines), Vary::Everything, "{lines:?}");
        }
    }

    #[test]
    fn what_can_not_be_read_matches_nothing() {
        for line in [&b"a b"[..], b"a;q=1", b"\"a\"", b"\xfc", b"accept-encoding:origin"] {
            assert_eq!(of(&[line]), Vary::Everything, "{line:?}");
        }
        let many: Vec<_> = (0..=MOST_FIELDS).map(|number| format!("x-{number}")).collect();
        assert_eq!(of(&[many.join(",").as_bytes()]), Vary::Everything);
        assert_ne!(of(&[many[1..].join(",").as_bytes()]), Vary::Everything);
    }

    #[test]
    fn none_and_an_empty_one_are_nothing() {
        assert_eq!(of(&[]), Vary::Nothing);
        assert_eq!(of(&[b""]), Vary::Nothing);
        assert_eq!(of(&[b" , ,", b""]), Vary::Nothing);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line in proptest::collection::vec(any::<u8>(), 0..40)) {
            of(&[&line]);
        }

        #[test]
        fn a_line_with_a_star_is_never_lost(before in "[ -~]{0,20}", after in "[ -~]{0,20}") {
            prop_assert_eq!(of(&[before.as_bytes(), b"*", after.as_bytes()]), Vary::Everything);
        }
    }
}
