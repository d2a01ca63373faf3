use std::time::Duration;

use http::HeaderMap;

use super::*;
use crate::policy::content::Content;
use crate::policy::credential::Credential;
use crate::policy::fixtures::{self, Request, fields, reach_plain, route, routes, templates};
use crate::policy::purge_targets::{PurgeOptions, PurgeRule};
use crate::policy::query::QueryRule;
use crate::policy::response_admission::response_targets;
use crate::policy::route::{OwnUrl, Route, Ttl};
use crate::policy::tags::LISTED_TAG;
use crate::policy::template::Template;
use crate::policy::write_outcome::WriteOutcome;
use crate::purge::PurgeMode;

mod bounds;
mod overridden_methods;

fn api() -> Routes {
    let page = ("page".to_owned(), Some("1".to_owned()));
    let writes = |path, purges: &[&str]| Route {
        ttl: Ttl::Never,
        purges: Some(fixtures::purges(purges)),
        ..route(path)
    };
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
    Target::Path { host: None, path: NormalizedPath::new(path) }
}

fn prefix(path: &str) -> Target {
    Target::Prefix { host: None, path: NormalizedPath::new(path) }
}

fn plan<'r>(routes: &'r Routes, request: &Request) -> WritePlan<'r> {
    WritePlan::new(routes, &request.head(), RelatedPaths::default())
}

/// The targets that the head of a request names, and how many templates were widened.
fn named(routes: &Routes, request: &Request) -> (Vec<Target>, usize) {
    let found = plan(routes, request).head_targets(&request.head());
    assert!(found.steps <= write::MAX_STEPS);
    (found.targets.to_vec(), found.widened)
}

/// The targets that a whole exchange names beside those of its head.
fn exchanged(routes: &Routes, request: &Request, exchange: &WriteExchange<'_>) -> (Vec<Target>, usize) {
    let plan = plan(routes, request);
    let (_, found) = plan.finish(&request.head(), WriteTargets::default(), WriteOutcome::Purge, exchange);
    (found.targets.to_vec(), found.widened)
}

fn stored_by(path: &str) -> Target {
    route_target(&route(path))
}

fn check_write(request: &Request, expected: &[Target], widened: usize) {
    assert_eq!(named(&api(), request), (expected.to_vec(), widened), "{request:?}");
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
fn purges_nothing_is_trusted_for_unambiguous_paths_only() {
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
        &[path("/api/courses/7/enroll"), tag("course:7"), tag("courses")],
        1,
    );
    check_write(&Request::new("POST", "/api/users/7/claim"), &[path("/api/users/7/claim")], 1);
    let query = Route { tags: templates(&["q:{query.q}", "all"]), ..route("/find/{x}") };
    let routes = routes([query, Route { tags: templates(&["q:{x}"]), ..route("/q/{x}") }]);
    let expected = vec![path("/find/1"), stored_by("/find/{x}"), tag("all")];
    assert_eq!(named(&routes, &Request::new("POST", "/find/1")), (expected, 1));
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
        let (targets, _) = named(&api(), &Request::new("POST", spelling));
        assert!(course.iter().all(|target| targets.contains(target)), "{spelling}: {targets:?}");
    }
}

#[test]
fn a_write_that_can_be_read_as_of_two_routes_purges_for_both() {
    let users = routes([
        Route { tags: templates(&["user:{id}"]), ..route("/users/{id}") },
        Route { tags: templates(&["mine"]), ..route("/users/me") },
    ]);
    let (targets, _) = named(&users, &Request::new("PUT", "/users/ME"));
    assert_eq!(targets, [path("/users/me"), tag("user:ME"), tag("mine")]);
}

#[test]
fn an_unmatched_write_purges_the_cached_paths_above_it() {
    let request = Request::new("POST", "/api/courses/7/students/9/");
    check_write(
        &request,
        &[path("/api/courses/7/students/9"), path("/api/courses"), path("/api/courses/7")],
        0,
    );
    check_write(&Request::new("PUT", "/api/courses(7)"), &[path("/api/courses(7)"), path("/api/courses")], 0);
    check_write(&Request::new("POST", "/nowhere/else"), &[path("/nowhere/else")], 0);
    // The route above only purges and caches nothing.
    check_write(&Request::new("POST", "/api/search/x"), &[path("/api/search/x")], 0);
    let (routes, related) = (api(), RelatedPaths { parents: false, ..RelatedPaths::default() });
    let alone = WritePlan::new(&routes, &request.head(), related).head_targets(&request.head());
    assert_eq!(alone.targets.to_vec(), [path("/api/courses/7/students/9")]);
}

