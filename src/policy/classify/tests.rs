use super::*;
use crate::policy::caller::NoCallers;
use crate::policy::content_key::ReadMethods;
use crate::policy::credential::Credential;
use crate::policy::fixtures::{Request, caller_fields, route, routes};
use crate::policy::query::QueryRule;
use crate::policy::route::Ttl;

fn api() -> Routes {
    let page = ("page".to_owned(), Some("1".to_owned()));
    routes([
        Route { query: QueryRule::Only(vec![page]), ..route("/courses") },
        route("/courses/{id}"),
        Route { ttl: Ttl::Never, ..route("/courses/{id}/enroll") },
        Route { mode: RouteMode::Off, ..route("/off") },
        Route { mode: RouteMode::Observe, ..route("/observed") },
        Route { per: Some(Credential::Authorization), ..route("/users/me") },
        Route { shared: Shared::All, ..route("/users/{id}") },
        Route { headers: vec![HeaderName::from_static("x-original-host")], ..route("/hosts") },
        Route { headers: vec![HeaderName::from_static("x_zone")], ..route("/zones") },
        Route { methods: ReadMethods { query: true, post: true }, ..route("/search") },
        Route { methods: ReadMethods { query: true, post: false }, ..route("/find") },
    ])
}

/// Checks the classification and the route of a request.
fn check(request: &Request, has_content: bool, expected: (&str, Option<&str>)) {
    let routes = api();
    let (word, route) = match classify(&routes, &request.head(), has_content, &caller_fields(), &NoCallers) {
        Classification::Lookup(lookup) if lookup.caller == Caller::InKey => ("lookup", Some(lookup.route)),
        Classification::Lookup(lookup) => ("credentialed", Some(lookup.route)),
        Classification::Pass { reason, route } => (reason.as_str(), route),
        Classification::ContentRead { route } => ("content", Some(route)),
        Classification::Write { route } => ("write", route),
        Classification::Identify { route } => ("identify", Some(route)),
    };
    assert_eq!((word, route.map(|route| &*route.name)), expected, "{request:?}");
}

#[test]
fn a_route_says_by_which_methods_it_is_read() {
    for (method, path, expected) in [
        ("POST", "/search", "content"),
        ("QUERY", "/search", "content"),
        ("GET", "/search", "lookup"),
        ("PUT", "/search", "write"),
        ("QUERY", "/find", "content"),
        ("POST", "/find", "write"),
        // Another spelling of the path, or of the method.
        ("POST", "/search/", "write"),
        ("POST", "//search", "write"),
        ("post", "/search", "write"),
    ] {
        let request = Request { method: method.parse().unwrap(), ..Request::get(path) };
        let route = format!("/{}", path.trim_matches('/'));
        check(&request, method != "GET", (expected, Some(&*route)));
    }
    // A POST that the upstream may take for a DELETE.
    let request = Request { method: Method::POST, ..Request::get("/search") };
    check(&request.with("x-http-method-override", "DELETE"), true, ("write", Some("/search")));
}

#[test]
fn the_method_decides_first() {
    let courses = Some("/courses/{id}");
    for (method, target, expected) in [
        ("GET", "/courses/7", ("lookup", courses)),
        ("HEAD", "/courses/7", ("lookup", courses)),
        ("OPTIONS", "/courses/7", ("method", courses)),
        ("QUERY", "/courses/7", ("method", courses)),
        ("PROPFIND", "/courses/7", ("method", courses)),
        ("TRACE", "/nowhere", ("method", None)),
        ("POST", "/courses/7", ("write", courses)),
        ("DELETE", "/courses/7", ("write", courses)),
        ("LOCK", "/courses/7", ("write", courses)),
        ("get", "/courses/7", ("write", courses)),
        ("POST", "/Courses//7/", ("write", courses)),
        ("POST", "/nowhere", ("write", None)),
    ] {
        check(&Request::new(method, target), false, expected);
    }
}

#[test]
fn a_route_says_whether_it_caches() {
    check(&Request::get("/nowhere"), false, ("no-route", None));
    check(&Request::get("/courses/7/"), false, ("path-spelling", Some("/courses/{id}")));
    check(&Request::get("/COURSES/7"), false, ("path-spelling", Some("/courses/{id}")));
    check(&Request::get("/off"), false, ("route-off", Some("/off")));
    check(&Request::get("/courses/7/enroll"), false, ("route-never-caches", Some("/courses/{id}/enroll")));
    check(&Request::get("/observed"), false, ("lookup", Some("/observed")));
}

