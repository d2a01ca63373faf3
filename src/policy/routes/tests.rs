use super::*;
use crate::policy::fixtures::{route, routes};
use crate::policy::path::PathTemplate;

fn routes_for(paths: &[&str]) -> Routes {
    routes(paths.iter().map(|path| route(path)))
}

fn name(route: Option<&Arc<Route>>) -> Option<&str> {
    route.map(|route| &*route.name)
}

#[test]
fn the_most_specific_route_wins_from_the_left() {
    let routes = routes_for(&[
        "/",
        "/a",
        "/a/{x}",
        "/a/b",
        "/a/{y}/c",
        "/a/b/{z}",
        "/{p}/b/d",
        "/f/{*rest}",
        "/f/{x}",
        "/f/g/h",
        "/t/",
        "/{*all}",
    ]);
    for (path, expected) in [
        ("/", Some("/")),
        ("/a", Some("/a")),
        ("/a/b", Some("/a/b")),
        ("/a/q", Some("/a/{x}")),
        ("/a/b/c", Some("/a/b/{z}")),
        ("/a/q/c", Some("/a/{y}/c")),
        ("/a/b/c/d", Some("/{*all}")),
        ("/q/b/d", Some("/{p}/b/d")),
        ("/f/g", Some("/f/{x}")),
        ("/f/g/h", Some("/f/g/h")),
        ("/f/g/i", Some("/f/{*rest}")),
        ("/f/g/", Some("/f/{*rest}")),
        ("/f", Some("/{*all}")),
        ("/f/", Some("/{*all}")),
        ("/t/", Some("/t/")),
        ("/t", Some("/{*all}")),
        ("/A", Some("/{*all}")),
        ("*", None),
        ("", None),
    ] {
        assert_eq!(name(routes.find(path)), expected, "{path}");
    }
}

#[test]
fn an_optional_rest_may_be_a_slash_alone() {
    let paths = ["/f/{*rest?}", "/x/{id}/{*rest?}", "/t/{*rest?}"];
    let templates = paths.iter().flat_map(|path| PathTemplate::parse_alternatives(path).unwrap());
    let with_path = |path| Route { path, ..route("/") };
    let named = templates.map(|path| Route { name: path.as_str().into(), ..with_path(path) });
    let routes = routes([route("/t/")].into_iter().chain(named).chain([route("/{*all}")]));
    for (path, expected) in [
        ("/f", "/f"),
        ("/f/", "/f"),
        ("/f/a", "/f/{*rest}"),
        ("/f/a/", "/f/{*rest}"),
        ("/x/7/", "/x/{id}"),
        ("/x/", "/{*all}"),
        ("/t/", "/t/"),
        ("/t", "/t"),
    ] {
        assert_eq!(name(routes.find(path)), Some(expected), "{path}");
    }
    for path in ["/f/", "/x/7/", "/t/", "/t"] {
        assert!(!routes.is_ambiguous(path, routes.find(path).unwrap()), "{path}");
    }
}

#[test]
fn a_parameter_with_affixes_goes_before_one_without() {
    let paths = [
        "/a/{x}",
        "/a/7:archive",
        "/a/{x}:archive",
        "/a/{x}:un:archive",
        "/a/v{x}:archive",
        "/a/{x}:archive/b",
        "/odata/Courses({id})",
        "/odata/Courses({id})/{*rest}",
    ];
    let reversed: Vec<_> = paths.iter().rev().copied().collect();
    for routes in [routes_for(&paths), routes_for(&reversed)] {
        for (path, expected) in [
            ("/a/7", Some("/a/{x}")),
            ("/a/7:archive", Some("/a/7:archive")),
            ("/a/8:archive", Some("/a/{x}:archive")),
            ("/a/8:un:archive", Some("/a/{x}:un:archive")),
            ("/a/v8:archive", Some("/a/v{x}:archive")),
            ("/a/v8:archive/b", Some("/a/{x}:archive/b")),
            ("/a/:archive", Some("/a/{x}")),
            ("/a/8:Archive", Some("/a/{x}")),
            ("/odata/Courses(7)", Some("/odata/Courses({id})")),
            ("/odata/Courses(7)/x/y", Some("/odata/Courses({id})/{*rest}")),
            ("/odata/courses(7)", None),
            ("/odata/Courses()", None),
        ] {
            assert_eq!(name(routes.find(path)), expected, "{path}");
        }
        let loosely = |path: &str| name(routes.find_loosely(&NormalizedPath::new(path))).map(str::to_owned);
        assert_eq!(loosely("/A/8:Archive/").as_deref(), Some("/a/{x}:archive"));
        assert_eq!(loosely("/odata/courses%287)").as_deref(), Some("/odata/Courses({id})"));
        let found = routes.find("/odata/Courses(7)").expect("a route");
        assert!(!routes.is_ambiguous("/odata/Courses(7)", found));
        let found = routes.find("/a/8:Archive").expect("a route");
        assert!(routes.is_ambiguous("/a/8:Archive", found));
        let below = |path: &str| routes.caches_below(&NormalizedPath::new(path));
        assert!(below("/odata") && below("/odata/courses(7)") && below("/a/8:archive"));
        assert!(!below("/a/8:other") && routes.caches_members(&NormalizedPath::new("/odata")));
    }
}

