//! `overlay`: what it is read as, and what is refused at its place.

use super::{check_wrong, parse, right, with};
use crate::policy::overlay::{OnPartError, OverlayAs};
use crate::policy::route::Shared;

const ME: &str = "  - {path: /me, ttl: 1m, per: authorization}\n";

/// A route with these keys and entry, beside that of the caller's part.
fn with_entry(keys: &str, entry: &str) -> String {
    format!("routes:\n  - path: /a\n    ttl: 1m\n    overlay: [{{{entry}}}]\n{ME}{keys}")
}

const ENTRY: &str = "from: /me, each: '$[*].id', into: '$.items[*]', on: id, set: {mine: true}";

#[test]
fn an_entry_has_its_members_as_json() {
    let config = right(&with_entry(
        "",
        "from: '/me?n=1', each: /ids/0, into: '$', on: id, on_error: default, \
         set: {a: True, b: 1.5, c: x y, d: null, e: '7'}, default: {a: false, f: 0}",
    ));
    let [route, me] = config.routes.as_slice() else { panic!("two routes") };
    let [overlay] = route.overlay.as_slice() else { panic!("one entry") };
    assert_eq!((overlay.from.to_string(), overlay.on_error), ("/me?n=1".to_owned(), OnPartError::Default));
    let names: Vec<_> = overlay.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e", "f"]);
    let merged = crate::policy::overlay::merge("{\"id\":1}", &["1".to_owned()].into(), overlay);
    assert_eq!(merged.as_deref(), Ok(r#"{"id":1,"a":true,"b":1.5,"c":"x y","d":null,"e":"7"}"#));
    assert_eq!(route.overlay_as, OverlayAs::Anonymous);
    let part = route.shared_part.as_ref().expect("a shared part");
    assert_eq!((part.route.index, part.route.shared, part.route.overlay.len()), (0, Shared::All, 0));
    assert!(me.shared_part.is_none());
}

#[test]
fn a_wrong_entry_is_named_with_its_place_and_the_fix() {
    for (entry, parts) in [
        ("from: me, each: $, into: $, by: id, set: {a: 1}", &["`me`", "/"][..]),
        ("from: /me, each: '$[', into: $, by: id, set: {a: 1}", &["`$[` is not a JSONPath"]),
        (
            "from: /me, each: $, into: '$.items[0]', by: id, set: {a: 1}",
            &["`[0]` can't be followed", "`[*]`"],
        ),
        ("from: /me, each: $, into: 'items', by: id, set: {a: 1}", &["does not begin with `$`"]),
        ("from: /me, each: $, into: '$..id', by: id, set: {a: 1}", &["can't be followed"]),
        ("from: /me, each: $, into: $, set: {a: 1}", &["overlay has no `by`", "add `by: …`"]),
        (
            "from: /me, each: $, into: $, by: id, on: id, set: {a: 1}",
            &["two names of one key", "remove `on`"],
        ),
        ("from: /me, each: $, into: $, by: id, true: id, set: {a: 1}", &["unknown key `true`", "write `by`"]),
        ("from: /me, each: $, into: $, by: id", &["overlay has no `set`"]),
        ("from: /me, each: $, into: $, by: id, set: {}", &["`set` gives the selected items nothing"]),
        ("from: /me, each: $, into: $, by: id, set: {id: 1}", &["`id` identifies an item"]),
        ("from: /me, each: $, into: $, on: id, set: {id: 1}", &["`id` identifies an item"]),
        ("from: /me, each: $, into: $, by: id, set: {a: [1]}", &["must be a single value"]),
        ("from: /me, each: $, into: $, by: id, set: {a: 1}, on_error: ignore", &["unknown value `ignore`"]),
        (
            "from: /nobody, each: $, into: $, by: id, set: {a: 1}",
            &["`/nobody` matches no route", "per: authorization"],
        ),
    ] {
        check_wrong(&with_entry("", entry), parts);
    }
    let shown = parse(&with(&with_entry("", "from: /me, each: $, into: '$.x[1]', by: id, set: {a: 1}")));
    let shown = shown.expect_err("a wrong path").to_string();
    let caret = "                                          ^^^^^^^^";
    assert!(
        shown.contains("proxy.yaml:5:42: error: `[1]` can't be followed") && shown.contains(caret),
        "{shown}"
    );
}

#[test]
fn what_would_mix_callers_is_refused() {
    let route = |keys: &str| {
        format!("routes:\n  - path: /a\n    ttl: 1m\n    {keys}\n    overlay: [{{{ENTRY}}}]\n{ME}")
    };
    for (keys, parts) in [
        ("per: authorization", &["`overlay` on a route with `per`", "leave out `per`"][..]),
        ("overlay_as: background", &["only larder's own credential may see", "callers: NAME"]),
        ("methods: [GET, QUERY]", &["merged into responses to GET alone"]),
        ("compress: [gzip]", &["is not compressed"]),
        ("tags: ['a:{jwt.sub}']", &["is of no caller"]),
        ("rate: {limit: 5/m, by: header.X-Key, count: misses}", &["misses of a shared part"]),
    ] {
        check_wrong(&route(keys), parts);
    }
    for (me, parts) in [
        ("{path: /me, ttl: 1m}", &["`/me` matches a route without `per`"][..]),
        ("{path: /me, ttl: never, per: authorization}", &["a route that stores nothing"]),
        ("{path: /me, ttl: 1m, mode: off, per: authorization}", &["a route that stores nothing"]),
        (&format!("{{path: /me, ttl: 1m, overlay: [{{{}}}]}}", ENTRY.replace("/me", "/b")), &["itself"]),
    ] {
        let b = "  - {path: /b, ttl: 1m, per: authorization}\n";
        check_wrong(&route("shared: true").replace(ME, &format!("  - {me}\n{b}")), parts);
    }
    check_wrong(&format!("defaults: {{overlay: [{{{ENTRY}}}]}}\nroutes:\n{ME}"), &["can't be a default"]);
    let twice = with_entry("", &format!("{ENTRY}}}, {{{ENTRY}"));
    check_wrong(&twice, &["two entries give the same items the member `mine`"]);
}
