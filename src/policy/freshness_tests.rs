use http::HeaderMap;
use proptest::prelude::*;

use super::*;
use crate::policy::testing::{NOW, at_once, headers, secs, terms};

/// NOW is 1994-11-06T08:49:37Z.
fn check_lifetime(response: &str, expected: Option<u64>) {
    let headers = headers(response);
    let lifetime = explicit_lifetime(&CacheControl::parse(&headers), false, &headers, at_once());
    assert_eq!(lifetime, expected.map(secs), "{response}");
}

fn check_age(response: &str, delay: u64, expected: u64) {
    let exchange = ExchangeTimes { requested_at: NOW.minus(secs(delay)), received_at: NOW };
    assert_eq!(initial_age(&headers(response), exchange), secs(expected), "{response}");
}

#[test]
fn s_maxage_comes_before_max_age_and_that_before_expires() {
    check_lifetime(
        "Cache-Control: max-age=10, s-maxage=20\nExpires: Sun, 06 Nov 1994 08:50:37 GMT",
        Some(20),
    );
    check_lifetime("Cache-Control: max-age=10\nExpires: Sun, 06 Nov 1994 08:50:37 GMT", Some(10));
    check_lifetime("Cache-Control: max-age=0\nExpires: Sun, 06 Nov 1994 08:50:37 GMT", Some(0));
    check_lifetime("Cache-Control: max-age=oops\nExpires: Sun, 06 Nov 1994 08:50:37 GMT", Some(0));
    check_lifetime("Cache-Control: max-age=10\nExpires: 0", Some(10));
    check_lifetime("Expires: Sun, 06 Nov 1994 08:50:37 GMT", Some(60));
    check_lifetime("Cache-Control: public\nLast-Modified: Sun, 06 Nov 1994 07:49:37 GMT", None);
}

#[test]
fn expires_counts_from_date() {
    let expires = "Expires: Sun, 06 Nov 1994 08:50:37 GMT\n";
    check_lifetime(&format!("{expires}Date: Sun, 06 Nov 1994 08:49:27 GMT"), Some(70));
    check_lifetime(&format!("{expires}Date: Sun, 06 Nov 1994 08:50:00 GMT"), Some(37));
    check_lifetime(&format!("{expires}Date: Sun, 06 Nov 1994 09:00:00 GMT"), Some(0));
    check_lifetime(&format!("{expires}Date: foo"), Some(60));
}

#[test]
fn an_invalid_expires_is_in_the_past() {
    for expires in ["0", "-1", "", "Sun, 06 Nov 2094 08:50:37 UTC", "1994-11-06T08:50:37Z"] {
        check_lifetime(&format!("Expires: {expires}"), Some(0));
    }
    check_lifetime("Expires: Sun, 06 Nov 1994 08:50:37 GMT\nExpires: Sun, 06 Nov 1994 08:50:37 GMT", Some(0));
}

#[test]
fn age_is_the_first_of_the_list_and_ignored_if_it_is_no_number() {
    for (response, expected) in [
        ("", 0),
        ("Age: 7200", 7200),
        ("Age: 7200, 0", 7200),
        ("Age: 0, 7200", 0),
        ("Age: 7200\nAge: 0", 7200),
        ("Age: 0\nAge: 7200", 0),
        ("Age: ,7200", 7200),
        ("Age: 2147483649", 1 << 31),
        ("Age: 99999999999999999999", 1 << 31),
        ("Age: abc", 0),
        ("Age: -7200", 0),
        ("Age: 7200.0", 0),
        ("Age: 7200;foo=bar", 0),
    ] {
        check_age(response, 0, expected);
    }
}

#[test]
fn the_older_of_what_date_and_age_say_holds() {
    check_age("Date: Sun, 06 Nov 1994 08:49:07 GMT", 0, 30);
    check_age("Date: Sun, 06 Nov 1994 08:49:07 GMT\nAge: 10", 0, 30);
    check_age("Date: Sun, 06 Nov 1994 08:49:07 GMT\nAge: 28", 5, 33);
    check_age("Date: Sun, 06 Nov 1994 09:00:00 GMT\nAge: 10", 5, 15);
    check_age("Date: foo", 5, 5);
}

#[test]
fn a_response_is_stale_from_the_end_of_its_lifetime_on() {
    let terms = Terms { initial_age: secs(10), ..terms() };
    for (millis, is_fresh, ttl) in [
        (0, true, 50),
        (1, true, 49),
        (49_999, true, 0),
        (50_000, false, 0),
        (50_001, false, -1),
        (52_000, false, -2),
    ] {
        let now = NOW.plus(Duration::from_millis(millis));
        assert_eq!((terms.is_fresh(now), terms.ttl(now)), (is_fresh, ttl), "{millis}");
    }
}

#[test]
fn a_clock_step_back_makes_no_response_younger() {
    let terms = Terms { initial_age: secs(10), ..terms() };
    assert_eq!(terms.age(Timestamp::from_micros(0)), secs(10));
}

proptest! {
    #[test]
    fn ages_and_lifetimes_never_overflow(
        requested: u64,
        received: u64,
        now: u64,
        lifetime: u64,
        initial: u64,
        response in "((Age|Date|Expires|Cache-Control): ([0-9]{1,25}|s-maxage=[0-9]{1,25}|Fri, 31 Dec 9999 23:59:59 GMT|[ -~]{0,30})\n){0,4}",
    ) {
        let headers: HeaderMap = headers(&response);
        let exchange = ExchangeTimes {
            requested_at: Timestamp::from_micros(requested),
            received_at: Timestamp::from_micros(received),
        };
        let age = initial_age(&headers, exchange);
        explicit_lifetime(&CacheControl::parse(&headers), false, &headers, exchange);
        let now = Timestamp::from_micros(now);
        for initial_age in [age, secs(initial), Duration::MAX] {
            let terms = Terms {
                received_at: exchange.received_at,
                initial_age,
                freshness_lifetime: secs(lifetime),
                ..terms()
            };
            prop_assert!(terms.age(now) >= initial_age);
            prop_assert_eq!(terms.is_fresh(now), terms.age(now) < terms.freshness_lifetime);
            prop_assert!(terms.ttl(now) == 0 || terms.is_fresh(now) == (terms.ttl(now) > 0));
        }
    }
}