fn check_response(target: &str, response: &HeaderMap, expected: &[Target], widened: usize) {
    let exchange = WriteExchange { response_headers: Some(response), ..WriteExchange::default() };
    let found = exchanged(&api(), &Request::new("POST", target), &exchange);
    assert_eq!(found, (expected.to_vec(), widened), "{response:?}");
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
        ("http://upstream.internal/x", None),
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
    check_response("/made/1", &fields(&[]), &[stored_by("/made/{id}")], 1);
    check_response("/api/courses/7", &fields(&[]), &[], 0);
}

fn purge(request: &Request, absolute: bool) -> Result<(Vec<Target>, PurgeMode), String> {
    parse_purge_request(&api(), &request.head(), absolute, true)
}

/// The targets of a purge of URLs with queries.
fn urls(host: Option<String>, path: &str, queries: &[&str]) -> Vec<Target> {
    let path = NormalizedPath::new(path);
    let url = |query: &&str| Target::Url { host: host.clone(), path: path.clone(), query: (*query).into() };
    let mut targets: Vec<_> = queries.iter().map(url).collect();
    targets.push(Target::Equivalents { host, path });
    targets
}

#[test]
fn purge_names_a_path_a_url_a_prefix_or_everything() {
    for (target, expected) in [
        ("/p", vec![path("/p")]),
        ("/P/", vec![path("/p")]),
        ("/a//../b", vec![path("/b"), path("/a/b")]),
        ("/p?", urls(None, "/p", &[""])),
        ("/p?b=1&a=2", urls(None, "/p", &["b=1&a=2"])),
        ("/api/courses?q=x", urls(None, "/api/courses", &["q=x", "page=1&q=x"])),
        ("/API/courses/?q=x", urls(None, "/api/courses", &["q=x", "page=1&q=x"])),
        ("/api/courses?page=1", urls(None, "/api/courses", &["page=1"])),
        ("/p/*", vec![prefix("/p")]),
        ("/*", vec![Target::Everything]),
        ("/p%2A", vec![path("/p*")]),
    ] {
        assert_eq!(purge(&Request::new("PURGE", target), false), Ok((expected, PurgeMode::Hard)), "{target}");
    }
}

#[test]
fn a_star_anywhere_else_would_purge_less_than_was_meant() {
    for target in ["/p*", "/*/p", "/p/*/*", "/p/*?q=1", "/p?*", "/api/.*", "/api/**"] {
        assert!(purge(&Request::new("PURGE", target), false).is_err(), "{target}");
    }
}