#[test]
fn a_path_that_can_be_read_in_two_ways_passes() {
    for path in [
        "/courses/%37",
        "/courses//7",
        "/courses/7//",
        "/courses/./7",
        "/courses/x/../7",
        "/courses/x/..%2f7",
        "/courses/7;v=1",
        "/courses\\7",
        "/COURSES//7",
        "/courses/%2537",
        "/courses/7%00",
        "/courses/7%3Fx",
        "/courses/caf\u{e9}",
        "/courses/7%2Fenroll",
    ] {
        check(&Request::get(path), false, ("path-spelling", Some("/courses/{id}")));
    }
    check(&Request::get("/nowhere//7"), false, ("no-route", None));
    check(&Request::get("/off//"), false, ("route-off", Some("/off")));
    // To a case-insensitive upstream this is the caller's own page, not the shared one.
    check(&Request::get("/users/ME"), false, ("path-spelling", Some("/users/{id}")));
    check(&Request::get("/users/You"), false, ("lookup", Some("/users/{id}")));
    // To a framework with format suffixes it is, too.
    check(&Request::get("/users/me.json"), false, ("path-spelling", Some("/users/{id}")));
    check(&Request::get("/users/you.json"), false, ("lookup", Some("/users/{id}")));
}

#[test]
fn what_may_change_the_response_and_is_not_in_the_key_passes() {
    let get = || Request::get("/courses/7");
    let courses = Some("/courses/{id}");
    check(&get().with("upgrade", "websocket"), false, ("upgrade", courses));
    check(&get(), true, ("request-content", courses));
    for name in override_fields::all() {
        let mut request = get();
        request.headers.insert(name, "x".parse().unwrap());
        check(&request, false, ("override-field", courses));
    }
    let hosts = Request::get("/hosts").with("x-original-host", "a.example");
    check(&hosts, false, ("lookup", Some("/hosts")));
    check(&hosts.with("x-host", "a.example"), false, ("override-field", Some("/hosts")));
}

#[test]
fn a_field_that_the_connection_drops_can_not_stand_in_the_key() {
    let get = || Request::get("/courses/7").with("x-tenant", "a").with("keep-alive", "timeout=5");
    let courses = Some("/courses/{id}");
    for (connection, word) in [
        ("keep-alive", "lookup"),
        ("close", "lookup"),
        ("Keep-Alive, TE", "lookup"),
        ("x-absent", "lookup"),
        ("X-Tenant", "override-field"),
        ("close ,x-tenant", "override-field"),
        ("\u{e9}", "override-field"),
    ] {
        check(&get().with("connection", connection), false, (word, courses));
    }
}

#[test]
fn who_asks_is_in_the_key_or_counts_as_credentialed() {
    let me = || Request::get("/users/me");
    check(&me(), false, ("no-credential", Some("/users/me")));
    check(&me().with("cookie", "a=b"), false, ("no-credential", Some("/users/me")));
    let token = me().with("authorization", "Bearer a");
    check(&token, false, ("lookup", Some("/users/me")));
    check(&token.clone().with("cookie", "a=b"), false, ("credentialed", Some("/users/me")));
    check(&token.with("authorization", "Bearer b"), false, ("no-credential", Some("/users/me")));
    let detail = Request::get("/courses/7").with("authorization", "Bearer a");
    check(&detail, false, ("credentialed", Some("/courses/{id}")));
    let shared = Request::get("/users/7").with("authorization", "Bearer a").with("cookie", "a=b");
    check(&shared, false, ("lookup", Some("/users/{id}")));
}

#[test]
fn the_query_in_the_key_is_the_one_to_forward() {
    let routes = api();
    let lookup =
        |target| match classify(&routes, &Request::get(target).head(), false, &caller_fields(), &NoCallers) {
            Classification::Lookup(lookup) => (lookup.query, lookup.key),
            other => panic!("{other:?}"),
        };
    let (query, key) = lookup("/courses");
    assert_eq!(query.sent(), Some("page=1"));
    assert_eq!(lookup("/courses?page=1&utm=x").1, key);
    assert_ne!(lookup("/courses?page=2").1, key);
    assert_eq!(lookup("/courses/7").0.sent(), None);
    assert_eq!(lookup("/courses/7?b&a").0.sent(), Some("b&a"));
}

#[test]
fn a_field_that_may_be_read_as_one_of_the_key_is_not_looked_up() {
    for (name, expected) in [
        ("x_zone", "lookup"),
        ("x-zone", "override-field"),
        ("x.zone", "override-field"),
        ("x-zones", "lookup"),
        ("x-zon", "lookup"),
    ] {
        check(&Request::get("/zones").with(name, "1"), false, (expected, Some("/zones")));
    }
}
