use super::*;

#[test]
fn a_template_says_what_its_segments_are() {
    let literal = |text: &str| Segment::Literal(text.to_owned());
    let affixed = |prefix: &str, name: &str, suffix: &str| {
        let [prefix, name, suffix] = [prefix, name, suffix].map(str::to_owned);
        Segment::Affixed(AffixedParameter { prefix, name, suffix })
    };
    let cases = [
        ("/", vec![]),
        ("/a", vec![literal("a")]),
        ("/a/", vec![literal("a"), literal("")]),
        ("/a/{id}", vec![literal("a"), Segment::Parameter("id".to_owned())]),
        (
            "/Courses({id})/{id_2}:archive",
            vec![affixed("Courses(", "id", ")"), affixed("", "id_2", ":archive")],
        ),
        (
            "/{a}/b/{*rest}",
            vec![Segment::Parameter("a".to_owned()), literal("b"), Segment::Rest("rest".to_owned())],
        ),
        (
            "/caf%C3%A9/@me/v1.2/a:b",
            vec![literal("caf%C3%A9"), literal("@me"), literal("v1.2"), literal("a:b")],
        ),
    ];
    for (text, segments) in cases {
        assert_eq!(PathTemplate::parse(text).map(|path| path.segments), Ok(segments), "{text}");
    }
}

#[test]
fn the_error_of_a_template_says_what_to_write_instead() {
    for (text, instead) in [
        ("api/courses", "`/api/courses`"),
        ("", "`/`"),
        ("/a//b", "`/a/b`"),
        ("//a/", "`/a/`"),
        ("/a?page=1", "`/a`"),
        ("/a/:id", "`{id}`"),
        ("/a/:id(\\d+)", "`{id}`"),
        ("/a/<id>", "`{id}`"),
        ("/a/<int:id>", "`{id}`"),
        ("/a/[id]", "`{id}`"),
        ("/a/[...slug]", "`{*slug}`"),
        ("/a/*", "`{*rest}`"),
        ("/a/**", "`{*rest}`"),
        ("/a/*path", "`{*path}`"),
        ("/a/{path*}", "`{*path}`"),
        ("/a/{path...}", "`{*path}`"),
        ("/a/{id:int}", "`{id}`"),
        ("/a/{id?}", "`{id}`"),
        ("/a/{}", "write a name"),
        ("/a/{id}.json", "`{id}`"),
        ("/a/x.{id}", "`{id}`"),
        ("/a/{id}:{verb}", "`{id}`"),
        ("/a/{id}:a%20b", "`{id}`"),
        ("/a/{id", "`{name}`"),
        ("/a/{*rest}/b", "last segment"),
        ("/a/{id}/b/{id}", "`id_2`"),
        ("/caf\u{e9}", "`caf%C3%A9`"),
        ("/a b", "`a%20b`"),
        ("/%61", "`a`"),
        ("/%c3%a9", "`%C3%A9`"),
        ("/a/../b", "more than one way"),
        ("/a;b", "more than one way"),
        ("/a%2Fb", "more than one way"),
        ("/a%00", "more than one way"),
        ("/a%2541", "more than one way"),
    ] {
        let error = PathTemplate::parse(text).expect_err(text);
        assert!(error.contains(instead), "{text}: {error}");
    }
}

#[test]
fn captures_are_percent_decoded() {
    let check = |template: &str, path: &str, expected: &[(&str, &str)]| {
        let template = PathTemplate::parse(template).unwrap();
        let captures = template.captures(path);
        let captures: Vec<_> = captures.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(captures, expected, "{path}");
    };
    check("/a/{id}", "/a/7", &[("id", "7")]);
    check("/a/{id}", "/a/x%20y%2Cz", &[("id", "x y,z")]);
    check("/a/{id}", "/a/caf%C3%A9", &[("id", "caf\u{e9}")]);
    check("/a/{id}", "/a/%FF", &[("id", "\u{fffd}")]);
    check("/a/{id}:archive", "/a/x%20y:b:archive", &[("id", "x y:b")]);
    check("/Courses({id})/{b}", "/Courses('7')/x", &[("id", "'7'"), ("b", "x")]);
    check("/{a}/b/{c}", "/1/b/2", &[("a", "1"), ("c", "2")]);
    check("/f/{*rest}", "/f/x/y%20z/", &[("rest", "x/y z/")]);
    check("/a", "/a", &[]);
}

#[test]
fn the_prefix_of_a_template_ends_before_its_first_parameter() {
    for (template, prefix) in [
        ("/api/courses/{id}/enroll", "/api/courses"),
        ("/{a}/b", "/"),
        ("/a/{id}:b", "/a"),
        ("/", "/"),
        ("/A/b/", "/a/b"),
        ("/files/{*rest}", "/files"),
    ] {
        assert_eq!(PathTemplate::parse(template).unwrap().literal_prefix(), NormalizedPath::new(prefix));
    }
}

#[test]
fn a_normal_path_has_one_spelling() {
    for path in [
        "/",
        "/a",
        "/a/",
        "/a/b.c/~d_e-f",
        "/a/...",
        "/a/b:c@d",
        "/a%20b",
        "/caf%C3%A9",
        "/a%25",
        "/a%25zz",
        "/x%2Cy",
        "/what%21",
        "/A/b",
        "/a/(1)*,=+&!$'",
    ] {
        assert!(is_normal(path), "{path}");
        assert_eq!(normalize(path), path);
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_not_normal() {
    for path in [
        "",
        "a",
        "*",
        "//",
        "//a",
        "/a//b",
        "/a//",
        "/.",
        "/..",
        "/a/./b",
        "/a/../b",
        "/a/..",
        "/%61",
        "/a%2Eb",
        "/%2e%2e/a",
        "/%2E%2e/a",
        "/a%2Fb",
        "/a%2fb",
        "/a%5Cb",
        "/a%5cb",
        "/a\\b",
        "/a;b",
        "/a%3Bb",
        "/a%3Fb",
        "/a%23",
        "/a;",
        "/caf%c3%a9",
        "/caf\u{e9}",
        "/a%00",
        "/a%0A",
        "/a%1F",
        "/a%7F",
        "/a\u{0}",
        "/a b",
        "/a\tb",
        "/a%2541",
        "/a%252e",
        "/a%252F",
        "/a%",
        "/a%2",
        "/a%zz",
        "/a%2%35",
        "/%C0%AF",
        "/%FF",
        "/a{b}",
        "/a|b",
        "/a\"",
        "/a^b",
        "/a?b",
        "/a#b",
        "/a<b>",
        "/a`b",
        "/%ED%A0%80",
    ] {
        assert!(!is_normal(path), "{path}");
    }
}

#[test]
fn the_normal_form_follows_rfc_3986() {
    for (path, expected) in [
        ("/%61%2e%7E", "/a.~"),
        ("/%c3%a9%2f", "/%C3%A9%2F"),
        ("/a/./b/../c", "/a/c"),
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/../../a", "/a"),
        ("/a/%2E%2E/b", "/b"),
        ("/a//../b", "/a/b"),
        ("/%2561", "/%2561"),
        ("/a%", "/a%"),
        ("/a%zz%4", "/a%zz%4"),
        ("*", "*"),
        ("/..", "/"),
    ] {
        assert_eq!(normalize(path), expected, "{path}");
        assert_eq!(normalize(expected), expected, "{expected}");
    }
}