#[test]
fn a_parameter_stands_for_one_segment_that_is_not_empty() {
    let routes = routes_for(&["/a/{x}"]);
    for path in ["/a", "/a/", "/a/b/", "/a/b/c", "/a//", "/x/b"] {
        assert_eq!(name(routes.find(path)), None, "{path}");
    }
}

#[test]
fn it_goes_back_where_a_literal_leads_nowhere() {
    let routes = routes_for(&["/a/b/x", "/a/{p}/y", "/{q}/b/z"]);
    for (path, expected) in [
        ("/a/b/x", Some("/a/b/x")),
        ("/a/b/y", Some("/a/{p}/y")),
        ("/a/b/z", Some("/{q}/b/z")),
        ("/a/b/w", None),
    ] {
        assert_eq!(name(routes.find(path)), expected, "{path}");
    }
}

#[test]
fn every_spelling_finds_the_route_loosely() {
    let routes = routes_for(&["/API/courses/{id}", "/api/caf%C3%A9/", "/"]);
    for (path, expected) in [
        ("/api/courses/7", "/API/courses/{id}"),
        ("/Api//COURSES/./7/", "/API/courses/{id}"),
        ("/api/caf\u{e9}", "/api/caf%C3%A9/"),
        ("/API/caf%c3%a9", "/api/caf%C3%A9/"),
        ("//", "/"),
    ] {
        assert_eq!(name(routes.find_loosely(&NormalizedPath::new(path))), Some(expected), "{path}");
    }
}

#[test]
fn routes_that_differ_only_in_spelling_are_all_found_loosely() {
    let routes = routes_for(&["/a/{id}", "/A/{x}/", "/a/b"]);
    let found: Vec<&str> =
        routes.find_all_loosely(&NormalizedPath::new("/a/7")).map(|route| &*route.name).collect();
    assert_eq!(found, ["/a/{id}", "/A/{x}/"]);
}

#[test]
fn a_path_that_could_belong_to_another_route_is_ambiguous() {
    let check = |paths: &[&str], path: &str, expected: bool| {
        let routes = routes_for(paths);
        let found = routes.find(path).unwrap();
        assert_eq!(routes.is_ambiguous(path, found), expected, "{path}");
    };
    let users = &["/users/{id}", "/users/me", "/files/{*rest}", "/files/x"][..];
    check(users, "/users/7", false);
    check(users, "/users/Seven", false);
    check(users, "/users/ME", true);
    check(users, "/users/%6De", true);
    check(users, "/users/me.json", true);
    check(users, "/users/me%20", true);
    check(users, "/users/7.json", false);
    check(users, "/files/x/", true);
    check(users, "/files/y/", false);
    check(&["/users/{id}", "/users/ME"], "/users/me", true);
    check(&["/users/{id}", "/users/{x}/"], "/users/7/", false);
    let seventh = &["/users/{id}", "/users/7"][..];
    for (path, expected) in [
        ("/users/%EF%BC%97", true),
        ("/users/７", true),
        ("/users/0x7", true),
        ("/users/0o7", true),
        ("/users/0xg", false),
        ("/users/7abc", false),
        ("/users/index.php", false),
    ] {
        check(seventh, path, expected);
    }
    check(&["/{*rest}", "/users/{id}"], "/index.php/users/7", true);
    check(&["/{*rest}", "/users/{id}"], "/app/index.php/users/7", true);
    check(&["/{*rest}", "/users/{id}"], "/index.phps/users/7", false);
    let both = &["/{name}", "/courses", "/courses.json", "/courses/{id}"][..];
    check(both, "/courses.json", false);
    check(both, "/courses.xml", true);
    check(both, "/Courses.json", true);
    check(both, "/courses/7.json", false);
}
