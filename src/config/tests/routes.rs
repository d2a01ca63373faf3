//! Routes: their own word, the defaults', the built-in one; and what they can't say together.

use std::time::Duration;

use super::{check_wrong, right};
use crate::policy::Route;
use crate::policy::credential::Credential;
use crate::policy::query::QueryRule;
use crate::policy::rate_limit::RateKey;
use crate::policy::route::{Collapse, Overrides, RouteMode, Shared, Ttl};

/// The one route of `defaults: {…}` and `routes: [{path: /a/{id}, …}]`.
fn route(defaults: &str, own: &str) -> Route {
    let config = right(&format!("defaults: {{{defaults}}}\nroutes: [{{path: '/a/{{id}}', {own}}}]"));
    (*config.routes[0]).clone()
}

fn seconds(seconds: u64) -> Ttl {
    Ttl::For(Duration::from_secs(seconds))
}

#[test]
fn a_route_has_the_built_in_defaults_of_the_design() {
    let route = route("", "");
    assert_eq!(
        (&*route.name, route.index, route.mode, route.ttl),
        ("/a/{id}", 0, RouteMode::On, Ttl::Upstream)
    );
    assert!(route.tags.is_empty() && route.purges.is_none() && route.status.is_empty());
    assert_eq!((route.query, route.shared, route.per), (QueryRule::All, Shared::No, None));
    assert_eq!((route.stale_while_revalidate, route.stale_if_error), (Duration::ZERO, Duration::ZERO));
    assert_eq!((route.max_size, route.collapse, route.settle), (8 << 20, Collapse::Local, Duration::ZERO));
    assert!(route.headers.is_empty() && route.cookies.is_empty());
    assert_eq!(route.overrides, Overrides::default());
}

#[test]
fn a_ttl_is_a_duration_or_a_word() {
    for (written, expected) in [
        ("30s", seconds(30)),
        ("\"2m\"", seconds(120)),
        ("upstream", Ttl::Upstream),
        ("none", Ttl::UntilPurged),
        ("never", Ttl::Never),
        ("false", Ttl::Never),
    ] {
        assert_eq!(route("", &format!("ttl: {written}, tags: [x]")).ttl, expected, "{written}");
    }
    for (written, help) in [
        ("30", "write `30s`"),
        ("0s", "write `never`"),
        ("nevr", "did you mean `never`?"),
        ("5 minutes", "write `5m`"),
        ("null", "a value is missing"),
    ] {
        check_wrong(&format!("routes: [{{path: /a, ttl: {written}}}]"), &["2:26", help]);
    }
}

#[test]
fn a_purge_only_route_caches_nothing_under_any_defaults() {
    for (defaults, own, expected) in [
        ("", "purges: [x]", Ttl::Never),
        ("ttl: 1m", "purges: [x]", Ttl::Never),
        ("ttl: 1m", "purges: []", Ttl::Never),
        ("ttl: 1m, tags: [x]", "purges: [x]", Ttl::Never),
        ("ttl: 1m", "purges: [x], tags: [x]", seconds(60)),
        ("", "purges: [x], tags: [x]", Ttl::Upstream),
        ("ttl: 1m", "purges: [x], ttl: 5s", seconds(5)),
        ("ttl: 1m", "", seconds(60)),
        ("purges: [x], ttl: 1m", "", seconds(60)),
        ("", "", Ttl::Upstream),
    ] {
        assert_eq!(route(defaults, own).ttl, expected, "defaults {defaults}, own {own}");
    }
}

