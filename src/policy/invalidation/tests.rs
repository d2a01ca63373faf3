use http::HeaderMap;

use super::*;
use crate::policy::content::Content;
use crate::policy::fixtures::{Request, fields, reach_plain, route, routes, templates};
use crate::policy::query::QueryRule;
use crate::policy::route::{Route, Ttl};
use crate::policy::routes::Routes;
use crate::policy::tags::LISTED;
use crate::purge::Hardness;

fn api() -> Routes {
    let page = ("page".to_owned(), Some("1".to_owned()));
    let writes =
        |path, purges: &[&str]| Route { ttl: Ttl::Never, purges: Some(templates(purges)), ..route(path) };
    routes([
        Route {
            tags: templates(&["courses"]),
            query: QueryRule::Only(vec![page, ("q".to_owned(), None)]),
            ..route("/api/courses")
        },
        Route { tags: templates(&["courses", "course:{id}"]), ..route("/api/courses/{id}") },
        writes("/api/courses/{id}/enroll", &["course:{id}", "courses", "progress:{jwt.sub}"]),
        writes("/api/users/{id}/claim", &["progress:{jwt.sub}"]),
        writes("/api/search", &[]),
        route("/plain"),
        Route { tags: templates(&["id:{response.header.x-id}"]), ..route("/made/{id}") },
    ])
}

fn tag(tag: &str) -> Target {
    Target::tag(tag)
}

fn path(path: &str) -> Target {
    Target::Path { host: None, path: LoosePath::new(path) }
}

fn prefix(path: &str) -> Target {
    Target::Prefix { host: None, path: LoosePath::new(path) }
}

fn check_write(request: &Request, expected: &[Target], widened: usize) {
    let purged = of_write(&api(), &request.head(), true);
    assert_eq!(
        purged,
        WriteTargets { targets: expected.to_vec(), widened, ..WriteTargets::default() },
        "{request:?}"
    );
}

#[test]
fn a_write_purges_its_url_and_what_its_route_says() {
    check_write(&Request::new("POST", "/plain"), &[path("/plain")], 0);
    check_write(&Request::new("POST", "/api/courses"), &[path("/api/courses"), tag("courses")], 0);
    check_write(
        &Request::new("PUT", "/api/courses/7"),
        &[path("/api/courses/7"), tag("courses"), tag("course:7")],
        0,
    );
    // {"sub":"u7"}
    let enroll =
        Request::new("POST", "/api/courses/7/enroll").with("authorization", "Bearer e.eyJzdWIiOiJ1NyJ9.s");
    check_write(
        &enroll,
        &[path("/api/courses/7/enroll"), tag("course:7"), tag("courses"), tag("progress:u7")],
        0,
    );
}

#[test]
fn a_write_that_changes_nothing_purges_nothing_if_there_is_no_doubt_which_it_is() {
    check_write(&Request::new("POST", "/api/search"), &[], 0);
    check_write(&Request::new("POST", "/API/search/"), &[path("/api/search")], 0);
    let elsewhere = Request::new("POST", "/api/search").with("x-original-url", "/api/courses/7?x");
    check_write(
        &elsewhere,
        &[path("/api/search"), path("/api/courses/7"), tag("courses"), tag("course:7")],
        0,
    );
}

#[test]
fn a_template_without_a_value_is_widened() {
    check_write(
        &Request::new("POST", "/api/courses/7/enroll"),
        &[path("/api/courses/7/enroll"), tag("course:7"), tag("courses"), tag(LISTED)],
        1,
    );
    check_write(
        &Request::new("POST", "/api/users/7/claim"),
        &[path("/api/users/7/claim"), prefix("/api/users"), tag(LISTED)],
        1,
    );
}

#[test]
fn a_write_in_any_spelling_purges_what_each_reading_of_it_names() {
    let course = [path("/api/courses/7"), tag("courses"), tag("course:7")];
    for spelling in [
        "/api/courses/%37",
        "/API/Courses/7",
        "/api//courses/7/",
        "/api/courses/7;v=1",
        "/api/courses/%2537",
        "/api/courses/x/..%2f7",
        "/api/courses/7%3Fx",
        "/api/courses/7%00.json",
        "/api/courses\\7",
        "/api/courses//../7",
    ] {
        let purged = of_write(&api(), &Request::new("POST", spelling).head(), true);
        assert!(course.iter().all(|target| purged.targets.contains(target)), "{spelling}: {purged:?}");
    }
}

