use super::Precondition::{Forward, NotModified, Send};
use super::*;
use crate::policy::testing::{NOW, headers};

/// Modified a minute before its Date.
const DATES: &str = "Last-Modified: Sun, 06 Nov 1994 08:48:37 GMT\nDate: Sun, 06 Nov 1994 08:49:37 GMT";
const MODIFIED: &str = "Sun, 06 Nov 1994 08:48:37 GMT";
const BEFORE: &str = "Sun, 06 Nov 1994 08:48:36 GMT";
const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

fn ask(stored: &str, request: &str) -> Precondition {
    evaluate_precondition(&Method::GET, &headers(request), StatusCode::OK, &headers(stored), NOW)
}

fn check(stored: &str, request: &str, expected: Precondition) {
    assert_eq!(ask(stored, request), expected, "{request} of {stored}");
}

#[test]
fn if_none_match_compares_weakly() {
    for (stored, condition, expected) in [
        ("\"a\"", "\"a\"", NotModified),
        ("\"a\"", "W/\"a\"", NotModified),
        ("W/\"a\"", "\"a\"", NotModified),
        ("W/\"a\"", "W/\"a\"", NotModified),
        ("\"a\"", "\"x\", \"a\", \"y\"", NotModified),
        ("\"a,b\"", "\"x\", \"a,b\"", NotModified),
        ("\"a\"", "*", NotModified),
        ("", "*", NotModified),
        ("\"a\"", "\"b\"", Send),
        ("\"a\"", "a", Send),
        ("a", "a", Send),
        ("a", "\"a\"", Send),
        ("w/\"a\"", "w/\"a\"", Send),
        ("W\\\"a\"", "W\\\"a\"", Send),
        ("W\"a\"", "W\"a\"", Send),
        ("\"a\"", "\"A\"", Send),
    ] {
        let stored = if stored.is_empty() { String::new() } else { format!("ETag: {stored}") };
        check(&stored, &format!("If-None-Match: {condition}"), expected);
    }
    check("ETag: \"ab\u{fc}\"", "If-None-Match: \"ab\u{fc}\"", NotModified);
    check("ETag: \"a\"", "If-None-Match: \"x\"\nIf-None-Match: \"a\"", NotModified);
    check("ETag: \"a\"\nETag: \"b\"", "If-None-Match: \"a\"", Send);
}

#[test]
fn if_modified_since_counts_only_without_if_none_match() {
    let stored = format!("ETag: \"a\"\n{DATES}");
    check(&stored, &format!("If-Modified-Since: {MODIFIED}"), NotModified);
    check(&stored, &format!("If-None-Match: \"b\"\nIf-Modified-Since: {MODIFIED}"), Send);
    check(&stored, &format!("If-None-Match: \"a\"\nIf-Modified-Since: {BEFORE}"), NotModified);
}

#[test]
fn if_modified_since_compares_dates_of_any_form() {
    for (date, expected) in [
        (MODIFIED, NotModified),
        (AFTER, NotModified),
        ("Sunday, 06-Nov-94 08:48:37 GMT", NotModified),
        ("Sun Nov  6 08:48:37 1994", NotModified),
        (BEFORE, Send),
        ("Sun, 06 Nov 1994 08:48:37 UTC", Send),
        ("yesterday", Send),
    ] {
        check(DATES, &format!("If-Modified-Since: {date}"), expected);
    }
    check(DATES, &format!("If-Modified-Since: {AFTER}\nIf-Modified-Since: {AFTER}"), Send);
    check("", &format!("If-Modified-Since: {AFTER}"), Send);
    check(
        "Last-Modified: x\nDate: Sun, 06 Nov 1994 08:49:37 GMT",
        &format!("If-Modified-Since: {AFTER}"),
        Send,
    );
}

#[test]
fn without_last_modified_an_earlier_date_stands_for_it() {
    let date = "Date: Sun, 06 Nov 1994 08:48:37 GMT";
    check(date, &format!("If-Modified-Since: {AFTER}"), NotModified);
    check(date, &format!("If-Modified-Since: {MODIFIED}"), Send);
    check(date, &format!("If-Modified-Since: {BEFORE}"), Send);
}

#[test]
fn what_would_be_412_is_the_upstreams_to_say() {
    for (stored, request, expected) in [
        ("ETag: \"a\"", "If-Match: \"a\"".to_owned(), Send),
        ("ETag: \"a\"", "If-Match: \"x\", \"a\"".to_owned(), Send),
        ("ETag: \"a\"", "If-Match: *".to_owned(), Send),
        ("ETag: \"a\"", "If-Match: \"b\"".to_owned(), Forward),
        ("ETag: \"a\"", "If-Match: W/\"a\"".to_owned(), Forward),
        ("ETag: W/\"a\"", "If-Match: W/\"a\"".to_owned(), Forward),
        ("", "If-Match: \"a\"".to_owned(), Forward),
        ("ETag: \"a\"", "If-Match: a".to_owned(), Forward),
        ("ETag: \"a\"", "If-Match: \"b\"\nIf-None-Match: \"a\"".to_owned(), Forward),
        ("ETag: \"a\"", "If-Match: \"a\"\nIf-None-Match: \"a\"".to_owned(), NotModified),
        (DATES, format!("If-Unmodified-Since: {MODIFIED}"), Send),
        (DATES, format!("If-Unmodified-Since: {BEFORE}"), Forward),
        (DATES, "If-Unmodified-Since: yesterday".to_owned(), Send),
        ("", format!("If-Unmodified-Since: {MODIFIED}"), Forward),
    ] {
        check(stored, &request, expected);
    }
    let both = format!("If-Match: \"a\"\nIf-Unmodified-Since: {BEFORE}");
    check(&format!("ETag: \"a\"\n{DATES}"), &both, Send);
}

#[test]
fn conditions_apply_to_successful_selections_only() {
    let (stored, request) = (headers("ETag: \"a\""), headers("If-None-Match: \"a\""));
    for (method, status, expected) in [
        (Method::GET, 200, NotModified),
        (Method::HEAD, 200, NotModified),
        (Method::OPTIONS, 200, Send),
        (Method::GET, 204, Send),
        (Method::GET, 301, Send),
        (Method::GET, 404, Send),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(
            evaluate_precondition(&method, &request, status, &stored, NOW),
            expected,
            "{method} {status}"
        );
    }
}
