use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use super::*;
use crate::policy::fixtures::fields;

const LIMIT: u64 = 1000;

fn zipped(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn response(fields_of: &[(&'static str, &str)], body: &[u8]) -> Result<Content, UnreadableContent> {
    Content::parse_response(&fields(fields_of), body, LIMIT)
}

#[test]
fn json_is_what_says_so_in_a_charset_and_a_coding_that_are_read() {
    let body = br#"{"id": 7}"#;
    for content_type in [
        "application/json",
        "Application/JSON;charset=UTF-8",
        "application/problem+json",
        "text/json; charset=\"utf-8\"",
    ] {
        assert_eq!(response(&[("content-type", content_type)], body), Ok(Content::Json(json!({"id": 7}))));
    }
    for content_type in [
        "",
        "text/html",
        "application/jsonp",
        "application/json; charset=utf-16",
        "application/x-www-form-urlencoded",
    ] {
        assert_eq!(
            response(&[("content-type", content_type)], body),
            Err(UnreadableContent::Type),
            "{content_type}"
        );
    }
    let twice = [("content-type", "application/json"), ("content-type", "application/json")];
    assert_eq!(response(&twice, body), Err(UnreadableContent::Type));
    assert_eq!(response(&[], body), Err(UnreadableContent::Type));
}

#[test]
fn gzip_is_decoded_and_other_codings_are_not() {
    let typed = ("content-type", "application/json");
    let body = zipped(br#"{"id": 7}"#);
    for name in ["gzip", "X-GZIP"] {
        assert_eq!(
            response(&[typed, ("content-encoding", name)], &body),
            Ok(Content::Json(json!({"id": 7})))
        );
    }
    for name in ["br", "zstd", "deflate", "gzip, gzip", "gzip, br", ""] {
        assert_eq!(
            response(&[typed, ("content-encoding", name)], &body),
            Err(UnreadableContent::Coding),
            "{name}"
        );
    }
    let two = [typed, ("content-encoding", "gzip"), ("content-encoding", "gzip")];
    assert_eq!(response(&two, &body), Err(UnreadableContent::Coding));
    for broken in [&body[..body.len() - 3], &body[..5], b"", b"{}"] {
        assert_eq!(
            response(&[typed, ("content-encoding", "gzip")], broken),
            Err(UnreadableContent::Malformed)
        );
    }
}

#[test]
fn no_more_is_read_than_the_bound_however_it_is_compressed() {
    let typed = ("content-type", "application/json");
    let of = |length: usize| format!("\"{}\"", "x".repeat(length - 2)).into_bytes();
    assert!(response(&[typed], &of(1000)).is_ok());
    assert_eq!(response(&[typed], &of(1001)), Err(UnreadableContent::TooLarge));
    let zip = ("content-encoding", "gzip");
    assert!(response(&[typed, zip], &zipped(&of(1000))).is_ok());
    assert_eq!(response(&[typed, zip], &zipped(&of(1001))), Err(UnreadableContent::TooLarge));
    // A few thousand bytes that decompress to 10 MiB.
    assert_eq!(response(&[typed, zip], &zipped(&of(10 << 20))), Err(UnreadableContent::TooLarge));
}

#[test]
fn what_has_two_readings_is_not_read() {
    let typed = ("content-type", "application/json");
    let deep = format!("{}{}", "[".repeat(400), "]".repeat(400));
    for text in [
        "",
        " ",
        "{",
        "{\"a\":1",
        "{\"a\":1}}",
        "{} {}",
        "[1,]",
        "{'a':1}",
        "{a:1}",
        "nul",
        "NaN",
        "1e999",
        "{\"a\":1,\"a\":2}",
        "[{\"b\":{\"a\":1,\"a\":1}}]",
        "\"\\ud800\"",
        "\"a\nb\"",
        "// x\n1",
        &deep,
    ] {
        assert_eq!(response(&[typed], text.as_bytes()), Err(UnreadableContent::Malformed), "{text}");
    }
    assert_eq!(response(&[typed], b"\"\xff\""), Err(UnreadableContent::Malformed));
    assert_eq!(response(&[typed], b"\xef\xbb\xbf[1]"), Ok(Content::Json(json!([1]))));
    // Some readers treat these as one name.
    let cases = br#"{"course_id": 1, "Course_ID": 2}"#;
    assert!(response(&[typed], cases).is_ok());
    let request = |body: &[u8]| Content::parse_request(&fields(&[typed]), body, LIMIT);
    assert_eq!(request(cases), Err(UnreadableContent::Malformed));
    assert!(request(br#"{"course_id": 1, "user_id": 2}"#).is_ok());
}

#[test]
fn a_form_is_read_of_requests_alone() {
    let typed = [("content-type", "application/x-www-form-urlencoded")];
    let form = Content::parse_request(&fields(&typed), b"a=1+2&b=%2C&a=3", LIMIT).unwrap();
    assert_eq!(form.form_values("a"), ["1 2", "3"]);
    assert_eq!(form.form_values("b"), [","]);
    assert!(form.form_values("c").is_empty());
    let both = Content::parse_request(&fields(&typed), b"a=7;x=1&x=2; a=8", LIMIT).unwrap();
    assert_eq!(both.form_values("a"), ["7;x=1", "7", "8"]);
    assert_eq!(both.form_values("x"), ["2; a=8", "1", "2"]);
    assert_eq!(response(&typed, b"a=1"), Err(UnreadableContent::Type));
    let multipart = [("content-type", "multipart/form-data; boundary=x")];
    assert_eq!(Content::parse_request(&fields(&multipart), b"--x--", LIMIT), Err(UnreadableContent::Type));
}

#[test]
fn accept_encoding_allows_codings_that_can_be_read() {
    for (accepted, asked) in [
        ("gzip, deflate, br, zstd", Some("gzip")),
        ("br;q=1.0, GZIP;q=0.8, *;q=0.1", Some("gzip")),
        ("br", Some("identity")),
        ("gzip;q=0, br", Some("identity")),
        ("", Some("identity")),
        ("br, identity;q=0", None),
        ("br, *;q=0", None),
    ] {
        let found = restrict_accept_encoding(&fields(&[("accept-encoding", accepted)]));
        assert_eq!(found.as_ref().map(HeaderValue::as_bytes), asked.map(str::as_bytes), "{accepted}");
    }
    assert_eq!(restrict_accept_encoding(&fields(&[])), None);
}