#[test]
fn a_write_that_can_be_read_as_of_two_routes_purges_for_both() {
    let users = routes([
        Route { tags: templates(&["user:{id}"]), ..route("/users/{id}") },
        Route { tags: templates(&["mine"]), ..route("/users/me") },
    ]);
    let purged = of_write(&users, &Request::new("PUT", "/users/ME").head(), true);
    assert_eq!(purged.targets, [path("/users/me"), tag("user:ME"), tag("mine")]);
}

#[test]
fn a_write_that_no_route_matches_purges_the_cached_paths_above_it() {
    let request = Request::new("POST", "/api/courses/7/students/9/");
    check_write(
        &request,
        &[path("/api/courses/7/students/9"), path("/api/courses"), path("/api/courses/7")],
        0,
    );
    check_write(&Request::new("POST", "/nowhere/else"), &[path("/nowhere/else")], 0);
    // What lies above only purges, and caches nothing.
    check_write(&Request::new("POST", "/api/search/x"), &[path("/api/search/x")], 0);
    let alone = of_write(&api(), &request.head(), false);
    assert_eq!(alone.targets, [path("/api/courses/7/students/9")]);
}

fn check_response(target: &str, response: &HeaderMap, expected: &[Target], widened: usize) {
    let purged = of_exchange(
        &api(),
        &Request::new("POST", target).head(),
        &Exchanged { response_headers: Some(response), ..Exchanged::default() },
    );
    assert_eq!(
        purged,
        WriteTargets { targets: expected.to_vec(), widened, ..WriteTargets::default() },
        "{response:?}"
    );
}

#[test]
fn a_response_names_other_urls_of_its_origin() {
    for (location, expected) in [
        ("/x/9", Some("/x/9")),
        ("http://api.example/x?q#f", Some("/x")),
        ("HTTP://API.example:80/x", Some("/x")),
        ("//api.example", Some("/")),
        ("9", Some("/a/9")),
        ("../9?x", Some("/9")),
        ("./9", Some("/a/9")),
        ("", Some("/a/b")),
        ("?x=1", Some("/a/b")),
        ("#f", Some("/a/b")),
        ("https://api.example/x", None),
        ("http://other.example/x", None),
        ("http://api.example:81/x", None),
        ("http://api.example@other.example/x", None),
        ("http://me@api.example/x", None),
        ("//other.example/x", None),
        ("mailto:a@b", None),
        ("http:/x", None),
    ] {
        let expected: Vec<Target> = expected.map(path).into_iter().collect();
        check_response("/a/b", &fields(&[("location", location)]), &expected, 0);
        check_response("/a/b", &fields(&[("content-location", location)]), &expected, 0);
    }
    let both = fields(&[("location", "/x"), ("content-location", "/y")]);
    check_response("/a/b", &both, &[path("/x"), path("/y")], 0);
    check_response("/api/search", &both, &[], 0);
}

#[test]
fn templates_of_the_response_are_rendered_when_it_is_there() {
    check_write(&Request::new("POST", "/made/1"), &[path("/made/1")], 0);
    check_response("/made/1", &fields(&[("x-id", "1, 2")]), &[tag("id:1"), tag("id:2")], 0);
    check_response("/made/1", &fields(&[]), &[prefix("/made"), tag(LISTED)], 1);
    check_response("/api/courses/7", &fields(&[]), &[], 0);
}

#[test]
fn the_status_says_whether_a_write_may_have_happened() {
    for (statuses, expected) in [
        (&[200, 201, 204, 207, 301, 303, 304, 399, 500, 501, 505, 507, 511][..], WriteEnd::Purge),
        (&[400, 401, 404, 409, 412, 422, 429, 499], WriteEnd::Nothing),
        (&[100, 101, 103, 502, 503, 504, 520, 524, 599, 600, 999], WriteEnd::PurgeInDoubt),
    ] {
        for status in statuses {
            assert_eq!(WriteEnd::of(StatusCode::from_u16(*status).unwrap()), expected, "{status}");
        }
    }
}

fn purge(request: &Request, absolute: bool) -> Result<(Vec<Target>, Hardness), String> {
    of_purge_request(&api(), &request.head(), absolute)
}

#[test]
fn purge_names_a_path_a_url_a_prefix_or_everything() {
    let url =
        |path, query: &str| Target::Url { host: None, path: LoosePath::new(path), query: query.to_owned() };
    for (target, expected) in [
        ("/p", vec![path("/p")]),
        ("/P/", vec![path("/p")]),
        ("/a//../b", vec![path("/b"), path("/a/b")]),
        ("/p?", vec![url("/p", "")]),
        ("/p?b=1&a=2", vec![url("/p", "b=1&a=2")]),
        ("/api/courses?q=x", vec![url("/api/courses", "q=x"), url("/api/courses", "page=1&q=x")]),
        ("/API/courses/?q=x", vec![url("/api/courses", "q=x"), url("/api/courses", "page=1&q=x")]),
        ("/api/courses?page=1", vec![url("/api/courses", "page=1")]),
        ("/p/*", vec![prefix("/p")]),
        ("/*", vec![Target::Everything]),
        ("/p%2A", vec![path("/p*")]),
    ] {
        assert_eq!(purge(&Request::new("PURGE", target), false), Ok((expected, Hardness::Hard)), "{target}");
    }
}

