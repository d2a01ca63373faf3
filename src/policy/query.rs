//! Which parameters of the query make the key. What is dropped from the key is not forwarded either.
//!
//! Parameters are told apart by their decoded names, but go on as they were written: nothing is encoded anew, so
//! that the upstream sees exactly what stands in the key.

use std::borrow::Cow;

use super::path::percent_decoded;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum QueryRule {
    /// The query as it came.
    #[default]
    All,
    /// Only these, sorted; with a default where the request leaves one out.
    Only(Vec<(String, Option<String>)>),
    /// All but these; a pattern may end in `*`. The rest is sorted.
    Ignore(Vec<String>),
}

impl QueryRule {
    /// The query that stands in the key and goes to the upstream.
    pub fn select<'q>(&self, query: Option<&'q str>) -> Option<Cow<'q, str>> {
        match self {
            QueryRule::All => query.map(Cow::Borrowed),
            QueryRule::Only(wanted) => joined(only(wanted, query)),
            QueryRule::Ignore(patterns) => {
                let ignored = |name: &str| patterns.iter().any(|pattern| matches(pattern, name));
                joined(pairs(query).filter(|(name, _)| !ignored(name)).map(into_owned).collect())
            }
        }
    }
}

/// The decoded values of one parameter, in their order.
pub(super) fn values(query: Option<&str>, name: &str) -> Vec<String> {
    let named = pairs(query).filter(|(other, _)| other == name);
    named.map(|(_, pair)| decoded(pair.split_once('=').map_or("", |(_, value)| value)).into_owned()).collect()
}

/// Decoded name, and the parameter as it is written.
type Pair<'q> = (Cow<'q, str>, Cow<'q, str>);

fn only<'q>(wanted: &[(String, Option<String>)], query: Option<&'q str>) -> Vec<Pair<'q>> {
    let mut chosen: Vec<Pair<'q>> = pairs(query)
        .filter(|(name, _)| wanted.iter().any(|(want, _)| want == name))
        .map(into_owned)
        .collect();
    for (name, default) in wanted {
        if let Some(default) = default
            && !chosen.iter().any(|(given, _)| given == name)
        {
            let pair = format!("{}={}", encoded(name), encoded(default));
            chosen.push((Cow::Owned(name.clone()), Cow::Owned(pair)));
        }
    }
    chosen
}

fn into_owned<'q>((name, pair): (Cow<'q, str>, &'q str)) -> Pair<'q> {
    (name, Cow::Borrowed(pair))
}

fn pairs(query: Option<&str>) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| (decoded(pair.split_once('=').map_or(pair, |(name, _)| name)), pair))
}

/// Sorted by name; parameters of one name keep their order, which means something.
fn joined(mut pairs: Vec<Pair<'_>>) -> Option<Cow<'_, str>> {
    pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
    match pairs.len() {
        0 => None,
        1 => pairs.pop().map(|(_, pair)| pair),
        _ => Some(Cow::Owned(pairs.iter().map(|(_, pair)| pair.as_ref()).collect::<Vec<_>>().join("&"))),
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

/// As forms write it: `+` is a space.
fn decoded(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        return Cow::Owned(percent_decoded(&text.replace('+', " ")));
    }
    if text.contains('%') { Cow::Owned(percent_decoded(text)) } else { Cow::Borrowed(text) }
}

fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: &QueryRule, cases: &[(Option<&str>, Option<&str>)]) {
        for (query, expected) in cases {
            assert_eq!(rule.select(*query).as_deref(), *expected, "{query:?}");
        }
    }

    #[test]
    fn all_is_byte_for_byte() {
        for query in [None, Some(""), Some("b=2&a=1&&"), Some("%61=+")] {
            assert!(matches!(QueryRule::All.select(query), None | Some(Cow::Borrowed(_))));
            assert_eq!(QueryRule::All.select(query).as_deref(), query);
        }
    }

    #[test]
    fn only_takes_the_named_sorted_and_completed() {
        let page = ("page".to_owned(), Some("1".to_owned()));
        let difficulty = ("difficulty".to_owned(), None);
        check(
            &QueryRule::Only(vec![page, difficulty]),
            &[
                (None, Some("page=1")),
                (Some(""), Some("page=1")),
                (Some("utm=x"), Some("page=1")),
                (Some("page=2"), Some("page=2")),
                (Some("page=2&difficulty=hard&x=1"), Some("difficulty=hard&page=2")),
                (Some("page=2&page=1"), Some("page=2&page=1")),
                (Some("page=1&page=2"), Some("page=1&page=2")),
                (Some("p%61ge=2"), Some("p%61ge=2")),
                (Some("page"), Some("page")),
                (Some("page="), Some("page=")),
                (Some("Page=2"), Some("page=1")),
                (Some("page[]=2"), Some("page=1")),
                (Some("page=2;x=1"), Some("page=2;x=1")),
            ],
        );
        check(
            &QueryRule::Only(vec![("a b".to_owned(), Some("&=".to_owned()))]),
            &[(None, Some("a%20b=%26%3D")), (Some("a+b=1"), Some("a+b=1"))],
        );
        check(&QueryRule::Only(vec![]), &[(Some("a=1"), None), (Some(""), None)]);
    }

    #[test]
    fn ignore_takes_all_others_sorted() {
        check(
            &QueryRule::Ignore(vec!["utm_*".to_owned(), "ref".to_owned()]),
            &[
                (None, None),
                (Some("utm_source=x"), None),
                (Some("b=2&utm_source=x&a=1"), Some("a=1&b=2")),
                (Some("ref=x&reference=y"), Some("reference=y")),
                (Some("%75tm_x=1&a=1"), Some("a=1")),
                (Some("b=2&b=1&a=3"), Some("a=3&b=2&b=1")),
            ],
        );
    }

    #[test]
    fn the_values_of_a_parameter_are_decoded() {
        assert_eq!(values(Some("a=1&b=2&%61=x+y%2C&a"), "a"), ["1", "x y,", ""]);
        assert!(values(None, "a").is_empty());
    }
}
