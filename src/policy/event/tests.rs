use super::*;
use crate::policy::fixtures::{reach_plain, route, routes, templates};

fn shop() -> Routes {
    routes([
        Route { tags: templates(&["catalog:products"]), ..route("/products") },
        Route { tags: templates(&["product:{id}"]), ..route("/products/{id}") },
        Route { tags: templates(&["stock/{id}"]), ..route("/stock/{id}") },
        route("/plain"),
    ])
}

fn prefix(path: &str) -> Target {
    Target::Prefix { host: None, path: LoosePath::new(path) }
}

fn rule(purge: &[&str], when: &[(&str, &[&str])]) -> EventRule {
    let condition = |(value, one_of): &(&str, &[&str])| Condition {
        value: JsonQuery::parse(value).unwrap(),
        one_of: one_of.iter().map(ToString::to_string).collect(),
    };
    EventRule { purge: templates(purge), when: when.iter().map(condition).collect() }
}

fn applied(rule: &EventRule, event: &str) -> (Meaning, Vec<String>) {
    let mut targets = Vec::new();
    let event = Content::of_event(event.as_bytes(), MAX_EVENT).ok();
    let meaning = rule.apply(&shop(), event.as_ref(), &mut targets);
    (meaning, targets.iter().map(ToString::to_string).collect())
}