#[test]
fn a_star_anywhere_else_would_purge_less_than_was_meant() {
    for target in ["/p*", "/*/p", "/p/*/*", "/p/*?q=1"] {
        assert!(purge(&Request::new("PURGE", target), false).is_err(), "{target}");
    }
}

#[test]
fn an_absolute_purge_is_of_one_host() {
    let host = || Some("api.example".to_owned());
    let loose = LoosePath::new;
    for (target, expected) in [
        ("/p", Target::Path { host: host(), path: loose("/p") }),
        ("/p?q", Target::Url { host: host(), path: loose("/p"), query: "q".to_owned() }),
        ("/p/*", Target::Prefix { host: host(), path: loose("/p") }),
        ("/*", Target::Prefix { host: host(), path: loose("/") }),
    ] {
        assert_eq!(purge(&Request::new("PURGE", target), true), Ok((vec![expected], Hardness::Hard)));
    }
}

#[test]
fn purge_by_tags_goes_for_the_tags_only() {
    let request = || Request::new("PURGE", "/api/courses?q");
    let check = |request: Request, expected: &[&str]| {
        let expected: Vec<Target> = expected.iter().map(|tag| Target::tag(*tag)).collect();
        assert_eq!(purge(&request, true).map(|(targets, _)| targets), Ok(expected));
    };
    check(request().with("cache-tag", "b, a"), &["a", "b"]);
    check(request().with("surrogate-key", "a b"), &["a", "b"]);
    check(
        request().with("surrogate-key", "a b").with("cache-tag", "c").with("cache-tag", "a"),
        &["a", "b", "c"],
    );
    for wrong in [
        request().with("cache-tag", ""),
        request().with("surrogate-key", "  "),
        request().with("cache-tag", &"x".repeat(1025)),
        request().with("surrogate-key", &(0..1001).map(|i| format!("t{i} ")).collect::<String>()),
    ] {
        assert!(purge(&wrong, false).is_err());
    }
}

#[test]
fn purge_mode_is_hard_or_soft() {
    let mode =
        |mode| purge(&Request::new("PURGE", "/p").with("purge-mode", mode), false).map(|(_, mode)| mode);
    assert_eq!(mode("soft"), Ok(Hardness::Soft));
    assert_eq!(mode("Hard"), Ok(Hardness::Hard));
    assert!(mode("").is_err());
    assert!(mode("softly").is_err());
    let twice = Request::new("PURGE", "/p").with("purge-mode", "soft").with("purge-mode", "hard");
    assert!(purge(&twice, false).is_err());
    assert!(purge(&Request::new("PURGE", "/p/*?q"), false).is_err());
    assert!(purge(&Request::new("PURGE", "*"), false).is_err());
}

/// What an exchange purges with these contents (JSON), as the request and the answer say; `purges` on a route by itself.
fn check_contents(purges: &[&str], asked: &str, answered: &str, expected: &[Target], widened: usize) {
    let events =
        |purges: &[&str]| Route { ttl: Ttl::Never, purges: Some(templates(purges)), ..route("/api/events") };
    let lists = |path, tag: &str| Route { tags: templates(&[tag]), ..route(path) };
    let routes = routes([
        events(purges),
        lists("/api/guilds/{id}", "guild:{id}"),
        lists("/api/search", "Guild:{response.json:$[*].id}"),
        lists("/other/{id}", "other:{id}"),
    ]);
    let content = |text: &str| serde_json::from_str(text).ok().map(Content::Json);
    let (asked, answered) = (content(asked), content(answered));
    let exchanged = Exchanged {
        request_content: asked.as_ref(),
        response_content: answered.as_ref(),
        response_headers: None,
    };
    let request = Request::new("POST", "/api/events");
    let purged = of_exchange(&routes, &request.head(), &exchanged);
    assert_eq!((purged.targets.as_slice(), purged.widened), (expected, widened), "{purges:?}");
}

