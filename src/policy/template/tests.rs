use super::*;
use crate::policy::fixtures::{Request, fields};

/// `{"sub":"u7","org":{"id":42},"admin":true,"roles":["a"]}`
const TOKEN: &str = "Bearer e30.eyJzdWIiOiJ1NyIsIm9yZyI6eyJpZCI6NDJ9LCJhZG1pbiI6dHJ1ZSwicm9sZXMiOlsiYSJdfQ.x";

fn context(request: &Request) -> TemplateContext<'_> {
    TemplateContext {
        request: request.head(),
        captures: &[],
        request_content: None,
        response_headers: None,
        response_content: None,
        limits: RenderLimits::RESPONSE,
    }
}

fn check(text: &str, request: &Request, response: Option<&HeaderMap>, expected: &[&str]) {
    let captures = [("id", "7".to_owned()), ("name", "a b,c".to_owned()), ("empty", String::new())];
    let sources = TemplateContext { captures: &captures, response_headers: response, ..context(request) };
    assert_eq!(Template::parse(text).unwrap().render(&sources).unwrap(), expected, "{text}");
}

#[test]
fn a_template_renders_one_literal_tag() {
    let request = Request::get("/x?page=2&q=a+b")
        .with("x-guild", " g1 ")
        .with("cookie", "team=red; x=1")
        .with("authorization", TOKEN);
    for (text, expected) in [
        ("courses", "courses"),
        ("course:{id}", "course:7"),
        ("{id}/{id}", "7/7"),
        ("n:{name}", "n:a%20b%2Cc"),
        ("p:{query.page}", "p:2"),
        ("q:{query.q}", "q:a%20b"),
        ("g:{header.X-Guild}", "g:g1"),
        ("t:{cookie.team}", "t:red"),
        ("u:{jwt.sub}", "u:u7"),
        ("o:{jwt.org.id}", "o:42"),
        ("a:{jwt.admin}", "a:true"),
        ("{{{id}}}", "{7}"),
        ("caf\u{e9}", "caf\u{e9}"),
    ] {
        check(text, &request, None, &[expected]);
    }
}

#[test]
fn a_missing_value_drops_the_tag() {
    let request = Request::get("/x?empty=").with("authorization", TOKEN);
    for text in [
        "{other}",
        "{empty}",
        "{query.page}",
        "{query.empty}",
        "{header.x-guild}",
        "{cookie.team}",
        "{jwt.none}",
        "{jwt.roles}",
        "{jwt.org}",
        "{response.header.x-id}",
        "{id}:{other}",
    ] {
        check(text, &request, None, &[]);
    }
}

#[test]
fn several_values_make_several_tags() {
    let request = Request::get("/x?id=1&id=2").with("x-guild", "a").with("x-guild", "b,c");
    let response = fields(&[("x-id", "1, 2"), ("x-id", "3"), ("surrogate-key", "s1 s2")]);
    check("q:{query.id}", &request, None, &["q:1", "q:2"]);
    // A list is the value and each of its parts.
    let listed = Request::get("/x?id=7,%208&id=9");
    check("q:{query.id}", &listed, None, &["q:7%2C%208", "q:7", "q:8", "q:9"]);
    check("q:{query.id}", &Request::get("/x?id=,"), None, &["q:%2C"]);
    check("g:{header.x-guild}", &request, None, &["g:a", "g:b%2Cc", "g:b", "g:c"]);
    check("r:{response.header.x-id}", &request, Some(&response), &["r:1", "r:2", "r:3"]);
    check("{response.header.surrogate-key}!", &request, Some(&response), &["s1!", "s2!"]);
    let mixed = Request::get("/x?id=1&id=2").with("x-guild", "a").with("x-guild", "b");
    check("{query.id}{header.x-guild}", &mixed, None, &["1a", "1b", "2a", "2b"]);
}

#[test]
fn white_space_around_a_value_is_no_part_of_it() {
    let request = Request::get("/x?a=+7&b=7%20&c=%C2%A07&d=a+b").with("cookie", "v= 7 ").with("x-v", "7 , 8");
    for name in ["a", "b", "c"] {
        check(&format!("q:{{query.{name}}}"), &request, None, &["q:7"]);
    }
    check("q:{query.d}", &request, None, &["q:a%20b"]);
    check("c:{cookie.v}", &request, None, &["c:7"]);
    check("h:{header.x-v}", &request, None, &["h:7%20%2C%208", "h:7", "h:8"]);
    let form = Content::Form("id=+7".into());
    let sources = TemplateContext { request_content: Some(&form), ..context(&request) };
    assert_eq!(Template::parse("{request.form:id}").unwrap().render(&sources).unwrap(), ["7"]);
}

