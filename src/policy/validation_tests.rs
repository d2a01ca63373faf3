use http::Method;

use super::ValidationResult::{Failed, Freshened, Mismatch, Replaced};
use super::*;
use crate::policy::testing::{NOW, headers, request, route, secs, stored, terms, with_ttl};
use crate::policy::validators::has_validator;

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const OTHER_DATE: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

fn head(response: &str) -> StoredHead {
    stored(response, terms())
}

#[test]
fn conditions_are_the_validators_byte_for_byte() {
    for (response, expected) in [
        ("ETag: \"1\"".to_owned(), "If-None-Match: \"1\"".to_owned()),
        ("ETag: W/\"1\"".to_owned(), "If-None-Match: W/\"1\"".to_owned()),
        ("ETag: \"ab\u{fc}\"".to_owned(), "If-None-Match: \"ab\u{fc}\"".to_owned()),
        (format!("Last-Modified: {DATE}"), format!("If-Modified-Since: {DATE}")),
        (
            format!("ETag: \"1\"\nLast-Modified: {DATE}"),
            format!("If-None-Match: \"1\"\nIf-Modified-Since: {DATE}"),
        ),
        (format!("ETag: *\nLast-Modified: {DATE}"), format!("If-Modified-Since: {DATE}")),
        ("ETag: unquoted".to_owned(), String::new()),
        ("ETag: \"1\"\nETag: \"2\"".to_owned(), String::new()),
        ("Last-Modified: yesterday".to_owned(), String::new()),
        (String::new(), String::new()),
    ] {
        let fields = build_conditional_fields(&head(&response));
        assert_eq!(fields, headers(&expected), "{response}");
        assert_eq!(has_validator(&head(&response).fields.to_map()), !fields.is_empty(), "{response}");
    }
}

#[test]
fn a_304_freshens_only_what_it_selects() {
    let (modified, other) = (format!("Last-Modified: {DATE}"), format!("Last-Modified: {OTHER_DATE}"));
    let both = format!("ETag: \"1\"\n{modified}");
    for (stored, update, expected) in [
        ("ETag: \"1\"", "ETag: \"1\"", Freshened { strong: true }),
        (&both, "ETag: \"1\"", Freshened { strong: true }),
        (&both, &format!("ETag: \"1\"\n{other}"), Freshened { strong: true }),
        ("ETag: \"1\"", "ETag: W/\"1\"", Freshened { strong: false }),
        ("ETag: W/\"1\"", "ETag: W/\"1\"", Freshened { strong: false }),
        (&both, &modified, Freshened { strong: false }),
        (&modified, &modified, Freshened { strong: false }),
        ("ETag: \"1\"", "", Freshened { strong: false }),
        (&modified, "", Freshened { strong: false }),
        ("ETag: \"1\"", "ETag: \"2\"", Mismatch),
        (&both, &format!("ETag: \"2\"\n{modified}"), Mismatch),
        ("ETag: W/\"1\"", "ETag: \"1\"", Mismatch),
        ("ETag: W/\"1\"", "ETag: W/\"2\"", Mismatch),
        ("ETag: \"1\"", "ETag: 1", Mismatch),
        ("ETag: \"1\"", "ETag: \"1\"\nETag: \"2\"", Mismatch),
        (&modified, &format!("ETag: \"1\"\n{modified}"), Mismatch),
        (&modified, &other, Mismatch),
        ("ETag: \"1\"", &modified, Mismatch),
    ] {
        let answer = evaluate_validation(&head(stored), StatusCode::NOT_MODIFIED, &headers(update));
        assert_eq!(answer, expected, "{update} after {stored}");
    }
}

#[test]
fn a_304_selected_by_more_fields_is_another_variant() {
    for (stored, update, expected) in [
        ("Vary: a, b", "Vary: B", true),
        ("Vary: a, b", "", true),
        ("", "Vary:", true),
        ("", "Vary: a", false),
        ("Vary: a", "Vary: a, b", false),
        ("Vary: a", "Vary: *", false),
    ] {
        let (stored, update) = (format!("ETag: \"1\"\n{stored}"), format!("ETag: \"1\"\n{update}"));
        let answer = evaluate_validation(&head(&stored), StatusCode::NOT_MODIFIED, &headers(&update));
        assert_eq!(answer == Freshened { strong: true }, expected, "{update} after {stored}");
    }
}

#[test]
fn other_answers_replace_it_and_errors_of_the_upstream_fail() {
    for (status, expected) in
        [(200, Replaced), (206, Replaced), (404, Replaced), (412, Replaced), (999, Replaced)]
    {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(
            evaluate_validation(&head("ETag: \"1\""), status, &HeaderMap::new()),
            expected,
            "{status}"
        );
    }
    for status in [500, 502, 503, 504, 599] {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(evaluate_validation(&head("ETag: \"1\""), status, &HeaderMap::new()), Failed, "{status}");
    }
}

