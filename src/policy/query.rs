//! Selects the query parameters of the key. Parameters outside the key are not forwarded.
//!
//! Parameters are compared by decoded name and forwarded as written, so that the upstream sees exactly what is in
//! the key.

use std::borrow::Cow;

use super::path::percent_decoded;
use crate::purge::is_unreserved;

/// The query parameters that are part of the key.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum QueryRule {
    /// The query as received.
    #[default]
    All,
    /// These parameters only, sorted; with defaults for absent ones.
    Only(Vec<(String, Option<String>)>),
    /// All parameters except these, sorted; a pattern may end in `*`.
    Ignore(Vec<String>),
}

impl QueryRule {
    /// The query that is in the key and goes to the upstream.
    pub(crate) fn select<'q>(&self, query: Option<&'q str>) -> Option<Cow<'q, str>> {
        match self {
            QueryRule::All => query.map(Cow::Borrowed),
            QueryRule::Only(wanted) => join_pairs(select_only(wanted, query), true),
            QueryRule::Ignore(patterns) => {
                let ignored = |name: &str| patterns.iter().any(|pattern| matches_pattern(pattern, name));
                join_pairs(
                    parse_pairs(query).filter(|(name, _)| !ignored(name)).map(own_pair).collect(),
                    true,
                )
            }
        }
    }
}

impl QueryRule {
    /// The decoded names of the parameters that are neither in the key nor sent on, in the order of the query.
    pub(crate) fn left_out<'q>(&self, query: Option<&'q str>) -> Vec<Cow<'q, str>> {
        let is_left_out = |name: &str| match self {
            QueryRule::All => false,
            QueryRule::Only(wanted) => wanted.iter().all(|(want, _)| want != name),
            QueryRule::Ignore(patterns) => patterns.iter().any(|pattern| matches_pattern(pattern, name)),
        };
        let mut names: Vec<Cow<'q, str>> = Vec::new();
        for (name, _) in parse_pairs(query).filter(|(name, _)| is_left_out(name)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The listed name that a left out parameter is another spelling of: `ids` for `ids[]`, `ids[0]` and `Ids`.
    pub(crate) fn listed_name(&self, left_out: &str) -> Option<&str> {
        let QueryRule::Only(wanted) = self else { return None };
        let base = left_out.split_once('[').map_or(left_out, |(base, _)| base);
        wanted.iter().map(|(want, _)| want.as_str()).find(|want| want.eq_ignore_ascii_case(base))
    }
}

/// The decoded values of one parameter, in order.
pub(super) fn query_values(query: Option<&str>, name: &str) -> Vec<String> {
    let named = parse_pairs(query).filter(|(other, _)| other == name);
    named.map(|(_, pair)| decode(pair.split_once('=').map_or("", |(_, value)| value)).into_owned()).collect()
}

/// The decoded name, and the parameter as written.
pub(super) type QueryPair<'q> = (Cow<'q, str>, Cow<'q, str>);

fn select_only<'q>(wanted: &[(String, Option<String>)], query: Option<&'q str>) -> Vec<QueryPair<'q>> {
    let mut chosen: Vec<QueryPair<'q>> = parse_pairs(query)
        .filter(|(name, _)| wanted.iter().any(|(want, _)| want == name))
        .map(own_pair)
        .collect();
    for (name, default) in wanted {
        if let Some(default) = default
            && !chosen.iter().any(|(given, _)| given == name)
        {
            let pair = format!("{}={}", encode(name), encode(default));
            chosen.push((Cow::Owned(name.clone()), Cow::Owned(pair)));
        }
    }
    chosen
}

fn own_pair<'q>((name, pair): (Cow<'q, str>, &'q str)) -> QueryPair<'q> {
    (name, Cow::Borrowed(pair))
}

/// The decoded name of each parameter, and the parameter as written.
pub(super) fn parse_pairs(query: Option<&str>) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| (decode(pair.split_once('=').map_or(pair, |(name, _)| name)), pair))
}

/// The decoded names and values of a query.
pub(super) fn decoded_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    parse_pairs(Some(query))
        .map(|(name, pair)| (name, decode(pair.split_once('=').map_or("", |(_, value)| value))))
}

/// The decoded names and values as readers of `&` see them, and then as readers do that separate by `;`, too.
pub(super) fn decoded_pairs_of_any_reader(form: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let parts = form.split(['&', ';']).map(str::trim_start).filter(|_| form.contains(';'));
    decoded_pairs(form).chain(parts.flat_map(decoded_pairs))
}

/// `sorts`: by name; parameters with the same name keep their order, which is significant.
pub(super) fn join_pairs(mut pairs: Vec<QueryPair<'_>>, sorts: bool) -> Option<Cow<'_, str>> {
    if sorts {
        pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
    }
    match pairs.len() {
        0 => None,
        1 => pairs.pop().map(|(_, pair)| pair),
        _ => Some(Cow::Owned(pairs.iter().map(|(_, pair)| pair.as_ref()).collect::<Vec<_>>().join("&"))),
    }
}

fn matches_pattern(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

/// Form decoding: `+` is a space.
pub(super) fn decode(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        return Cow::Owned(percent_decoded(&text.replace('+', " ")));
    }
    if text.contains('%') { Cow::Owned(percent_decoded(text)) } else { Cow::Borrowed(text) }
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_unreserved(byte) {
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
        assert_eq!(query_values(Some("a=1&b=2&%61=x+y%2C&a"), "a"), ["1", "x y,", ""]);
        assert!(query_values(None, "a").is_empty());
    }
}