#[test]
fn an_absolute_purge_is_of_one_host() {
    let host = || Some("api.example".to_owned());
    let loose = NormalizedPath::new;
    for (target, expected) in [
        ("/p", vec![Target::Path { host: host(), path: loose("/p") }]),
        ("/p?q", urls(host(), "/p", &["q"])),
        ("/p/*", vec![Target::Prefix { host: host(), path: loose("/p") }]),
        ("/*", vec![Target::Prefix { host: host(), path: loose("/") }]),
    ] {
        assert_eq!(purge(&Request::new("PURGE", target), true), Ok((expected, PurgeMode::Hard)));
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
fn purge_requests_of_other_caches_name_tags_and_urls() {
    let tags = |tags: &[&str]| tags.iter().map(|tag| Target::tag(*tag)).collect::<Vec<_>>();
    let (hard, soft) = (PurgeMode::Hard, PurgeMode::Soft);
    let everything = || vec![Target::Everything];
    for (method, fields, expected) in [
        ("PURGE", &[("xkey", "a b")][..], (tags(&["a", "b"]), hard)),
        ("PURGE", &[("xkey-purge", "a, b")], (tags(&["a", "b"]), hard)),
        ("PURGE", &[("xkey-softpurge", "a")], (tags(&["a"]), soft)),
        ("PURGE", &[("cache-tags", "a,b")], (tags(&["a", "b"]), hard)),
        ("PURGE", &[("x-cache-tags", "a")], (tags(&["a"]), hard)),
        ("PURGE", &[("purge-cache-tags", "a")], (tags(&["a"]), hard)),
        ("PURGE", &[("ykey", "a")], (tags(&["a"]), hard)),
        ("PURGE", &[("surrogate-key", "a"), ("fastly-soft-purge", "1")], (tags(&["a"]), soft)),
        ("PURGEKEYS", &[("xkey-softpurge", "a")], (tags(&["a"]), soft)),
        ("PURGETAGS", &[("x-cache-tags", "a")], (tags(&["a"]), hard)),
        ("BAN", &[("x-cache-tags", "(^|,)(a|b)(,|$)"), ("x-url", ".*")], (tags(&["a", "b"]), hard)),
        ("BAN", &[("cache-tags", "node:1 node_list")], (tags(&["node:1", "node_list"]), hard)),
        ("BAN", &[("x-url", ".*"), ("x-host", ".*")], (everything(), hard)),
        ("BAN", &[("x-url", "^/p/.*")], (vec![prefix("/p")], hard)),
        ("BAN", &[], (vec![path("/p")], hard)),
    ] {
        let request = fields
            .iter()
            .fold(Request::new(method, "/p"), |request, (name, value)| request.with(name, value));
        assert_eq!(purge(&request, false), Ok(expected), "{method} {fields:?}");
    }
}

#[test]
fn a_malformed_purge_request_is_an_error_with_the_fix() {
    for (method, fields, fix) in [
        ("PURGE", &[("cache-tag", "cat_1 cat_3")][..], "write `cat_1, cat_3`"),
        ("PURGE", &[("x-purge-tags", "a")], "unknown purge field `x-purge-tags`"),
        ("PURGE", &[("x-surrogate-keys", "a")], "Surrogate-Key"),
        ("PURGE", &[("purge-mode", "soft"), ("xkey-purge", "a")], "a hard and a soft purge"),
        ("PURGEKEYS", &[], "list them in `xkey-purge`"),
        ("PURGEALL", &[], "unknown purge method PURGEALL"),
        ("BAN", &[("x-url", "^/(a|b)")], "expected a path such as"),
        ("BAN", &[("x-content-type", "image/.*")], "not supported"),
        ("BAN", &[("x-host", "a.test")], "needs `X-Url`"),
        ("BAN", &[("cache-tags", "[ab]")], "alternative of tags"),
    ] {
        let request = fields
            .iter()
            .fold(Request::new(method, "/p"), |request, (name, value)| request.with(name, value));
        let error = purge(&request, false).unwrap_err();
        assert!(error.contains(fix), "{method} {fields:?}: {error}");
    }
    let native_only = |request: &Request| parse_purge_request(&api(), &request.head(), false, false);
    assert!(native_only(&Request::new("PURGE", "/p").with("xkey", "a")).is_err());
    assert!(native_only(&Request::new("PURGE", "/p").with("surrogate-key", "a")).is_ok());
}

#[test]
fn purge_mode_is_hard_or_soft() {
    let mode =
        |mode| purge(&Request::new("PURGE", "/p").with("purge-mode", mode), false).map(|(_, mode)| mode);
    assert_eq!(mode("soft"), Ok(PurgeMode::Soft));
    assert_eq!(mode("Hard"), Ok(PurgeMode::Hard));
    assert!(mode("").is_err());
    assert!(mode("softly").is_err());
    let twice = Request::new("PURGE", "/p").with("purge-mode", "soft").with("purge-mode", "hard");
    assert!(purge(&twice, false).is_err());
    assert!(purge(&Request::new("PURGE", "/p/*?q"), false).is_err());
    assert!(purge(&Request::new("PURGE", "*"), false).is_err());
}

/// Checks the purges of an exchange with these JSON contents; `purges` are those of its route.
fn check_contents(purges: &[&str], asked: &str, answered: &str, expected: &[Target], widened: usize) {
    let events = |purges: &[&str]| Route {
        ttl: Ttl::Never,
        purges: Some(fixtures::purges(purges)),
        ..route("/api/events")
    };
    let lists = |path, tag: &str| Route { tags: templates(&[tag]), ..route(path) };
    let routes = routes([
        events(purges),
        lists("/api/guilds/{id}", "guild:{id}"),
        lists("/api/search", "Guild:{response.json:$[*].id}"),
        lists("/other/{id}", "other:{id}"),
    ]);
    let content = |text: &str| serde_json::from_str(text).ok().map(Content::Json);
    let (asked, answered) = (content(asked), content(answered));
    let exchange = WriteExchange {
        request_content: asked.as_ref(),
        response_content: answered.as_ref(),
        ..WriteExchange::default()
    };
    let found = exchanged(&routes, &Request::new("POST", "/api/events"), &exchange);
    assert_eq!(found, (expected.to_vec(), widened), "{purges:?}");
}

#[test]
fn a_write_purges_what_its_contents_name() {
    let guild = "guild:{request.json:/guild}";
    check_contents(&[guild], r#"{"guild": 7}"#, "", &[tag("guild:7")], 0);
    check_contents(&["{request.json:$.ids[*]}"], r#"{"ids": [1, "b"]}"#, "", &[tag("1"), tag("b")], 0);
    check_contents(&["made:{response.json:/id}"], "", r#"{"id": 9}"#, &[tag("made:9")], 0);
    // Known before the write, so not rendered again.
    check_contents(&["all"], "{}", "{}", &[], 0);
}

/// Routes with such tags are not reached: the write does not say that it changed them.
#[test]
fn content_without_a_value_widens_to_the_own_route() {
    let guild = "guild:{request.json:/guild}";
    for asked in ["", "{}", r#"{"guild":null}"#, r#"{"guild":""}"#, r#"{"guild":[7]}"#, r#"{"guild":7.5}"#] {
        // The route caches nothing.
        check_contents(&[guild], asked, "", &[], 1);
        let tagged = Route { purges: Some(fixtures::purges(&[guild, "all"])), ..route("/api/{x}") };
        let routes =
            routes([tagged, Route { tags: templates(&["guild:{id}"]), ..route("/api/guilds/{id}") }]);
        let asked = serde_json::from_str(asked).ok().map(Content::Json);
        let exchange = WriteExchange { request_content: asked.as_ref(), ..WriteExchange::default() };
        let found = exchanged(&routes, &Request::new("POST", "/api/events"), &exchange);
        assert_eq!(found, (vec![stored_by("/api/{x}")], 1));
    }
    check_contents(&["guild:{request.json:$[*]}"], "[1]", "", &[tag("guild:1")], 0);
}

#[test]
fn own_url_caller_purges_the_url_for_its_caller_only() {
    let mine = Route { per: Some(Credential::Authorization), own_url: OwnUrl::Caller, ..route("/me") };
    let routes = routes([Route { tags: templates(&["me"]), ..mine }]);
    let write = |token: &str| named(&routes, &Request::new("PUT", "/me").with("authorization", token)).0;
    let stored = |token: &str| {
        let request = Request::get("/me").with("authorization", token);
        let route = routes.find("/me").unwrap();
        response_targets(route, &request.head(), None, &HeaderMap::new(), &["x".to_owned()])
    };
    let reaches =
        |targets: &[Target], token: &str| targets.iter().any(|target| stored(token).contains(&target.id()));
    assert!(reaches(&write("a"), "a") && !reaches(&write("a"), "b"));
    // Without a credential the caller is unknown.
    let anyone = named(&routes, &Request::new("PUT", "/me")).0;
    assert!(anyone.contains(&path("/me")) && reaches(&anyone, "a") && reaches(&anyone, "b"));
    // Under another spelling it is the same caller's.
    let spelled = named(&routes, &Request::new("PUT", "/ME/").with("authorization", "a")).0;
    assert!(reaches(&spelled, "a") && !reaches(&spelled, "b"));
}

#[test]
fn options_of_purges_override_those_of_an_equal_tag() {
    let lazy = PurgeOptions { soft: true, at_most_every: Duration::from_secs(30) };
    let rule = |template: &str, options| PurgeRule { options, ..Template::parse(template).unwrap().into() };
    let tagged = Route {
        tags: templates(&["all", "one:{id}"]),
        purges: Some(vec![rule("all", lazy)]),
        ..route("/a/{id}")
    };
    let routes = routes([tagged]);
    let request = Request::new("PUT", "/a/7");
    let found = plan(&routes, &request).head_targets(&request.head());
    let now = PurgeOptions::default();
    let entries: Vec<_> = found.targets.into_entries().collect();
    assert_eq!(entries, [(path("/a/7"), now), (tag("one:7"), now), (tag("all"), lazy)]);
}

#[test]
fn as_much_of_a_content_is_kept_as_its_routes_ask_for() {
    let with = |purges: &[&str]| {
        routes([Route { purges: Some(fixtures::purges(purges)), max_json: 10, ..route("/a") }, route("/b")])
    };
    let kept = |purges, target| plan(&with(purges), &Request::new("POST", target)).content_to_buffer();
    let (both, none) = (["{request.form:x}", "{response.json:/x}"], BufferedContent::default());
    assert_eq!(kept(&both, "/a"), BufferedContent { request: Some(10), response: Some(10) });
    assert_eq!(kept(&both, "//A/"), BufferedContent { request: Some(10), response: Some(10) });
    assert_eq!(kept(&both, "/b"), none);
    assert_eq!(kept(&["x", "{query.q}"], "/a"), none);
    assert_eq!(kept(&["{request.json:/x}"], "/a"), BufferedContent { request: Some(10), response: None });
}

#[test]
fn a_location_purges_the_tags_that_its_path_gives_values_to() {
    let location = fields(&[("location", "/api/courses/9")]);
    check_response("/plain", &location, &[path("/api/courses/9"), tag("course:9")], 0);
}

#[test]
fn a_value_that_only_responses_have_widens_to_the_own_route() {
    let list = Route { tags: templates(&["items", "item:{response.json:$[*].id}"]), ..route("/items") };
    let routes = routes([list, Route { tags: templates(&["item:{id}"]), ..route("/items/{id}") }]);
    let request = Request::new("POST", "/items");
    assert_eq!(exchanged(&routes, &request, &WriteExchange::default()).0, [stored_by("/items")]);
}
