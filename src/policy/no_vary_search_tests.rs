use super::*;
use crate::policy::fixtures::fields;

fn parse(field: &str) -> Option<SearchVariance> {
    SearchVariance::parse(&fields(&[("no-vary-search", field)]))
}

fn simplify(field: &str, query: &str) -> Option<String> {
    let variance = parse(field).expect("a valid field");
    LookupQuery::simplified(Some(query.into()), &variance).sent().map(str::to_owned)
}

/// The draft's lists of invalid fields, and of fields that are equal to none.
#[test]
fn an_invalid_field_is_ignored() {
    for field in [
        "",
        "unknown-key",
        "key-order=\"not a boolean\"",
        "params=\"not a boolean or inner list\"",
        "params=(not-a-string)",
        "params=(\"a\"), except=(\"x\")",
        "params=(), except=()",
        "params=?0, except=(\"x\")",
        "params, except=(not-a-string)",
        "params, except=\"not an inner list\"",
        "params, except=?1",
        "except=(\"x\")",
        "except=()",
        // Not structured fields at all.
        "params=(\"a\"",
        "params=(\"a\",\"b\")",
        "Params",
        "params=(\"\u{e9}\")",
        "key-order,",
        // Valid, and the same as no field.
        "params=?0",
        "params=()",
        "key-order=?0",
    ] {
        assert_eq!(parse(field), None, "{field}");
    }
    assert_eq!(SearchVariance::parse(&HeaderMap::new()), None);
}

#[test]
fn a_field_that_is_too_large_is_ignored() {
    let names = |count: usize| (0..count).map(|at| format!("\"p{at}\"")).collect::<Vec<_>>().join(" ");
    assert!(parse(&format!("params=({})", names(MAX_NAMES))).is_some());
    assert!(parse(&format!("params=({})", names(MAX_NAMES + 1))).is_none());
    assert!(parse(&format!("params=(\"{}\")", "x".repeat(MAX_FIELD_BYTES))).is_none());
    let query = |count: usize| vec!["a=1"; count].join("&");
    assert_eq!(simplify("params", &query(MAX_PARAMETERS)), None);
    assert_eq!(simplify("params", &query(MAX_PARAMETERS + 1)), Some(query(MAX_PARAMETERS + 1)));
}

#[test]
fn a_query_is_simplified_by_the_field() {
    for (field, query, simple) in [
        ("params=(\"utm\")", "id=1&utm=x", Some("id=1")),
        ("params=(\"utm\")", "utm=x&utm=y&%75tm=z", None),
        ("params=(\"utm\")", "utm_x=1&UTM=2", Some("utm_x=1&UTM=2")),
        ("params=(\"a+b\" \"%C3%A9\")", "a%20b=1&a+b=2&\u{e9}=3&c", Some("c")),
        ("params", "a=1&b=2", None),
        ("params=?1", "a=1", None),
        ("params, except=(\"id\")", "utm=x&id=2&id=1&x", Some("id=2&id=1")),
        ("params, except=()", "a=1", None),
        ("params;x=1, except=(\"id\";y);z", "utm=x&id=2", Some("id=2")),
        ("key-order", "b=1&a=2&a=1", Some("a=2&a=1&b=1")),
        ("key-order, params=(\"u\")", "c&u&b&a", Some("a&b&c")),
        ("key-order, unknown=1", "b&a", Some("a&b")),
        // The order counts where nothing is said of it.
        ("params=(\"u\")", "b&u&a", Some("b&a")),
        // The value goes on to the next `&`, whatever is in it.
        ("params=(\"u\")", "u=1;id=2&id=3", Some("id=3")),
        ("params, except=(\"id\")", "id=1;u=2&u", Some("id=1;u=2")),
        ("params=(\"u\")", "&&a&&", Some("a")),
    ] {
        assert_eq!(simplify(field, query).as_deref(), simple, "{field} {query}");
    }
    let two_lines = fields(&[("no-vary-search", "key-order"), ("no-vary-search", "params=(\"u\")")]);
    assert_eq!(SearchVariance::parse(&two_lines), parse("key-order, params=(\"u\")"));
}

#[test]
fn a_response_answers_a_query_only_by_its_own_field() {
    let hint = parse("params=(\"utm\" \"ref\")").unwrap();
    let lookup = LookupQuery::simplified(Some("id=1&utm=x".into()), &hint);
    assert!(lookup.is_simplified());
    for (field, accepts) in [
        ("params=(\"utm\")", true),
        ("params=(\"utm\" \"id\")", true),
        ("params", true),
        ("key-order, params=(\"utm\")", true),
        ("params=(\"ref\")", false),
        ("key-order", false),
        ("params, except=(\"utm\")", false),
        ("nonsense=", false),
    ] {
        assert_eq!(lookup.accepts(&fields(&[("no-vary-search", field)])), accepts, "{field}");
    }
    assert!(!lookup.accepts(&HeaderMap::new()));
    let plain = LookupQuery::simplified(Some("id=1".into()), &hint);
    assert!(!plain.is_simplified() && plain.accepts(&HeaderMap::new()));
}

proptest::proptest! {
    /// A client's parameter never reaches a response that answers for others without it.
    #[test]
    fn only_what_all_have_sent_is_sent(
        query in "([a-c]|%6[1-3])(=[xy])?(&([a-c]|%6[1-3])(=[xy])?){0,4}",
        names in "(\"[a-c]\" ?){0,2}",
        kind in 0..4_u8,
    ) {
        let field = match kind {
            0 => format!("params=({names})"),
            1 => format!("params, except=({names})"),
            2 => format!("key-order, params=({names})"),
            _ => "key-order".to_owned(),
        };
        if let Some(variance) = parse(&field) {
            let lookup = LookupQuery::simplified(Some(query.as_str().into()), &variance);
            let asked: Vec<&str> = query.split('&').collect();
            for sent in lookup.sent().into_iter().flat_map(|sent| sent.split('&')) {
                proptest::prop_assert!(asked.contains(&sent));
            }
            proptest::prop_assert!(lookup.accepts(&fields(&[("no-vary-search", &field)])));
            // A simple query stays as it is, so that all equivalent ones have one key.
            let again = LookupQuery::simplified(lookup.sent().map(Into::into), &variance);
            proptest::prop_assert!(!again.is_simplified() && again.sent() == lookup.sent());
        }
    }
}
