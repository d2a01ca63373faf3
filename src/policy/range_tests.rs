use proptest::prelude::*;

use super::*;
use crate::policy::testing::headers;

const STORED: &str =
    "ETag: \"1\"\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\nDate: Sun, 06 Nov 1994 08:49:38 GMT";

fn check(request: &str, expected: SelectedRange) {
    assert_eq!(select_range(&headers(request), &headers(STORED), 10), expected, "{request}");
}

fn parts(parts: &[(u64, u64)]) -> SelectedRange {
    SelectedRange::Parts(parts.to_vec())
}

#[test]
fn parts_are_cut_at_the_end_and_stand_in_the_order_asked_for() {
    for (range, expected) in [
        ("bytes=0-0", &[(0, 0)][..]),
        ("bytes=0-1", &[(0, 1)]),
        ("bytes=1-", &[(1, 9)]),
        ("bytes=-1", &[(9, 9)]),
        ("bytes=-99", &[(0, 9)]),
        ("bytes=5-99", &[(5, 9)]),
        ("bytes=0-9", &[(0, 9)]),
        ("Bytes=0-1", &[(0, 1)]),
        ("bytes=8-9,0-1", &[(8, 9), (0, 1)]),
        ("bytes= , 0-1 ,\t4-5,, -1", &[(0, 1), (4, 5), (9, 9)]),
        ("bytes=0-1, 10-", &[(0, 1)]),
        ("bytes=5-99999999999999999999999999", &[(5, 9)]),
    ] {
        check(&format!("Range: {range}"), parts(expected));
    }
}

#[test]
fn what_lies_past_the_end_is_not_satisfiable() {
    for range in
        ["bytes=10-", "bytes=10-11", "bytes=-0", "bytes=99999999999999999999999999-", "bytes=10-,20-"]
    {
        check(&format!("Range: {range}"), SelectedRange::NotSatisfiable);
    }
}

#[test]
fn what_can_not_be_read_or_asks_for_too_much_gets_the_whole() {
    let many: Vec<_> = (0..=MAX_RANGES).map(|at| format!("{at}-{at}")).collect();
    check(&format!("Range: bytes={}", many.join(",")), SelectedRange::Whole);
    check("", SelectedRange::Whole);
    check("Range: bytes=0-1\nRange: bytes=2-3", SelectedRange::Whole);
    for range in [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-b",
        "bytes=1-0",
        "bytes=0-1,x",
        "bytes=+0-1",
        "bytes=0 - 1",
        "bytes =0-1",
        "items=0-1",
        "bytes=0-5,3-9",
        "bytes=0-,-1",
        "bytes=0-1-2",
    ] {
        check(&format!("Range: {range}"), SelectedRange::Whole);
    }
}

#[test]
fn if_range_wants_the_same_strong_validator() {
    let strong_date = "If-Range: Sun, 06 Nov 1994 08:49:37 GMT";
    for condition in ["If-Range: \"1\"", strong_date] {
        check(&format!("Range: bytes=0-1\n{condition}"), parts(&[(0, 1)]));
    }
    for condition in [
        "If-Range: \"2\"",
        "If-Range: W/\"1\"",
        "If-Range: 1",
        "If-Range: *",
        "If-Range:",
        "If-Range: \"1\", \"2\"",
        "If-Range: \"1\"\nIf-Range: \"1\"",
        "If-Range: Sun, 06 Nov 1994 08:49:38 GMT",
        "If-Range: Sunday, 06-Nov-94 08:49:37 GMT",
    ] {
        check(&format!("Range: bytes=0-1\n{condition}"), SelectedRange::Whole);
    }
    let request = headers(&format!("Range: bytes=0-1\n{strong_date}"));
    for weak in [
        "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\nDate: Sun, 06 Nov 1994 08:49:37 GMT",
        "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT",
        "ETag: W/\"1\"",
        "",
    ] {
        assert_eq!(select_range(&request, &headers(weak), 10), SelectedRange::Whole, "{weak}");
    }
}

#[test]
fn no_range_is_cut_out_of_compressed_content() {
    let request = headers("Range: bytes=0-1\nIf-Range: \"1\"");
    for (fields, expected) in [
        ("Accept-Ranges: none\nContent-Encoding: gzip", SelectedRange::Whole),
        ("Accept-Ranges: bytes\nContent-Encoding: gzip", parts(&[(0, 1)])),
        ("Accept-Ranges: none", parts(&[(0, 1)])),
    ] {
        let stored = headers(&format!("{STORED}\n{fields}"));
        assert_eq!(select_range(&request, &stored, 10), expected, "{fields}");
    }
}

#[test]
fn nothing_is_cut_out_of_empty_content() {
    for (range, expected) in [
        ("bytes=0-", SelectedRange::NotSatisfiable),
        ("bytes=0-1", SelectedRange::NotSatisfiable),
        ("bytes=-0", SelectedRange::NotSatisfiable),
        ("bytes=-5", SelectedRange::Whole),
    ] {
        assert_eq!(
            select_range(&headers(&format!("Range: {range}")), &HeaderMap::new(), 0),
            expected,
            "{range}"
        );
    }
}

proptest! {
    #[test]
    fn parts_lie_within_the_content_and_apart(range in "bytes=([0-9]{0,3}-[0-9]{0,3},?){1,5}", length in 0..200_u64) {
        if let SelectedRange::Parts(parts) = select_range(&headers(&format!("Range: {range}")), &HeaderMap::new(), length) {
            prop_assert!(!parts.is_empty());
            prop_assert!(parts.iter().all(|(first, last)| first <= last && *last < length));
            prop_assert!(parts.iter().map(|(first, last)| last - first + 1).sum::<u64>() <= length);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(range in "[ -~]{0,30}", length: u64) {
        select_range(&headers(&format!("Range: bytes={range}")), &HeaderMap::new(), length);
    }
}
