//! `warm` and `background`: what they are read as, and what is refused with a fix.

use std::time::Duration;

use super::{check_wrong, right, with, wrong};
use crate::config::{BackgroundSettings, WarmEntry};

const ROUTES: &str = "routes:
  - {path: /a, ttl: 1m}
  - {path: '/a/{id}', ttl: 1m}
  - {path: /me, ttl: 1m, per: authorization}
  - {path: /never, ttl: never}
  - {path: /watched, ttl: 1m, mode: observe}
";

fn read(more: &str) -> (Vec<WarmEntry>, BackgroundSettings) {
    let config = right(&format!("{ROUTES}{more}"));
    (config.warm, config.background)
}

fn host(entry: &WarmEntry) -> (&str, Option<&str>) {
    let text = |name| entry.headers.get(name).and_then(|value| value.to_str().ok());
    (text("host").unwrap_or_default(), text("x-forwarded-proto"))
}

#[test]
fn an_entry_has_its_defaults_and_the_address_of_the_listener() {
    let (warm, background) = read("warm: [{get: /a}]");
    let [entry] = warm.as_slice() else { panic!("{warm:?}") };
    assert_eq!((entry.name.as_str(), entry.on_start, entry.every), ("/a", true, None));
    assert_eq!(host(entry), ("127.0.0.1:8080", None));
    assert_eq!((background.rate, background.concurrency, background.share), (20, 4, 25));
    assert!(read("").0.is_empty() && read("warm:").0.is_empty());
}

#[test]
fn an_entry_s_own_word_takes_the_place_of_what_is_said_for_all() {
    let (warm, background) = read(
        "background: {host: 'https://api.test', headers: {X-A: all, X-B: all}, rate: 5, connections: 100%}
warm:
  - {get: [/a, '/a/{id}'], values: {id: [1, x]}, every: 5m, on_start: off, name: lists, headers: {X-A: own}}
  - {from: '/list?n=1', each: '$[*].id', get: '/a/{}', host: other.test, every: off}",
    );
    let [lists, details] = warm.as_slice() else { panic!("{warm:?}") };
    assert_eq!((lists.name.as_str(), lists.on_start), ("lists", false));
    assert_eq!(lists.every, Some(Duration::from_secs(300)));
    assert_eq!(lists.values["id"], ["1", "x"]);
    assert_eq!(host(lists), ("api.test", Some("https")));
    assert_eq!(
        (&lists.headers["x-a"], &lists.headers["x-b"]),
        (&"own".parse().unwrap(), &"all".parse().unwrap())
    );
    assert_eq!(host(details).0, "other.test");
    assert_eq!(details.list.as_ref().map(|list| list.url.as_str()), Some("/list?n=1"));
    assert_eq!((background.rate, background.share), (5, 100));
}

#[test]
fn a_list_of_pages_needs_no_get_and_no_cached_list() {
    let (warm, _) = read(
        "warm:
  - {from: '/a?p={page}', each: '$.x[*]', until: last_page}
  - {from: /elsewhere, each: '$.x[*]', until: last_page, next: '$.next', get: '/a/{}'}",
    );
    let [pages, details] = warm.as_slice() else { panic!("{warm:?}") };
    assert_eq!((pages.name.as_str(), pages.get.len()), ("/a?p={page}", 0));
    let walks = [pages, details].map(|entry| entry.list.as_ref().and_then(|list| list.pages.clone()));
    assert_eq!(walks.map(|walk| walk.map(|walk| walk.next.is_some())), [Some(false), Some(true)]);
}