#[test]
fn a_304_keeps_the_fields_that_describe_the_stored_bytes() {
    for name in [
        "Test-Header",
        "Content-Foo",
        "Cache-Control",
        "Expires",
        "Content-Location",
        "Content-Security-Policy",
        "Last-Modified",
        "Date",
        "X-Frame-Options",
        "Link",
    ] {
        let updated =
            merge_headers(&headers(&format!("{name}: a")), &headers(&format!("{name}: b\n{name}: c")));
        assert_eq!(updated, headers(&format!("{name}: b\n{name}: c")), "{name}");
    }
    for name in [
        "Accept-Ranges",
        "Content-Length",
        "Content-Encoding",
        "Content-Type",
        "Content-Range",
        "ETag",
        "Vary",
        "Content-MD5",
        "Repr-Digest",
    ] {
        let updated = merge_headers(&headers(&format!("{name}: a")), &headers(&format!("{name}: b")));
        assert_eq!(updated, headers(&format!("{name}: a")), "{name}");
    }
}

#[test]
fn a_304_brings_nothing_in_that_may_not_be_stored() {
    let update = "Connection: close, X-Mine\nX-Mine: 1\nKeep-Alive: 5\nTransfer-Encoding: chunked\nUpgrade: h2c\n\
                  Proxy-Authenticate: x\nTE: x\nTrailer: x\nSet-Cookie: a=b\nSet-Cookie2: a=b\nAge: 5\nX-Other: 2";
    assert_eq!(merge_headers(&HeaderMap::new(), &headers(update)), headers("X-Other: 2"));
}

#[test]
fn what_a_304_does_not_name_stays_but_for_date_and_age() {
    let stored = headers(&format!("Test: a\nTest: b\nDate: {DATE}\nAge: 3"));
    assert_eq!(merge_headers(&stored, &HeaderMap::new()), headers("Test: a\nTest: b"));
    let update = headers(&format!("Date: {OTHER_DATE}"));
    assert_eq!(merge_headers(&stored, &update), headers(&format!("Test: a\nTest: b\nDate: {OTHER_DATE}")));
}

fn freshened(route: &Route, stored: &StoredHead, update: &str) -> Result<(HeaderMap, Terms), NotStored> {
    let later = NOW.plus(secs(100));
    let exchange = ExchangeTimes { requested_at: later, received_at: later };
    let fields = HeaderMap::new();
    let update = headers(update);
    let update = ReceivedResponse { status: StatusCode::NOT_MODIFIED, headers: &update, exchange };
    freshen(route, Caller::InKey, &request(&Method::GET, &fields), stored, update)
}

#[test]
fn a_freshened_response_is_as_old_as_the_304() {
    let stored = head(&format!("ETag: \"1\"\nCache-Control: max-age=60\nDate: {DATE}"));
    for (update, age, lifetime) in [
        ("ETag: \"1\"", 0, 60),
        ("ETag: \"1\"\nAge: 7", 7, 60),
        ("ETag: \"1\"\nCache-Control: max-age=3600", 0, 3600),
    ] {
        let (headers, terms) = freshened(&route(), &stored, update).unwrap();
        assert_eq!((terms.initial_age, terms.freshness_lifetime), (secs(age), secs(lifetime)), "{update}");
        assert_eq!(terms.received_at, NOW.plus(secs(100)));
        assert!(!headers.contains_key(AGE));
    }
}

#[test]
fn a_304_can_end_what_was_stored() {
    let stored = head("ETag: \"1\"\nCache-Control: max-age=60");
    for (update, expected) in [
        ("Cache-Control: no-store", NotStored::NoStore),
        ("Cache-Control: private", NotStored::Private),
        ("Set-Cookie: a=b", NotStored::SetCookie),
        ("Cache-Control: public", NotStored::NoLifetime),
    ] {
        assert_eq!(freshened(&route(), &stored, update).err(), Some(expected), "{update}");
    }
    assert!(freshened(&with_ttl(30), &stored, "Cache-Control: public").is_ok());
}

#[test]
fn a_304_closes_a_response_to_credentials_and_does_not_open_it() {
    for (open, update, expected) in [
        (true, "Cache-Control: public", true),
        (true, "Cache-Control: max-age=60", false),
        (false, "Cache-Control: public", false),
    ] {
        let terms = Terms { open_to_credentials: open, ..terms() };
        let stored = stored("ETag: \"1\"\nCache-Control: max-age=60", terms);
        let (_, terms) = freshened(&with_ttl(30), &stored, update).unwrap();
        assert_eq!(terms.open_to_credentials, expected, "{open} {update}");
    }
}