#[test]
fn a_route_s_own_word_takes_the_place_of_the_defaults() {
    let defaults = "mode: observe, tags: [d], status: {404: 1s}, query: [q], max_size: 1KiB, collapse: false, \
                    headers: [X-A], cookies: [a], override: [private], stale_if_error: 1s, settle: 2s";
    let given = route(defaults, "");
    assert_eq!((given.mode, given.tags[0].as_str(), given.max_size), (RouteMode::Observe, "d", 1024));
    assert_eq!((given.collapse, given.settle), (Collapse::No, Duration::from_secs(2)));
    assert_eq!((given.headers[0].as_str(), given.cookies[0].as_str()), ("x-a", "a"));
    assert!(given.overrides.private && given.status.contains_key(&404));
    for (written, collapse) in
        [("replicas", Collapse::Replicas), ("on", Collapse::Local), ("false", Collapse::No)]
    {
        assert_eq!(route("", &format!("collapse: {written}")).collapse, collapse, "{written}");
    }
    let own = "mode: true, tags: [], status: {}, query: all, max_size: 2KiB, collapse: true, headers: [], \
               cookies: [], override: [lifetime, no-cache], stale_if_error: 0s";
    let route = route(defaults, own);
    assert_eq!((route.mode, route.max_size, route.collapse), (RouteMode::On, 2048, Collapse::Local));
    assert!(route.tags.is_empty() && route.headers.is_empty() && route.cookies.is_empty());
    assert!(route.status.is_empty() && route.stale_if_error.is_zero());
    assert_eq!(route.overrides, Overrides { lifetime: true, no_cache: true, ..Overrides::default() });
    assert_eq!(route.query, QueryRule::All);
}

#[test]
fn shared_and_per_conflict_and_override_both_defaults() {
    let authorization = Some(Credential::Authorization);
    for (defaults, own, shared, per) in [
        ("", "shared: true", true, None),
        ("", "per: authorization", false, authorization.clone()),
        ("per: authorization", "", false, authorization.clone()),
        ("per: authorization", "shared: true", true, None),
        ("per: authorization", "shared: false", false, None),
        ("per: authorization", "per: none", false, None),
        ("shared: true", "per: authorization", false, authorization.clone()),
        ("shared: true", "per: cookie.session_id", false, Some(Credential::Cookie("session_id".into()))),
        ("shared: true", "", true, None),
        ("", "per: header.Authorization", false, authorization.clone()),
        ("", "shared: false, per: authorization", false, authorization),
    ] {
        let route = route(defaults, own);
        let shared = if shared { Shared::All } else { Shared::No };
        assert_eq!((route.shared, route.per), (shared, per), "defaults {defaults}, own {own}");
    }
    check_wrong(
        "routes: [{path: /a, shared: true, per: authorization}]",
        &["2:29", "one response to all callers"],
    );
    check_wrong("defaults: {shared: true, per: authorization}", &["2:20", "one response to all callers"]);
}

#[test]
fn the_query_has_four_forms() {
    let named = |pairs: &[(&str, Option<&str>)]| {
        QueryRule::Only(
            pairs.iter().map(|(name, value)| ((*name).into(), value.map(str::to_owned))).collect(),
        )
    };
    for (written, expected) in [
        ("all", QueryRule::All),
        ("[]", named(&[])),
        ("[page, limit]", named(&[("page", None), ("limit", None)])),
        (
            "{page: 1, version: 1.10, flag: yes, q: }",
            named(&[("page", Some("1")), ("version", Some("1.10")), ("flag", Some("yes")), ("q", None)]),
        ),
        ("{ignore: [\"utm_*\", fbclid]}", QueryRule::Ignore(vec!["utm_*".into(), "fbclid".into()])),
        ("{ignore: 5}", named(&[("ignore", Some("5"))])),
        ("{ignore: 5, page: 1}", named(&[("ignore", Some("5")), ("page", Some("1"))])),
    ] {
        assert_eq!(route("", &format!("query: {written}")).query, expected, "{written}");
    }
    for (written, part) in [
        ("none", "write `[]`"),
        ("page", "for one parameter, `[page]`"),
        ("{ignore: [a], page: 1}", "can't be combined"),
        ("{only: [a]}", "write the list itself"),
        ("[a, a]", "`a` occurs twice"),
        ("{ignore: [\"a*b\"]}", "only be the last character"),
        ("{ignore: [\"a**\"]}", "only be the last character"),
        ("[\"\"]", "is empty"),
    ] {
        check_wrong(&format!("routes: [{{path: /a, query: {written}}}]"), &[part]);
    }
}