#[test]
fn a_write_purges_what_its_contents_name() {
    let guild = "guild:{request.json:/guild}";
    check_contents(&[guild], r#"{"guild": 7}"#, "", &[tag("guild:7")], 0);
    check_contents(&["{request.json:$.ids[*]}"], r#"{"ids": [1, "b"]}"#, "", &[tag("1"), tag("b")], 0);
    check_contents(&["made:{response.json:/id}"], "", r#"{"id": 9}"#, &[tag("made:9")], 0);
    // Known before the write, so not asked again.
    check_contents(&["all"], "{}", "{}", &[], 0);
}

#[test]
fn what_a_content_does_not_name_is_widened_to_all_that_could_be_meant() {
    let guild = "guild:{request.json:/guild}";
    let alike = [prefix("/api/events"), prefix("/api/guilds"), prefix("/api/search"), tag(LISTED)];
    for asked in
        ["", "{}", r#"{"guild": null}"#, r#"{"guild": ""}"#, r#"{"guild": [7]}"#, r#"{"guild": 7.0}"#]
    {
        check_contents(&[guild], asked, "", &alike, 1);
        check_contents(&["all", guild], asked, "", &[&alike[1..], &[tag("all")]].concat(), 1);
    }
    // Some of many is not all.
    let some = [&[tag("guild:1")][..], &alike].concat();
    check_contents(&["guild:{request.json:$[*]}"], "[1]", "", &some[..1], 0);
    let too_many: Vec<String> = (0..600).map(|id| id.to_string()).collect();
    let asked = format!("[{}]", too_many.join(","));
    let routes =
        routes([Route { purges: Some(templates(&["n:{request.json:$[*]}", "all"])), ..route("/many") }]);
    let content = Content::Json(serde_json::from_str(&asked).unwrap());
    let exchanged = Exchanged { request_content: Some(&content), ..Exchanged::default() };
    let purged = of_exchange(&routes, &Request::new("POST", "/many").head(), &exchanged);
    assert_eq!(purged.widened, 1);
    assert!(purged.targets.contains(&tag("all")));
}

#[test]
fn as_much_of_a_content_is_kept_as_its_routes_ask_for() {
    let with = |purges: &[&str]| {
        routes([Route { purges: Some(templates(purges)), max_json: 10, ..route("/a") }, route("/b")])
    };
    let kept = |purges, target| kept_of_write(&with(purges), &Request::new("POST", target).head());
    let (both, none) = (["{request.form:x}", "{response.json:/x}"], Kept::default());
    assert_eq!(kept(&both, "/a"), Kept { request: Some(10), response: Some(10) });
    assert_eq!(kept(&both, "//A/"), Kept { request: Some(10), response: Some(10) });
    assert_eq!(kept(&both, "/b"), none);
    assert_eq!(kept(&["x", "{query.q}"], "/a"), none);
    assert_eq!(kept(&["{request.json:/x}"], "/a"), Kept { request: Some(10), response: None });
}

#[test]
fn a_location_purges_the_tags_that_its_path_gives_values_to() {
    let location = fields(&[("location", "/api/courses/9")]);
    check_response("/plain", &location, &[path("/api/courses/9"), tag("course:9")], 0);
}

#[test]
fn what_a_write_does_not_say_reaches_such_tags_in_the_fields_of_any_response() {
    let tagged = [("surrogate-key", "guild:7")];
    for purges in [&["guild:{request.json:/guild}"][..], &["guild:{request.json:/guild}", "all"]] {
        let written = Route { ttl: Ttl::Never, purges: Some(templates(purges)), ..route("/api/events") };
        let read = Route { tags: templates(&["guild:{id}"]), ..route("/api/guilds/{id}") };
        let routes = routes([written, read]);
        let request = Request::new("POST", "/api/events");
        let targets = of_exchange(&routes, &request.head(), &Exchanged::default()).targets;
        assert!(reach_plain(&targets, &tagged), "{targets:?}");
        assert!(!reach_plain(&targets, &[]), "{targets:?}");
        assert!(targets.contains(&prefix("/api/guilds")), "{targets:?}");
    }
    let request = Request::new("POST", "/made/7");
    let targets = of_exchange(&api(), &request.head(), &Exchanged::default()).targets;
    assert!(reach_plain(&targets, &[("xkey", "id:7")]), "{targets:?}");
}

/// What its responses contain is not what a write there changes, of which its literal tags tell enough.
#[test]
fn a_value_that_only_the_responses_of_a_route_have_widens_to_its_literal_tags() {
    let list = Route { tags: templates(&["items", "item:{response.json:$[*].id}"]), ..route("/items") };
    let routes = routes([list, Route { tags: templates(&["item:{id}"]), ..route("/items/{id}") }]);
    let request = Request::new("POST", "/items");
    assert_eq!(of_exchange(&routes, &request.head(), &Exchanged::default()).targets, [tag("items")]);
}
