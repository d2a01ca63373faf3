use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

fn parse(lines: &[&str]) -> CacheControl {
    CacheControl::parse_values(lines.iter().map(|line| line.as_bytes()))
}

fn check(lines: &[&str], expected: CacheControl) {
    assert_eq!(parse(lines), expected, "{lines:?}");
}

#[test]
fn every_directive_has_its_field() {
    check(
        &["max-age=1, s-maxage=2, no-store, no-cache, private, public, must-revalidate, proxy-revalidate"],
        CacheControl {
            max_age: seconds(1),
            s_maxage: seconds(2),
            no_store: true,
            no_cache: true,
            private: true,
            public: true,
            must_revalidate: true,
            proxy_revalidate: true,
            ..Default::default()
        },
    );
    check(
        &[
            "must-understand, no-transform, only-if-cached, stale-while-revalidate=3, stale-if-error=4, max-stale=5, min-fresh=6",
        ],
        CacheControl {
            must_understand: true,
            no_transform: true,
            only_if_cached: true,
            stale_while_revalidate: seconds(3),
            stale_if_error: seconds(4),
            max_stale: Some(seconds(5)),
            min_fresh: seconds(6),
            ..Default::default()
        },
    );
}

#[test]
fn max_age_is_parsed_in_valid_forms_and_zero_in_others() {
    for (line, expected) in [
        ("max-age=3600", 3600),
        ("MaX-aGe=3600", 3600),
        ("max-age=\"3600\"", 3600),
        ("max-age=003600", 3600),
        ("foobar, max-age=3600", 3600),
        (" , ,\t max-age=3600 ,,", 3600),
        ("max-age=2147483647", 2_147_483_647),
        ("max-age=99999999999", 2_147_483_648),
        ("max-age=99999999999999999999999999999999999", 2_147_483_648),
        ("extension=\"max-age=3600\", max-age=1", 1),
        ("max-age=1, extension=\"max-age=3600\"", 1),
        ("extension=\"a\\\", max-age=3600\", max-age=1", 1),
        ("max-age=1800, max-age=1", 1),
        ("max-age=1, max-age=1800", 1),
        ("max-age='3600'", 0),
        ("max-age=-3600", 0),
        ("max-age=+3600", 0),
        ("max-age=3600.0", 0),
        ("max-age=3600a", 0),
        ("max-age=a3600", 0),
        ("max-age=", 0),
        ("max-age", 0),
        ("max-age =3600", 0),
        ("max-age= 3600", 0),
        ("max-age=36 00", 0),
        ("max-age=\"3600", 0),
        ("max-age=\"36\\00\"", 0),
        ("max-age=3600\"\"", 0),
        ("max-age:3600", 0),
        ("max-age=3600; public", 0),
        ("max-age=3600, max-age=x", 0),
    ] {
        assert_eq!(parse(&[line]).max_age, seconds(expected), "{line:?}");
    }
}

#[test]
fn several_lines_are_one_list() {
    check(
        &["max-age=1800", "no-cache", "max-age=60"],
        CacheControl { max_age: seconds(60), no_cache: true, ..Default::default() },
    );
}

#[test]
fn what_restricts_holds_in_every_spelling() {
    for line in [
        "no-store",
        "No-StOrE",
        "no-store=1",
        "no-store=\"x\"",
        "no-store; max-age=60",
        "max-age=60; no-store",
        "public no-store",
        "foo=\"bar, no-store",
        "foo=\"bar\\\", no-store",
        "no-store =",
        "max-age=60,no-store",
    ] {
        assert!(parse(&[line]).no_store, "{line:?}");
    }
    assert!(parse(&["private=\"set-cookie, x\""]).private);
    assert!(parse(&["no-cache=\"a\""]).no_cache);
}

#[test]
fn what_permits_holds_only_if_it_is_spelled_right() {
    for line in ["public=1", "public; max-age=60", "public max-age=60", "x=\"public", "\"public\"", "public="]
    {
        assert!(!parse(&[line]).public, "{line:?}");
    }
}

#[test]
fn what_stands_in_quotes_or_is_unknown_says_nothing() {
    for line in
        ["foo=\"no-store, private\"", "no-storex", "xno-store", "immutable", "foo=no-store", "\u{fc}", "="]
    {
        check(&[line], CacheControl::default());
    }
}

#[test]
fn the_stricter_request_directive_holds() {
    assert_eq!(parse(&["max-stale"]).max_stale, Some(None));
    assert_eq!(parse(&["max-stale, max-stale=5"]).max_stale, Some(seconds(5)));
    assert_eq!(parse(&["max-stale=5, max-stale"]).max_stale, Some(seconds(5)));
    assert_eq!(parse(&["max-stale=x"]).max_stale, Some(seconds(0)));
    assert_eq!(parse(&["min-fresh=5, min-fresh=9"]).min_fresh, seconds(9));
    assert_eq!(parse(&["min-fresh=x"]).min_fresh, Some(MAX_DELTA_SECONDS));
}

#[test]
fn a_field_full_of_open_quotes_is_read_in_one_pass() {
    let line = "\"\\".repeat(1 << 20);
    check(&[&line], CacheControl::default());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..4)) {
        CacheControl::parse_values(lines.iter().map(Vec::as_slice));
    }

    #[test]
    fn a_no_store_of_its_own_line_is_never_lost(before in "[ -~]{0,40}", after in "[ -~]{0,40}") {
        prop_assert!(parse(&[&before, "no-store", &after]).no_store);
    }

    #[test]
    fn one_more_line_never_lengthens_a_lifetime(first in 0..100_u64, line in "(max-age|s-maxage)?[ =\"',0-9]{0,8}") {
        let before = format!("max-age={first}");
        prop_assert!(parse(&[&before, &line]).max_age <= parse(&[&before]).max_age);
    }
}

#[test]
fn all_lines_of_a_message_are_read() {
    let mut headers = HeaderMap::new();
    headers.append(CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
    headers.append(CACHE_CONTROL, HeaderValue::from_static("private"));
    let directives = CacheControl::parse(&headers);
    assert_eq!((directives.max_age, directives.private), (seconds(60), true));
}