#[test]
fn tags_are_checked_against_the_path() {
    let tags = route("", "tags: ['a:{id}', 'q:{query.q}', 'u:{jwt.sub}', 'r:{response.header.x-id}']").tags;
    assert_eq!(
        tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>().join(" "),
        "a:{id} q:{query.q} u:{jwt.sub} r:{response.header.x-id}"
    );
    for (path, fields, parts) in [
        ("/a", "tags: ['a:{id}']", &["`{id}` is not in the route's path", "the path has no parameters"][..]),
        ("/a/{course}", "tags: ['a:{id}']", &["the path has `{course}`"]),
        ("/a/{courseId}", "purges: ['a:{course_id}']", &["did you mean `{courseId}`?"]),
        ("/a/{*rest}", "tags: ['a:{res}']", &["did you mean `{rest}`?"]),
        ("/a", "tags: ['a:{quary.x}']", &["did you mean `{query.x}`?"]),
        ("/a", "tags: ['a:{']", &["never closed"]),
        ("/a", "tags: ['']", &["can't be empty"]),
        ("/a", "tags: ['a:{request.json:/id}']", &["can't use the content of the request", "`purges`"]),
        ("/a", "tags: ['a:{response.json:id}']", &["`/id` or `$.id`"]),
    ] {
        check_wrong(&format!("routes: [{{path: '{path}', {fields}}}]"), parts);
    }
    check_wrong(
        "defaults: {tags: ['a:{id}']}\nroutes: [{path: '/a/{id}'}, {path: /b}]",
        &["2:19", "`{id}` is not in"],
    );
}

#[test]
fn two_routes_for_the_same_paths_are_named_with_both_lines() {
    for (one, two, same) in [
        ("/a/{x}", "/a/{y}", true),
        ("/a", "/a", true),
        ("/a/{*x}", "/a/{*y}", true),
        ("/a/{x}/b/{y}", "/a/{y}/b/{x}", true),
        ("/a/{x}", "/a/b", false),
        ("/a/{x}", "/a/{*x}", false),
        ("/a", "/a/", false),
        ("/a", "/A", false),
    ] {
        let text = format!("routes:\n  - path: '{one}'\n  - path: '{two}'\n");
        if same {
            let errors = super::parse(&super::with(&text)).expect_err(&text);
            let problem = &errors.diagnostics()[0];
            assert_eq!(errors.diagnostics().len(), 1, "{errors}");
            assert_eq!(problem.location.line(), Some(4), "{errors}");
            assert_eq!(problem.note.as_ref().and_then(|(place, _)| place.line()), Some(3), "{errors}");
        } else {
            assert_eq!(right(&text).routes.len(), 2, "{one} {two}");
        }
    }
}

