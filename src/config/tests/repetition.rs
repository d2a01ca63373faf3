//! Routes that say once what several have in common: alternatives, additions to `defaults`, anchors, lists in variables.

use std::time::Duration;

use super::{check_wrong, right, with};
use crate::config::{Config, SettingOverrides};
use crate::policy::credential::Credential;
use crate::policy::route::{Shared, Ttl};

fn paths(config: &Config) -> Vec<(&str, usize, &str)> {
    config.routes.iter().map(|route| (route.path.as_str(), route.index, &*route.name)).collect()
}

fn tags(config: &Config, route: usize) -> Vec<&str> {
    config.routes[route].tags.iter().map(|tag| tag.as_str()).collect()
}

#[test]
fn a_path_with_alternatives_is_a_route_for_each() {
    let config = right(
        "routes:
- path: /api/{notes|tasks}/{id}/{*rest?}
  purges: [\"found:{id}\"]
- {path: /api/notes, name: notes}
",
    );
    let written = "/api/{notes|tasks}/{id}/{*rest?}";
    assert_eq!(
        paths(&config),
        [
            ("/api/notes/{id}", 0, written),
            ("/api/tasks/{id}", 1, written),
            ("/api/notes/{id}/{*rest}", 2, written),
            ("/api/tasks/{id}/{*rest}", 3, written),
            ("/api/notes", 4, "notes"),
        ]
    );
}

#[test]
fn alternatives_are_the_same_rules_as_routes_written_one_by_one() {
    let short = right("routes: [{path: '/{a|b}/{*rest?}', ttl: 1m, tags: [x]}]");
    let long = right(
        "routes: [{path: /a, ttl: 1m, tags: [x]}, {path: /b, ttl: 1m, tags: [x]}, \
         {path: '/a/{*rest}', ttl: 1m, tags: [x]}, {path: '/b/{*rest}', ttl: 1m, tags: [x]}]",
    );
    let rules = |config: &Config| crate::policy::routes::Routes::new(&config.routes).rules();
    assert_eq!(rules(&short), rules(&long));
    for (one, other) in short.routes.iter().zip(&long.routes) {
        assert_eq!(one.fingerprint, other.fingerprint, "{}", other.path.as_str());
    }
}

#[test]
fn an_error_in_alternatives_says_what_to_write() {
    for (path, help) in [
        ("/api/{notes|tasks/old}", "routes of their own"),
        ("/api/x-{a|b}", "write `{notes|tasks}`"),
        ("/api/{a|}", "empty alternative"),
        ("/api/{a|b|a}", "`a` twice"),
        ("/api/{:id|b}", "`{id}`"),
        ("/{a|b|c|d|e}/{a|b|c|d|e}/{a|b|c}", "more than 64 paths"),
        ("/{*rest?}/b", "`{*rest}`"),
    ] {
        check_wrong(&format!("routes:\n- path: '{path}'\n"), &["3:9", help]);
    }
    let same = "routes: [{path: '/{a|b}'}, {path: /b}]";
    check_wrong(same, &["2:35", "`/b` matches the same paths as `/b`"]);
    let absent = "routes: [{path: '/a/{*rest?}', purges: ['x:{rest}']}]";
    check_wrong(absent, &["2:41", "`{rest}` is not in the route's path `/a`"]);
}

#[test]
fn a_plus_adds_to_the_list_of_the_defaults() {
    let config = right(
        "defaults: {tags: [all, api], headers: [Accept-Language]}
routes:
- {path: /a, tags: [+a, \"+a:{query.x}\"], headers: [+X-Unit]}
- {path: /b, tags: [b]}
- {path: /c}
",
    );
    assert_eq!(tags(&config, 0), ["all", "api", "a", "a:{query.x}"]);
    assert_eq!(config.routes[0].headers, ["accept-language", "x-unit"]);
    assert_eq!(tags(&config, 1), ["b"]);
    assert_eq!(tags(&config, 2), ["all", "api"]);
}

#[test]
fn added_purges_keep_their_options() {
    let config = right(
        "defaults: {purges: [all]}
routes: [{path: /a, purges: [+a, {tag: b, soft: true}]}]
",
    );
    let rules = config.routes[0].purges.clone().unwrap_or_default();
    let rules: Vec<_> = rules.iter().map(|rule| (rule.template.as_str(), rule.options.soft)).collect();
    assert_eq!(rules, [("all", false), ("a", false), ("b", true)]);
}

#[test]
fn an_error_in_an_addition_says_what_to_write() {
    check_wrong("routes: [{path: /a, tags: [+a]}]", &["2:28", "no such list", "write `a`"]);
    check_wrong("defaults: {tags: [+a]}", &["2:19", "nothing to add to", "write `a`"]);
    check_wrong(
        "defaults: {tags: [all]}\nroutes: [{path: /a, tags: [+a, b]}]",
        &["3:32", "`b` has no `+`", "write `+b`"],
    );
    // The defaults' own error is reported once.
    check_wrong(
        "defaults: {tags: ['x{']}\nroutes: [{path: /a, tags: [+a]}, {path: /b, tags: [+b]}]",
        &["2:19"],
    );
}

#[test]
fn a_key_that_begins_with_x_is_a_place_for_anchors() {
    let config = right(
        "x-mine: &mine {per: authorization, ttl: 5m}
x-tags: &tags [a, b]
routes:
- {path: /a, <<: *mine, ttl: 1m}
- {path: /b, tags: *tags}
",
    );
    assert_eq!(config.routes[0].ttl, crate::policy::route::Ttl::For(std::time::Duration::from_secs(60)));
    assert!(config.routes[0].per.is_some());
    assert_eq!(tags(&config, 1), ["a", "b"]);
    check_wrong("admin: {x-mine: 1}", &["2:9", "unknown key `x-mine`"]);
}

fn parse(more: &str, value: &str) -> Result<Config, String> {
    let environment = |name: &str| (name == "LIST").then(|| value.to_owned());
    Config::parse(&with(more), "proxy.yaml", &environment, &SettingOverrides::default())
        .map_err(|errors| errors.to_string())
}

#[test]
fn a_variable_can_hold_a_list() {
    for (written, value, expected) in [
        ("${LIST[]}", "a, b,c", &["a", "b", "c"][..]),
        ("${LIST[]}", "a", &["a"]),
        ("${LIST[]}", "", &[]),
        ("${LIST[]:-x,y}", "", &["x", "y"]),
        ("${NONE[]:-a:{id},b}", "", &["a:{id}", "b"]),
        ("['${LIST[]}', z]", "a,b", &["a", "b", "z"]),
        ("['${LIST}']", "a", &["a"]),
    ] {
        let config = parse(&format!("routes:\n- path: /{{id}}\n  tags: {written}\n"), value);
        let config = config.unwrap_or_else(|errors| panic!("{written}: {errors}"));
        assert_eq!(tags(&config, 0), expected, "{written}");
    }
}

#[test]
fn an_error_in_a_list_of_a_variable_says_what_to_do() {
    for (written, value, help) in [
        ("${LIST}", "a,b", "${VAR[]}"),
        ("${NONE[]}", "", "`NONE` is not set"),
        ("${LIST[]}", "a,,b", "empty item"),
        ("x-${LIST[]}", "a", "let it stand alone, or write `${LIST}`"),
    ] {
        let errors = parse(&format!("routes:\n- path: /a\n  tags: {written}\n"), value).expect_err(written);
        assert!(errors.contains("proxy.yaml:4:9") && errors.contains(help), "{written}: {errors}");
    }
    let single = parse("admin: {listen: '${LIST[]}'}", "a,b").expect_err("a list");
    assert!(single.contains("must be a single value, not a list"), "{single}");
}

const GROUPED: &str = "defaults: {tags: [all], ttl: 1m}
routes:
- {path: /first}
- name: content
  ttl: 5m
  per: authorization
  tags: [+content]
  routes:
  - {path: /notes, tags: [+notes]}
  - {path: /shared, shared: true, name: shared, ttl: 9m}
  - {path: /import, purges: [content]}
- {path: /last, tags: [+last]}
";

#[test]
fn the_values_of_a_group_are_defaults_of_its_routes() {
    let config = right(GROUPED);
    assert_eq!(
        paths(&config),
        [
            ("/first", 0, "/first"),
            ("/notes", 1, "content"),
            ("/shared", 2, "shared"),
            ("/import", 3, "content"),
            ("/last", 4, "/last"),
        ]
    );
    let all: Vec<_> = (0..5).map(|at| tags(&config, at).join(" ")).collect();
    assert_eq!(all, ["all", "all content notes", "all content", "all content", "all last"]);
    let route = |at: usize| &*config.routes[at];
    let minutes = |count: u64| Ttl::For(Duration::from_secs(60 * count));
    let lifetimes: Vec<Ttl> = (0..5).map(|at| route(at).ttl).collect();
    assert_eq!(lifetimes, [minutes(1), minutes(5), minutes(9), Ttl::Never, minutes(1)]);
    assert_eq!((route(1).shared, &route(1).per), (Shared::No, &Some(Credential::Authorization)));
    assert_eq!((route(2).shared, &route(2).per), (Shared::All, &None));
    assert_eq!(route(4).per, None);
}

#[test]
fn a_group_is_the_same_as_routes_with_all_its_keys() {
    let long = right(
        "routes:
- {path: /first, ttl: 1m, tags: [all]}
- {path: /notes, name: content, ttl: 5m, per: authorization, tags: [all, content, notes]}
- {path: /shared, name: shared, ttl: 9m, shared: true, tags: [all, content]}
- {path: /import, name: content, ttl: never, per: authorization, tags: [all, content], purges: [content]}
- {path: /last, ttl: 1m, tags: [all, last]}
",
    );
    let short = right(GROUPED);
    let rules = |config: &Config| crate::policy::routes::Routes::new(&config.routes).rules();
    assert_eq!(rules(&short), rules(&long));
    for (one, other) in short.routes.iter().zip(&long.routes) {
        assert_eq!((&one.name, one.fingerprint), (&other.name, other.fingerprint));
    }
}

#[test]
fn an_error_in_a_group_names_its_place() {
    for (entry, messages) in [
        ("{path: /a, routes: [{path: /b}]}", &["2:11", "unknown key `path` in a group of routes"][..]),
        ("{ttl: 1s, routes: [{path: /a, tll: 2s}]}", &["2:40", "did you mean `ttl`?"]),
        ("{ttl: x, routes: [{path: /a}]}", &["2:16"]),
        ("{ttl: 1s, routes: [{ttl: 2s}]}", &["a route has no `path`"]),
        ("{tags: [+x], routes: [{path: /a}]}", &["2:18", "has no such list"]),
        ("{per: authorization, shared: true, routes: [{path: /a}]}", &["`per` one to each"]),
        ("{tags: ['x:{id}'], routes: [{path: '/a/{id}'}, {path: /b}]}", &["2:18", "the route's path `/b`"]),
        ("{ttl: 1s, routes: /a}", &["2:28"]),
        (
            "{overlay: [{from: /b, each: $.x, into: '$.y[*]', by: id, set: {z: 1}}], routes: [{path: /a}]}",
            &["it can't be a default"],
        ),
        ("{routes: [{path: /a}]}, {path: /a}", &["matches the same paths"]),
    ] {
        check_wrong(&format!("routes: [{entry}]"), messages);
    }
}