#[test]
fn an_event_names_tags_by_its_values() {
    let rule = rule(&["catalog:products", "product:{event.json:/id}", "stock/{event.json:$.parts[*]}"], &[]);
    let (meaning, targets) = applied(&rule, r#"{"id": 7, "parts": ["a", "b"]}"#);
    assert_eq!(meaning, Meaning::Named);
    assert_eq!(targets, ["tag catalog:products", "tag product:7", "tag stock/a", "tag stock/b"]);
}

#[test]
fn what_an_event_lacks_is_widened_to_the_paths_of_routes_with_such_tags() {
    let rule = rule(&["catalog:products", "product:{event.json:/id}"], &[]);
    let long = format!(r#"{{"id": "{}"}}"#, "x".repeat(64 * 1024));
    let many = r#"{"id": ["a"]}"#;
    for event in ["{}", r#"{"id": null}"#, r#"{"id": ""}"#, r#"{"id": 1.5}"#, "7", "[]", "null", many, &long]
    {
        let (meaning, targets) = applied(&rule, event);
        assert_eq!(meaning, Meaning::Widened, "{event:.40}");
        assert_eq!(targets, ["tag catalog:products", "tag (listed)", "prefix /products"], "{event:.40}");
    }
    for event in ["", "{", "nope", r#"{"id": 1, "ID": 2}"#, r#"{"id": 1} x"#] {
        let (meaning, targets) = applied(&rule, event);
        assert_eq!(meaning, Meaning::Malformed, "{event}");
        assert_eq!(targets, ["tag catalog:products", "tag (listed)", "prefix /products"], "{event}");
    }
}

#[test]
fn what_an_event_lacks_reaches_such_tags_in_the_fields_of_any_response() {
    let rule = rule(&["product:{event.json:/id}"], &[]);
    for event in ["{}", r#"{"id": {}}"#, "nope"] {
        let mut targets = Vec::new();
        rule.apply(&shop(), Content::of_event(event.as_bytes(), MAX_EVENT).ok().as_ref(), &mut targets);
        for name in ["surrogate-key", "cache-tag", "xkey", "edge-cache-tag"] {
            assert!(reach_plain(&targets, &[(name, "product:7")]), "{name}, {event}: {targets:?}");
        }
        assert!(reach_plain(&targets, &[("cache-groups", "\"product:7\"")]), "{event}: {targets:?}");
        assert!(!reach_plain(&targets, &[("cache-control", "max-age=7")]), "{event}: {targets:?}");
    }
}

#[test]
fn what_an_event_lacks_is_widened_to_each_of_the_routes_with_such_tags() {
    let tagged = |path, tag: &str| Route { tags: templates(&["all", tag]), ..route(path) };
    let routes =
        routes([tagged("/a/{id}", "Product:{id}"), route("/b"), tagged("/c", "product:{response.json:/id}")]);
    let mut targets = Vec::new();
    let event = Content::of_event(b"{}", MAX_EVENT).unwrap();
    rule(&["product:{event.json:/id}"], &[]).apply(&routes, Some(&event), &mut targets);
    let expected = [Target::tag(LISTED), prefix("/a"), prefix("/c")];
    assert_eq!(targets, expected);
}

#[test]
fn too_many_values_are_widened_and_named() {
    let ids: Vec<String> = (0..=MAX_TAGS).map(|id| id.to_string()).collect();
    let event = format!(r#"{{"ids": [{}]}}"#, ids.join(","));
    let (meaning, targets) = applied(&rule(&["product:{event.json:$.ids[*]}"], &[]), &event);
    assert_eq!(meaning, Meaning::Widened);
    assert!(targets.contains(&"prefix /products".to_owned()));
}

#[test]
fn tags_that_no_route_has_widen_to_everything() {
    for purge in ["page:{event.json:/id}", "{event.json:/tag}"] {
        let (_, targets) = applied(&rule(&[purge], &[]), "{}");
        assert!(targets.contains(&"everything".to_owned()), "{purge}: {targets:?}");
    }
}

#[test]
fn a_hostile_value_is_one_literal_tag() {
    let rule = rule(&["product:{event.json:/id}"], &[]);
    for (value, tag) in [
        (r"a,b", "tag product:a%2Cb"),
        (r"*", "tag product:*"),
        (r"{id}", "tag product:{id}"),
        (r"a\u0000\nb", "tag product:a%00%0Ab"),
    ] {
        let (meaning, targets) = applied(&rule, &format!(r#"{{"id": "{value}"}}"#));
        assert_eq!((meaning, targets), (Meaning::Named, vec![tag.to_owned()]), "{value}");
    }
}

#[test]
fn an_event_about_something_else_is_ignored_and_one_that_does_not_say_is_not() {
    let conditions: &[(&str, &[&str])] = &[("/type", &["updated", "deleted"]), ("/public", &["true"])];
    let rule = rule(&["catalog:products"], conditions);
    for (event, meaning) in [
        (r#"{"type": "updated", "public": true}"#, Meaning::Named),
        (r#"{"type": "deleted", "public": "true"}"#, Meaning::Named),
        (r#"{"type": "read", "public": true}"#, Meaning::Ignored),
        (r#"{"type": "updated", "public": false}"#, Meaning::Ignored),
        (r#"{"type": "updated"}"#, Meaning::Named),
        (r#"{"type": {"a": 1}, "public": null}"#, Meaning::Named),
        ("{}", Meaning::Named),
        ("[", Meaning::Malformed),
    ] {
        assert_eq!(applied(&rule, event).0, meaning, "{event}");
    }
}

#[test]
fn fields_with_values_are_an_event_too() {
    let fields = [(&b"id"[..], &b"7"[..]), (b"type", b"updated")];
    let mut targets = Vec::new();
    let event = Content::of_fields(fields).unwrap();
    let meaning = rule(&["product:{event.json:/id}"], &[]).apply(&shop(), Some(&event), &mut targets);
    assert_eq!((meaning, targets), (Meaning::Named, vec![Target::tag("product:7")]));
    assert!(Content::of_fields([(&b"id"[..], &b"7"[..]), (b"id", b"8")]).is_err());
    assert!(Content::of_fields([(&b"id"[..], &b"\xff"[..])]).is_err());
}

#[test]
fn a_source_reaches_the_routes_whose_tags_it_can_name() {
    let routes = shop();
    let reached = |purge: &str| -> Vec<usize> {
        let rule = rule(&[purge], &[]);
        routes.iter().filter(|route| rule.reaches(route)).map(|route| route.index).collect()
    };
    for (purge, expected) in [
        ("catalog:products", &[0][..]),
        ("Catalog:Products", &[0]),
        ("catalog", &[]),
        ("product:7", &[1]),
        ("product:{event.json:/id}", &[1]),
        ("prod{event.json:/id}", &[1]),
        ("stock", &[2]),
        ("stoc", &[]),
        ("stock/{event.json:/id}", &[2]),
        ("{event.json:/tag}", &[0, 1, 2]),
        ("other:{event.json:/id}", &[]),
    ] {
        assert_eq!(reached(purge), expected, "{purge}");
    }
}
