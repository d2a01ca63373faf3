//! Property: every value makes one literal tag or none.

use super::*;
use crate::policy::fixtures::Request;
use crate::policy::tags::parse_list;

/// Values that try to be several tags, another tag, or too long.
fn hostile() -> Vec<String> {
    let mut values: Vec<String> = [
        "",
        " ",
        "*",
        "**",
        "{id}",
        "{{",
        "}",
        "a,b",
        "a b",
        "a\tb",
        "a\nb",
        "a\r\nSurrogate-Key: x",
        "a\0b",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{3000}",
        "\u{feff}",
        "../..",
        "a/b",
        "/",
        "//",
        "%2C",
        "%",
        "%zz",
        "%25",
        "\"a\"",
        "'a'",
        "\\",
        "a;b",
        "a=b",
        "a&b",
        "a#b",
        "?",
        "[*]",
        "$",
        "$..*",
        "~0",
        "é",
        "\u{1f36a}",
        "\u{202e}abc",
        "null",
        "true",
        "-1",
        "0x7",
        "1e3",
    ]
    .map(str::to_owned)
    .to_vec();
    values.push("x".repeat(64 << 10));
    values.push(",".repeat(64 << 10));
    values
}

/// The value, if a field can carry it.
fn field(value: &str) -> Option<http::HeaderValue> {
    http::HeaderValue::from_bytes(value.as_bytes()).ok()
}

fn percent(value: &str) -> String {
    value.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn base64url(text: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let sixes = |chunk: &[u8]| {
        let three =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len())
            .map(|at| char::from(LETTERS[(three >> (18 - 6 * at) & 63) as usize]))
            .collect::<String>()
    };
    text.as_bytes().chunks(3).map(sixes).collect()
}

#[test]
fn a_hostile_value_of_any_source_is_one_literal_tag_or_none() {
    for value in hostile() {
        let json = serde_json::json!({ "v": value });
        let token = format!("Bearer e30.{}.x", base64url(&serde_json::json!({"v": value}).to_string()));
        let mut request = Request::get(&format!("/x?v={}", percent(&value)));
        request.headers.insert("authorization", token.parse().unwrap());
        request.headers.extend(field(&value).map(|value| (http::HeaderName::from_static("x-v"), value)));
        request.headers.extend(field(&format!("v={value}")).map(|value| (http::header::COOKIE, value)));
        let (json, form) = (Content::Json(json), Content::Form(format!("v={}", percent(&value))));
        let captures = [("v", value.clone())];
        for content in [&json, &form] {
            let sources = TemplateContext {
                request: request.head(),
                captures: &captures,
                request_content: Some(content),
                response_headers: Some(&request.headers),
                response_content: Some(content),
                limits: RenderLimits::RESPONSE,
            };
            for source in [
                "v",
                "query.v",
                "header.x-v",
                "cookie.v",
                "jwt.v",
                "request.json:/v",
                "request.json:$.v",
                "request.form:v",
                "response.json:/v",
                "response.json:$..v",
            ] {
                let template = Template::parse(&format!("t:{{{source}}}")).unwrap();
                let tags = template.render(&sources).expect("a text has one spelling");
                // A list in the query or a field is the value, and each of its parts.
                let is_list = ["query.v", "header.x-v"].contains(&source) && value.contains(',');
                assert!(tags.len() <= 1 || is_list, "{source} {value:?}: {tags:?}");
                assert!(tags.iter().all(|tag| is_one_literal(tag)), "{source} {value:?}: {tags:?}");
            }
            // A response field is a list: each member makes a tag.
            let listed = Template::parse("t:{response.header.x-v}").unwrap().render(&sources).unwrap();
            assert!(listed.iter().all(|tag| is_one_literal(tag)), "{value:?}: {listed:?}");
        }
    }
}

/// Whether a tag list with this tag parses to exactly this tag.
fn is_one_literal(tag: &str) -> bool {
    tag.starts_with("t:") && tag != "t:" && parse_list(&format!("{tag}, other")) == [tag, "other"]
}

#[test]
fn what_is_missing_or_malformed_is_no_value() {
    let request =
        Request::get("/x?%zz=%&v").with("authorization", "Bearer a.!!.c").with("cookie", "v; =v; v=");
    let empty = HeaderMap::new();
    for content in [
        Content::Json(serde_json::json!({"v": null})),
        Content::Json(serde_json::json!([])),
        Content::Json(serde_json::json!("text")),
        Content::Form("v=&=v&%zz".to_owned()),
    ] {
        let sources = TemplateContext {
            request: request.head(),
            captures: &[],
            request_content: Some(&content),
            response_headers: Some(&empty),
            response_content: Some(&content),
            limits: RenderLimits::RESPONSE,
        };
        for source in [
            "v",
            "query.v",
            "header.x-v",
            "cookie.v",
            "jwt.v",
            "request.json:/v",
            "request.json:$.v.v",
            "request.form:v",
            "response.header.x-v",
            "response.json:/v",
            "response.json:$[*].v",
        ] {
            let template = Template::parse(&format!("t:{{{source}}}")).unwrap();
            assert_eq!(template.render(&sources), Ok(vec![]), "{source} {content:?}");
        }
    }
}

/// The number of tags that `{request.json:$.a[*]}` makes of the values, and whether `last` is one of them.
fn count_tags(text: &str, a: &[String], b: &[&str], last: &str) -> (usize, bool) {
    let request = Request::get("/x");
    let content = Content::Json(serde_json::json!({"a": a, "b": b}));
    let sources = TemplateContext {
        request: request.head(),
        captures: &[],
        request_content: Some(&content),
        response_headers: None,
        response_content: None,
        limits: RenderLimits::RESPONSE,
    };
    let tags = Template::parse(text).unwrap().render(&sources).unwrap();
    (tags.len(), tags.iter().any(|tag| tag == last))
}

#[test]
fn values_that_come_again_or_are_empty_leave_no_other_out() {
    let and_last = |values: Vec<String>| [values, vec!["last".to_owned()]].concat();
    let times = |value: &str| and_last(vec![value.to_owned(); 5000]);
    let text = "t:{request.json:$.a[*]}";
    assert_eq!(count_tags(text, &times("x"), &[], "t:last"), (2, true));
    assert_eq!(count_tags(text, &times(""), &[], "t:last"), (1, true));
    // Tags that differ only in case.
    let case = (0..5000).map(|n| ["x", "X"][n % 2].to_owned()).collect();
    assert_eq!(count_tags(text, &and_last(case), &[], "t:last"), (2, true));
    let escaped = (0..800).map(|n| format!("{}{}", n / 2, [",", "%2C"][n % 2])).collect();
    assert_eq!(count_tags(text, &and_last(escaped), &[], "t:last"), (401, true));
    // 400 times 2 tags, all but one of them duplicates: x, xx, xxx …
    let longer: Vec<_> = (1..=400).map(|n| "x".repeat(n)).collect();
    let two = "{request.json:$.a[*]}{request.json:$.b[*]}";
    assert_eq!(count_tags(two, &longer, &["x", "xx"], &"x".repeat(402)), (401, true));
    // Too many distinct tags.
    let many = (0..tags::MAX_TAGS + 100).map(|n| n.to_string()).collect();
    assert_eq!(count_tags(text, &and_last(many), &[], "t:last"), (tags::MAX_TAGS + 1, false));
}