#[test]
fn the_tags_of_one_template_are_bounded() {
    let many: Vec<String> = (0..300).map(|i| format!("id={i}")).collect();
    let request = Request::get(&format!("/x?{}", many.join("&")));
    let tags = Template::parse("{query.id}{query.id}").unwrap().render(&context(&request)).unwrap();
    assert_eq!(tags.len(), tags::MAX_TAGS + 1);
}

#[test]
fn a_template_tells_what_it_needs() {
    let parse = |text| Template::parse(text).unwrap();
    assert!(parse("a{{b}}").is_literal());
    assert!(!parse("a{id}").is_literal());
    for late in ["{id}{response.header.x}", "{request.json:/a}", "{request.form:a}", "{response.json:$.a}"] {
        assert!(parse(late).needs_exchange(), "{late}");
    }
    assert!(!parse("{header.x}").needs_exchange());
    assert!(parse("{response.json:/a}").reads_response_content());
    assert!(!parse("{request.json:/a}").reads_response_content());
    assert!(parse("{request.form:a}").reads_request_content());
    assert_eq!(parse("a:{id}").literal_prefix(), "a:");
    assert_eq!(parse("{id}:a").literal_prefix(), "");
    assert_eq!(parse("{a}{query.q}{b}").path_parameters().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(parse("course:{id}").as_str(), "course:{id}");
}

#[test]
fn the_error_of_a_template_says_where_and_what_to_write_instead() {
    for (text, parts) in [
        ("", &["empty"][..]),
        ("a b", &["offset 1", "spaces"]),
        ("a,b", &["offset 1", "commas"]),
        ("a:{id", &["offset 2", "never closed", "{{"]),
        ("a:}", &["offset 2", "}}"]),
        ("a:{}", &["offset 2", "{query.name}"]),
        ("{headers.x}", &["`{header.x}`"]),
        ("{querry.x}", &["`{query.x}`"]),
        ("{path.id}", &["`{id}`"]),
        ("{params.id}", &["`{id}`"]),
        ("{claims.sub}", &["`{jwt.sub}`"]),
        ("{response.headers.x}", &["`{response.header.x}`"]),
        ("{*rest}", &["`{rest}`"]),
        ("{ id }", &["`{id}`"]),
        ("{elsewhere.x}", &["`{jwt.claim}`"]),
        ("{query.}", &["`{query.name}`"]),
        ("{header.a b}", &["header field"]),
        ("{request.json:course_id}", &["`/course_id`"]),
        ("x:{response.json:$.items[*}", &["offset 2", "JSONPath"]),
        ("{response.json:$['}", &["never closed"]),
        ("{request.json.id}", &["`{request.json:/id}`"]),
        ("{response.body.id}", &["`{response.json:/id}`"]),
        ("{request.form.name}", &["`{request.form:name}`"]),
        ("{request.form:}", &["`{request.form:name}`"]),
    ] {
        let error = Template::parse(text).expect_err(text);
        assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
    }
}

#[test]
fn values_of_a_content_make_a_tag_each() {
    let json = |text: &str| Content::Json(serde_json::from_str(text).unwrap());
    let (asked, answered) =
        (json(r#"{"course_id": 7, "ids": [1, 2]}"#), json(r#"{"items": [{"id": "a,b"}, {"id": "c/d"}]}"#));
    let request = Request::get("/x");
    let sources = TemplateContext {
        request_content: Some(&asked),
        response_content: Some(&answered),
        ..context(&request)
    };
    for (text, expected) in [
        ("course:{request.json:/course_id}", &["course:7"][..]),
        ("{request.json:$.ids[*]}", &["1", "2"]),
        ("{request.json:/none}", &[]),
        ("{request.form:course_id}", &[]),
        ("i:{response.json:$.items[*].id}", &["i:a%2Cb", "i:c/d"]),
        ("{response.json:$['items'][?@.id != '}'].id}!", &["a%2Cb!", "c/d!"]),
        ("{request.json:/course_id}:{response.json:/items/1/id}", &["7:c/d"]),
    ] {
        assert_eq!(Template::parse(text).unwrap().render(&sources).unwrap(), expected, "{text}");
    }
    // Lists and objects cannot be part of a tag.
    for text in ["{request.json:/ids}", "{response.json:$.items[*]}", "x:{response.json:}"] {
        assert_eq!(Template::parse(text).unwrap().render(&sources), Err(UnusableValue), "{text}");
    }
    let form = Content::Form("id=1&id=2".to_owned());
    let sources = TemplateContext { request_content: Some(&form), ..context(&request) };
    assert_eq!(Template::parse("f:{request.form:id}").unwrap().render(&sources).unwrap(), ["f:1", "f:2"]);
}