#[test]
fn routes_may_share_a_name_and_parameter_names_need_not_agree() {
    let config = right("routes: [{path: '/a/{x}', name: n}, {path: '/a/{y}/b', name: n, tags: ['{y}']}]");
    assert!(config.routes.iter().all(|route| &*route.name == "n"));
    assert_eq!(config.routes.iter().map(|route| route.index).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn fields_of_a_route_refuse_what_can_t_work() {
    for (fields, part) in [
        ("mode: obsrve", "did you mean `observe`?"),
        ("name: ''", "a name has 1 to"),
        ("per: session", "write `authorization`, `cookie.NAME`"),
        ("per: jwt.sub", "the route has no `callers`"),
        ("callers: app, per: [jwt.a, b]", "`b` is no claim"),
        ("per: []", "`per` is empty"),
        ("shared: signed-in", "the route has no `callers`"),
        ("anonymous: share", "the route has no `callers`"),
        ("callers: ap", "did you mean `app`?"),
        ("callers: other, per: jwt.sub", "callers of `other` have no claims"),
        ("callers: other, tags: ['u:{jwt.sub}']", "callers of `other` have no claims"),
        ("tags: ['u:{caller}']", "give the route `callers`"),
        ("per: header.Cookie", "name one: `cookie.NAME`"),
        ("per: 'cookie.a b'", "is not a cookie name"),
        ("headers: [authorization]", "write `per: authorization`"),
        ("headers: [Cookie]", "cookies: [NAME]"),
        ("headers: [X-A, x-a]", "`x-a` occurs twice"),
        ("cookies: ['a=b']", "is not a cookie name"),
        ("status: {200: 1s}", "stored for the route's `ttl`"),
        ("status: {206: 1s}", "not a complete response"),
        ("status: {404: 0s}", "this can't be zero"),
        ("status: {4xx: 1s}", "`4xx` is not a status"),
        ("status: [404]", "{404: 10s}"),
        ("override: [lifetme]", "did you mean `lifetime`?"),
        ("max_size: 0", "this can't be zero"),
        ("settle: 2", "write `2s`"),
    ] {
        let callers = "app: {jwt: {keys: keys.json}}, other: {ask: {url: 'http://a/b'}}";
        check_wrong(&format!("callers: {{{callers}}}\nroutes: [{{path: /a, {fields}}}]"), &[part]);
    }
    check_wrong("routes: [{path: a}]", &["2:17", "write `/a`"]);
    for path in ["~ ^/a", "^/a/.*", "/a/[0-9]+", "/a/(b|c)", "/a/\\d+"] {
        check_wrong(&format!("routes: [{{path: '{path}'}}]"), &["a regular expression", "write `{name}`"]);
    }
    check_wrong(
        "routes: [{path: '/a/:id'}]",
        &["write `/a/{id}`".trim_start_matches("write `/a/").trim_end_matches('`')],
    );
}

#[test]
fn what_is_mostly_a_mistake_is_a_warning() {
    for (routes, part) in [
        ("[{path: /a, shared: true, override: [private]}]", "are served to all callers"),
        ("[{path: /a, shared: true, tags: ['p:{jwt.sub}']}]", "names a caller"),
        ("[{path: /a, tags: [courses]}, {path: /b, purges: [coures]}]", "did you mean `courses`?"),
        (
            "[{path: '/a/{id}', tags: ['course:{id}']}, {path: '/b/{x}', purges: ['cuorse:{x}']}]",
            "did you mean `course:{…}`?",
        ),
        ("[{path: /a/.*, ttl: 1s}]", "`*` stands for itself in a path"),
        ("[{path: /a, ttl: 1s, query: ['utm_*']}]", "`utm_*` is one parameter"),
    ] {
        let warnings = right(&format!("routes: {routes}")).warnings;
        assert!(matches!(warnings.as_slice(), [warning] if warning.contains(part)), "{routes}: {warnings:?}");
    }
    for routes in [
        "[{path: /a, ttl: none, tags: [a]}]",
        "[{path: /a, override: [private], per: authorization}]",
        "[{path: '/a/{id}', tags: ['course:{id}']}, {path: '/b/{x}', purges: ['course:{x}', from-the-upstream]}]",
    ] {
        assert_eq!(right(&format!("routes: {routes}")).warnings, [""; 0], "{routes}");
    }
}

#[test]
fn anchors_and_merge_keys_serve_repeated_fields() {
    let config = right(
        "routes:\n  - &list\n    path: /a\n    ttl: 30s\n    tags: &tags [x]\n  - {<<: *list, path: /b}\n  - {path: /c, tags: *tags}\n",
    );
    assert_eq!(config.routes[1].ttl, seconds(30));
    assert_eq!(config.routes[2].tags, config.routes[0].tags);
}

#[test]
fn a_rate_says_how_many_in_which_time_and_of_whom() {
    let rate = |value: &str| format!("routes: [{{path: /a, ttl: 1m, rate: {value}}}]");
    let route = &right(&rate("{limit: 5/5m}")).routes[0];
    let limit = route.rate.as_ref().expect("a rate");
    assert_eq!((limit.requests, limit.period.as_secs(), limit.burst), (5, 300, 5));
    assert_eq!((&limit.by, limit.name(route)), (&RateKey::Client, "/a"));
    let limit = right(&rate(
        "{limit: 100/m, burst: 20, by: header.X-Key, count: misses, shared: false, mode: observe, name: api}",
    ));
    let limit = limit.routes[0].rate.clone().expect("a rate");
    assert_eq!((limit.price().as_millis(), limit.capacity().as_secs(), limit.is_enforced), (600, 12, false));
    assert!(right(&rate("off")).routes[0].rate.is_none());
    for (value, part) in [
        ("100/m", "must be a mapping"),
        ("{burst: 5}", "rate has no `limit`"),
        ("{limit: 100}", "`100` is not a limit"),
        ("{limit: 0/m}", "`100/m`, `20/s`, `5/5m`"),
        ("{limit: 10/ms}", "is not a limit"),
        ("{limit: 10/2d}", "from `1s` to `1d`"),
        ("{limit: 5000000/s}", "is not a limit"),
        ("{limit: 1/s, burst: 0}", "not a number from 1"),
        ("{limit: 1/s, by: cookie.sid}", "nothing to count by"),
        ("{limit: 1/s, by: caller}", "the route has no `callers`"),
        ("{limit: 1/s, by: jwt.sub}", "count `by: client` or `by: header.NAME`"),
    ] {
        check_wrong(&rate(value), &[part]);
    }
    let routes = |one: &str, other: &str| {
        format!(
            "routes:\n  - {{path: /a, rate: {{limit: 5/m, {one}}}}}\n  - {{path: /b, rate: {{{other}}}}}\n"
        )
    };
    for (one, other) in [
        ("name: api", "limit: 6/m, name: api"),
        ("name: api", "limit: 5/h, name: api"),
        ("name: api", "limit: 5/m, burst: 6, name: api"),
        ("name: api", "limit: 5/m, by: header.X-Key, name: api"),
        ("name: api", "limit: 5/m, shared: false, name: api"),
        ("burst: 5", "limit: 6/m, name: /a"),
    ] {
        check_wrong(&routes(one, other), &["`/a` and `/b` have the budget", "4:22"]);
    }
    right(&routes("name: api", "limit: 5/m, burst: 5, count: misses, mode: observe, name: api"));
    right(&routes("name: api", "limit: 6/m"));
    let asked = "callers: {s: {ask: {url: 'http://a/b', forward: [cookie.s]}}}\n\
                 routes: [{path: /a, callers: s, rate: {limit: 1/s, by: jwt.sub}}]";
    check_wrong(asked, &["callers of `s` have no claims", "write `by: caller`"]);
}

#[test]
fn a_route_says_what_other_caches_are_told() {
    let told = route("list_tags: [Surrogate-Key, XKEY]", "downstream: {s_maxage: 1h, scope: public}");
    assert_eq!(told.list_tags, ["surrogate-key", "xkey"]);
    let downstream = told.downstream.unwrap();
    assert_eq!((downstream.max_age, downstream.s_maxage), (Duration::ZERO, Some(Duration::from_secs(3600))));
    assert_eq!(route("downstream: {max_age: 1s}", "downstream: none").downstream, None);
    for (written, messages) in [
        (
            "list_tags: [X-Tags]",
            &["`x-tags` is not a field that lists tags", "`Surrogate-Key` for Fastly"][..],
        ),
        ("list_tags: [xkey, xkey]", &["2:"]),
        ("downstream: 30s", &["downstream must be a mapping"]),
        ("downstream: {max-age: 30s}", &["did you mean `max_age`?"]),
        ("downstream: {s_maxage: 1s, scope: private}", &["`scope: private` excludes", "2:44"]),
        ("downstream: {scope: shared}", &["unknown value `shared`"]),
    ] {
        check_wrong(&format!("routes: [{{path: /a, {written}}}]"), messages);
    }
}
