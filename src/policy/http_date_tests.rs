use proptest::prelude::*;

use super::*;

/// 2026-11-21T00:00:00Z
const NOW: Timestamp = Timestamp::from_secs(1_795_219_200);

fn check(text: &str, expected: Option<u64>) {
    assert_eq!(parse(text.as_bytes(), NOW), expected.map(Timestamp::from_secs), "{text:?}");
}

#[test]
fn the_three_forms_are_read_without_regard_to_case() {
    for text in [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun Nov 06 08:49:37 1994",
        "SUN, 06 nov 1994 08:49:37 gMT",
        "Mon, 06 Nov 1994 08:49:37 GMT",
    ] {
        check(text, Some(784_111_777));
    }
}

#[test]
fn whatever_else_looks_like_a_date_is_none() {
    for text in [
        "",
        "0",
        "-1",
        "784111777",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 AEST",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun 06 Nov 1994 08:49:37 GMT",
        "Sun,06 Nov 1994 08:49:37 GMT",
        "Sun, 06  Nov  1994 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08.49.37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:00 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Tue, 29 Feb 2023 00:00:00 GMT",
        "Tue, 29 Feb 2100 00:00:00 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov  6 08:49:37 1994 GMT",
        "2026-11-21T00:00:00Z",
    ] {
        check(text, None);
    }
}

#[test]
fn edges_of_the_calendar() {
    check("Thu, 01 Jan 1970 00:00:00 GMT", Some(0));
    check("Wed, 31 Dec 1969 23:59:59 GMT", Some(0));
    check("Mon, 01 Jan 0001 00:00:00 GMT", Some(0));
    check("Tue, 29 Feb 2000 00:00:00 GMT", Some(951_782_400));
    check("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799));
    check("Sat, 31 Dec 2016 23:59:60 GMT", Some(1_483_228_799));
}

#[test]
fn a_two_digit_year_is_never_more_than_50_years_ahead() {
    check(
        "Thursday, 18-Aug-50 02:01:18 GMT",
        parse(b"Thu, 18 Aug 2050 02:01:18 GMT", NOW).map(Timestamp::as_secs),
    );
    check(
        "Friday, 31-Dec-76 00:00:00 GMT",
        parse(b"Thu, 31 Dec 2076 00:00:00 GMT", NOW).map(Timestamp::as_secs),
    );
    check(
        "Saturday, 31-Dec-77 00:00:00 GMT",
        parse(b"Sat, 31 Dec 1977 00:00:00 GMT", NOW).map(Timestamp::as_secs),
    );
}

#[test]
fn a_field_that_is_repeated_has_no_date() {
    let mut headers = HeaderMap::new();
    let date = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");
    headers.append(http::header::DATE, date.clone());
    assert!(parse_field(&headers, http::header::DATE, NOW).is_some());
    headers.append(http::header::DATE, date);
    assert!(parse_field(&headers, http::header::DATE, NOW).is_none());
}

#[test]
fn years_begin_on_their_first_day() {
    for year in 1971..=9999 {
        let new_year = CivilDate { year, month: 0, day: 1, second: 0 }.to_timestamp().unwrap();
        let old_year = new_year.minus(Duration::from_secs(1));
        assert_eq!((new_year.year(), old_year.year()), (year, year - 1));
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(seconds in 0..=253_402_300_799_u64) {
        let time = Timestamp::from_secs(seconds);
        prop_assert_eq!(parse(format(time).as_bytes(), NOW), Some(time));
        let year = format(time).as_bytes()[12..16].iter().fold(0, |year, digit| year * 10 + u64::from(digit - b'0'));
        prop_assert_eq!(time.year(), year);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), now: u64) {
        parse(&bytes, Timestamp::from_micros(now));
        format(Timestamp::from_micros(now));
    }
}