#[test]
fn what_could_never_be_warm_is_refused_at_its_place() {
    for (more, message, fix) in [
        ("warm: [{get: /b}]", "`/b` matches no route", "add a route"),
        ("warm: [{get: /never}]", "which stores nothing", "`ttl`"),
        ("warm: [{get: /watched}]", "only observes", "mode: on"),
        ("warm: [{get: /me}]", "one response for each caller", "headers:"),
        ("warm: [{get: '/a/{id}'}]", "`{id}` has no values", "values: {id: [1, 2]}"),
        ("warm: [{get: '/a/{}'}]", "`{}` has no values", "from: /api/items"),
        ("warm: [{get: []}]", "names nothing", "/api/courses"),
        ("warm: [{get: a}]", "is no path", "first `/`"),
        ("warm: [{get: '/a/{'}]", "is not closed", "{name}"),
        ("warm: [{values: {id: [1]}}]", "has no `get`", "get"),
        ("warm: [{get: '/a/{}', from: /list}]", "`from` has no `each`", "each: $"),
        ("warm: [{get: /a, each: '$.x'}]", "`each` has no `from`", "from:"),
        ("warm: [{get: '/a/{}', from: /list, each: 'x'}]", "begins neither", "$.x"),
        ("warm: [{get: '/a/{}', from: '/l/{x}', each: '$.x'}]", "can't have `{x}`", "/api/files"),
        ("warm: [{from: '/a?p={page}', each: '$.x', get: '/a/{}'}]", "`{page}` needs `until`", "last_page"),
        ("warm: [{get: /a, until: last_page}]", "`until` has no `from`", "from: /api/items"),
        ("warm: [{get: /a, next: '$.next'}]", "`next` has no effect", "until: last_page"),
        ("warm: [{from: /b, each: '$.x', until: last_page}]", "`/b` matches no route", "add a route"),
        ("warm: [{from: /a, each: '$.x', until: last}]", "last_page", "last_page"),
        ("warm: [{from: /a, each: '$.x'}]", "has no `get`", "get"),
        ("warm: [{get: /a, on_start: false}]", "nothing ever starts this entry", "every: 5m"),
        ("warm: [{get: /a, every: 0s}]", "zero", "30s"),
        ("warm: [{get: /a, headers: {Host: x}}]", "a key of its own", "host:"),
        ("warm: [{get: /a, host: 'ftp://x'}]", "not an HTTP scheme", "https"),
        ("warm: [{get: /a, evry: 5m}]", "unknown key `evry`", "`every`"),
        ("warm: {get: /a}", "must be a list", "[{get:"),
        ("listen: 0.0.0.0:80\nwarm: [{get: /a}]", "there is no `Host`", "background: {host:"),
        ("background: {connections: 0%}", "not a share", "1%"),
        ("background: {rate: 0}", "not a number from 1", "between 1 and"),
        ("purge: {reprime: 0}", "not a number from 1", "between 1 and"),
    ] {
        check_wrong(&format!("{ROUTES}{more}"), &[message, fix]);
    }
}

#[test]
fn each_value_has_a_route_or_is_named() {
    let routes = "routes: [{path: '/k/{a|b}', ttl: 1m}]\n";
    let entry = |values: &str| format!("{routes}warm: [{{get: '/k/{{k}}?n=1', values: {{k: [{values}]}}}}]");
    assert_eq!(right(&entry("a, b")).warm.len(), 1);
    let error = "`/k/{k}?n=1` matches no route with these values: `/k/c?n=1`";
    check_wrong(&entry("a, c, b"), &[error, "add a route"]);
}

/// Checks that depend on settings with errors are skipped.
#[test]
fn errors_of_warm_entries_come_with_all_others() {
    for elsewhere in ["  - {path: /b, ttl: soon}\n", "listen: nowhere\n", "background: {rate: 0}\n"] {
        let more =
            format!("{ROUTES}{elsewhere}warm: [{{get: /a, every: 0s}}, {{get: '/a/{{id}}'}}, {{get: /b}}]");
        let found = wrong(&with(&more));
        assert_eq!(found.len(), 3, "{found:#?}");
        for part in ["zero", "`{id}` has no values"] {
            assert_eq!(found.iter().filter(|error| error.contains(part)).count(), 1, "{part}: {found:#?}");
        }
    }
}
