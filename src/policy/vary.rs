//! `Vary`: the request fields that selected a response (RFC 9111 §4.1).

use http::header::{ACCEPT_ENCODING, VARY};
use http::{HeaderMap, HeaderName};

use super::accept_encoding::is_coded;
use super::forwarding_fields::X_FORWARDED_FOR;

/// A response with more fields counts as `Vary: *`: such a combination does not repeat.
const MAX_VARY_FIELDS: usize = 32;

/// The field names of `Vary`, sorted and without duplicates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VaryFields(Box<[HeaderName]>);

/// The request fields that select among the responses of one key (RFC 9110 §12.5.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vary {
    /// No `Vary`, or an empty one.
    Nothing,
    /// By these fields.
    Fields(VaryFields),
    /// `*`, a malformed member, or `X-Forwarded-For`: matches no other request.
    Everything,
}

impl Vary {
    /// Parses all lines as one list (RFC 9110 §12.5.5); empty members are ignored (§5.6.1). A response with a content
    /// coding differs by `Accept-Encoding`, whether it says so or not.
    pub fn parse(response_headers: &HeaderMap) -> Self {
        Self::parse_ignoring(response_headers, &[])
    }

    /// The same without the fields of the route's `ignore_vary`.
    pub(crate) fn parse_ignoring(response_headers: &HeaderMap, ignored: &[HeaderName]) -> Self {
        let lines = response_headers.get_all(VARY).iter();
        let members = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        let mut names = Vec::new();
        for member in members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()) {
            match HeaderName::from_bytes(member) {
                Ok(name) if ignored.contains(&name) => {}
                Ok(name) if member != b"*" && name != X_FORWARDED_FOR && names.len() < MAX_VARY_FIELDS => {
                    names.push(name);
                }
                _ => return Vary::Everything,
            }
        }
        if is_coded(response_headers) {
            names.push(ACCEPT_ENCODING);
        }
        if names.is_empty() { Vary::Nothing } else { Vary::Fields(VaryFields::new(names)) }
    }
}

impl VaryFields {
    /// Sorts and deduplicates.
    pub fn new(mut names: Vec<HeaderName>) -> Self {
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        Self(names.into_boxed_slice())
    }

    /// The names, sorted.
    pub fn names(&self) -> &[HeaderName] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn parse(lines: &[&[u8]]) -> Vary {
        let values = lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok());
        Vary::parse(&values.map(|value| (VARY, value)).collect())
    }

    fn fields(names: &[&'static str]) -> Vary {
        Vary::Fields(VaryFields::new(names.iter().map(|name| HeaderName::from_static(name)).collect()))
    }

    #[test]
    fn names_are_sorted_and_each_stands_once() {
        assert_eq!(parse(&[b"Origin, accept ,ACCEPT", b"", b",a"]), fields(&["a", "accept", "origin"]));
        let Vary::Fields(named) = parse(&[b"b, a, B"]) else { panic!("it names fields") };
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
            assert_eq!(parse(&lines), Vary::Everything, "{lines:?}");
        }
    }

    #[test]
    fn what_can_not_be_read_matches_nothing() {
        for line in [&b"a b"[..], b"a;q=1", b"\"a\"", b"\xfc", b"accept-encoding:origin"] {
            assert_eq!(parse(&[line]), Vary::Everything, "{line:?}");
        }
        let many: Vec<_> = (0..=MAX_VARY_FIELDS).map(|number| format!("x-{number}")).collect();
        assert_eq!(parse(&[many.join(",").as_bytes()]), Vary::Everything);
        assert_ne!(parse(&[many[1..].join(",").as_bytes()]), Vary::Everything);
    }

    #[test]
    fn a_coded_response_differs_by_accept_encoding() {
        let parse = |lines| Vary::parse(&crate::policy::fixtures::fields(lines));
        assert_eq!(parse(&[("content-encoding", "gzip")]), fields(&["accept-encoding"]));
        assert_eq!(parse(&[("content-encoding", "gzip"), ("vary", "a")]), fields(&["a", "accept-encoding"]));
        assert_eq!(parse(&[("content-encoding", "dcb")]), fields(&["accept-encoding"]));
        assert_eq!(parse(&[("content-encoding", "identity")]), Vary::Nothing);
        assert_eq!(parse(&[("content-encoding", "gzip"), ("vary", "*")]), Vary::Everything);
    }

    #[test]
    fn none_and_an_empty_one_are_nothing() {
        assert_eq!(parse(&[]), Vary::Nothing);
        assert_eq!(parse(&[b""]), Vary::Nothing);
        assert_eq!(parse(&[b" , ,", b""]), Vary::Nothing);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line in proptest::collection::vec(any::<u8>(), 0..40)) {
            parse(&[&line]);
        }

        #[test]
        fn a_line_with_a_star_is_never_lost(before in "[ -~]{0,20}", after in "[ -~]{0,20}") {
            prop_assert_eq!(parse(&[before.as_bytes(), b"*", after.as_bytes()]), Vary::Everything);
        }
    }
}
