use serde_json::json;

use super::*;
use crate::policy::fixtures::{purges, reach_plain, route, routes, templates};
use crate::policy::json_query::JsonQuery;

fn shop() -> Routes {
    routes([
        Route { tags: templates(&["catalog:products"]), ..route("/products") },
        Route { tags: templates(&["product:{id}"]), ..route("/products/{id}") },
        Route { tags: templates(&["stock/{id}"]), ..route("/stock/{id}") },
        route("/plain"),
    ])
}

fn stored_by(path: &str) -> Target {
    route_target(&route(path))
}

fn rule(purge: &[&str], when: &[(&str, &[&str])]) -> EventRule {
    let condition = |(value, one_of): &(&str, &[&str])| EventCondition {
        value: JsonQuery::parse(value).unwrap(),
        one_of: one_of.iter().map(|text| ListedValue::new(text, json!(text))).collect(),
    };
    EventRule { purge: purges(purge), when: when.iter().map(condition).collect() }
}

fn applied(rule: &EventRule, event: &str) -> (EventOutcome, Vec<String>) {
    applied_all(std::slice::from_ref(rule), event)
}

fn applied_all(rules: &[EventRule], event: &str) -> (EventOutcome, Vec<String>) {
    let (meaning, found) = found(rules, event);
    assert!(found.relayed.is_empty(), "{event}");
    (meaning, found.targets.iter().map(ToString::to_string).collect())
}

fn found(rules: &[EventRule], event: &str) -> (EventOutcome, EventTargets) {
    let mut found = EventTargets::default();
    let event = Content::parse_event(event.as_bytes(), MAX_EVENT_BYTES).ok();
    let meaning = EventRules(rules.to_vec()).apply(&shop(), event.as_ref(), &mut found);
    (meaning, found)
}

#[test]
fn an_announced_purge_is_followed_once() {
    let rules = [rule(&["product:{event.json:/id}"], &[])];
    let record =
        r#""source": "event", "soft": false, "targets": ["tag a"], "targetCount": 1, "replica": "r""#;
    let entry = |more: &str| {
        format!(r#"{{"position": "7", "at": "7", "record": {}}}"#, json!(format!("{{{record}{more}}}")))
    };
    let relayed = r#", "relayed": true"#;
    for original in [format!(r#"{{"position": 7, "at": 7, {record}}}"#), format!("{{{record}}}"), entry("")] {
        let (meaning, found) = found(&rules, &original);
        assert_eq!(
            (meaning, found.targets.len(), found.relayed.len()),
            (EventOutcome::Widened, 0, 1),
            "{original}"
        );
    }
    for again in [format!(r#"{{"position": 7, "at": 7, {record}{relayed}}}"#), entry(relayed)] {
        let (meaning, found) = found(&rules, &again);
        assert_eq!(
            (meaning, found.targets.len(), found.relayed.len()),
            (EventOutcome::Ignored, 0, 0),
            "{again}"
        );
    }
    for other in [r#"{"id": 7, "relayed": true}"#, r#"{"id": 7, "replica": "r", "targets": []}"#, "7"] {
        let (_, found) = found(&rules, other);
        assert_eq!((found.targets.len(), found.relayed.len()), (1, 0), "{other}");
    }
}

#[test]
fn an_event_names_tags_by_its_values() {
    let rule = rule(&["catalog:products", "product:{event.json:/id}", "stock/{event.json:$.parts[*]}"], &[]);
    let (meaning, targets) = applied(&rule, r#"{"id": 7, "parts": ["a", "b"]}"#);
    assert_eq!(meaning, EventOutcome::Named);
    assert_eq!(targets, ["tag catalog:products", "tag product:7", "tag stock/a", "tag stock/b"]);
}

#[test]
fn an_unusable_event_value_does_not_keep_the_others_back() {
    let rule = rule(&["stock/{event.json:$.parts[*]}"], &[]);
    let (meaning, targets) = applied(&rule, r#"{"parts": [{"a": 1}, "b"]}"#);
    assert_eq!(meaning, EventOutcome::Widened);
    assert!(targets.len() > 1 && targets.contains(&"tag stock/b".to_owned()), "{targets:?}");
}

#[test]
fn a_missing_event_value_widens_to_paths_of_such_routes() {
    let rule = rule(&["catalog:products", "product:{event.json:/id}"], &[]);
    let long = format!(r#"{{"id": "{}"}}"#, "x".repeat(64 * 1024));
    let many = r#"{"id": ["a"]}"#;
    for event in ["{}", r#"{"id": null}"#, r#"{"id": ""}"#, r#"{"id": 1.5}"#, "7", "[]", "null", many, &long]
    {
        let (meaning, targets) = applied(&rule, event);
        assert_eq!(meaning, EventOutcome::Widened, "{event:.40}");
        assert_eq!(targets, ["tag catalog:products", "tag (route) /products/{id}"], "{event:.40}");
    }
    for event in ["", "{", "nope", r#"{"id": 1, "ID": 2}"#, r#"{"id": 1} x"#] {
        let (meaning, targets) = applied(&rule, event);
        assert_eq!(meaning, EventOutcome::Malformed, "{event}");
        let all = ["tag catalog:products", "tag (listed)", "tag (route) /products/{id}"];
        assert_eq!(targets, all, "{event}");
    }
}

#[test]
fn an_event_without_a_value_reaches_tags_of_fields() {
    let rules = EventRules(vec![rule(&["page:{event.json:/id}"], &[])]);
    for event in ["{}", r#"{"id": {}}"#, "nope"] {
        let mut found = EventTargets::default();
        rules.apply(
            &shop(),
            Content::parse_event(event.as_bytes(), MAX_EVENT_BYTES).ok().as_ref(),
            &mut found,
        );
        let targets = found.targets.to_vec();
        for name in ["surrogate-key", "cache-tag", "xkey", "edge-cache-tag"] {
            assert!(reach_plain(&targets, &[(name, "page:7")]), "{name}, {event}: {targets:?}");
        }
        assert!(reach_plain(&targets, &[("cache-groups", "\"page:7\"")]), "{event}: {targets:?}");
        let everything = event == "nope";
        assert_eq!(reach_plain(&targets, &[("cache-control", "max-age=7")]), everything, "{event}");
    }
}

#[test]
fn a_missing_event_value_widens_to_every_such_route() {
    let tagged = |path, tag: &str| Route { tags: templates(&["all", tag]), ..route(path) };
    let routes =
        routes([tagged("/a/{id}", "Product:{id}"), route("/b"), tagged("/c", "product:{response.json:/id}")]);
    let mut found = EventTargets::default();
    let event = Content::parse_event(b"{}", MAX_EVENT_BYTES).unwrap();
    EventRules(vec![rule(&["product:{event.json:/id}"], &[])]).apply(&routes, Some(&event), &mut found);
    assert_eq!(found.targets.to_vec(), [stored_by("/a/{id}"), stored_by("/c")]);
}

#[test]
fn too_many_values_are_widened_and_named() {
    let ids: Vec<String> = (0..=MAX_TAGS).map(|id| id.to_string()).collect();
    let event = format!(r#"{{"ids": [{}]}}"#, ids.join(","));
    let (meaning, targets) = applied(&rule(&["product:{event.json:$.ids[*]}"], &[]), &event);
    assert_eq!(meaning, EventOutcome::Widened);
    assert!(targets.contains(&"tag (route) /products/{id}".to_owned()));
}

#[test]
fn missed_events_reach_everything_where_no_route_has_their_tags() {
    for purge in ["page:{event.json:/id}", "{event.json:/tag}"] {
        let mut targets = PurgeTargets::default();
        rule(&[purge], &[]).add_all_reachable(&shop(), &mut targets);
        assert!(targets.to_vec().contains(&Target::Everything), "{purge}: {targets:?}");
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
        assert_eq!((meaning, targets), (EventOutcome::Named, vec![tag.to_owned()]), "{value}");
    }
}

#[test]
fn only_events_about_something_else_are_ignored() {
    let conditions: &[(&str, &[&str])] = &[("/type", &["updated", "deleted"]), ("/public", &["true"])];
    let rule = rule(&["catalog:products"], conditions);
    for (event, meaning) in [
        (r#"{"type": "updated", "public": true}"#, EventOutcome::Named),
        (r#"{"type": "deleted", "public": "true"}"#, EventOutcome::Named),
        (r#"{"type": "read", "public": true}"#, EventOutcome::Ignored),
        (r#"{"type": "updated", "public": false}"#, EventOutcome::Ignored),
        (r#"{"type": "updated"}"#, EventOutcome::Named),
        (r#"{"type": {"a": 1}, "public": null}"#, EventOutcome::Named),
        ("{}", EventOutcome::Named),
        ("[", EventOutcome::Malformed),
    ] {
        assert_eq!(applied(&rule, event).0, meaning, "{event}");
    }
}

#[test]
fn fields_with_values_are_an_event_too() {
    let fields = [(&b"id"[..], &b"7"[..]), (b"type", b"updated")];
    let mut found = EventTargets::default();
    let event = Content::from_event_fields(fields).unwrap();
    let meaning =
        EventRules(vec![rule(&["product:{event.json:/id}"], &[])]).apply(&shop(), Some(&event), &mut found);
    assert_eq!((meaning, found.targets.to_vec()), (EventOutcome::Named, vec![Target::tag("product:7")]));
    assert!(Content::from_event_fields([(&b"id"[..], &b"7"[..]), (b"id", b"8")]).is_err());
    assert!(Content::from_event_fields([(&b"id"[..], &b"\xff"[..])]).is_err());
}

#[test]
fn a_source_reaches_the_routes_whose_tags_it_can_name() {
    let routes = shop();
    let reached = |purge: &str| -> Vec<usize> {
        let rule = rule(&[purge], &[]);
        routes.iter().filter(|route| rule.can_reach(route)).map(|route| route.index).collect()
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

#[test]
fn each_rule_of_a_source_applies_on_its_own() {
    let rules = [
        rule(&["product:{event.json:/id}"], &[("/table", &["products"])]),
        rule(&["stock/{event.json:/id}"], &[("/table", &["products", "stock"])]),
        rule(&["catalog:products"], &[("$.changed[*]", &["name", "price"])]),
    ];
    for (event, outcome, expected) in [
        (
            r#"{"table": "products", "id": 7, "changed": ["price", "x"]}"#,
            EventOutcome::Named,
            &["tag product:7", "tag stock/7", "tag catalog:products"][..],
        ),
        (r#"{"table": "stock", "id": 7, "changed": ["x"]}"#, EventOutcome::Named, &["tag stock/7"]),
        (r#"{"table": "stock", "changed": ["x"]}"#, EventOutcome::Widened, &["tag (route) /stock/{id}"]),
        (r#"{"table": "users", "id": 7, "changed": ["x"]}"#, EventOutcome::Ignored, &[]),
        // Without the value of a condition, the rule applies.
        (r#"{"table": "users", "id": 7}"#, EventOutcome::Named, &["tag catalog:products"]),
    ] {
        let (meaning, targets) = applied_all(&rules, event);
        assert_eq!(
            (meaning, targets.as_slice()),
            (outcome, &expected.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
            "{event}"
        );
    }
    assert_eq!(applied_all(&rules, "nope").0, EventOutcome::Malformed);
    let stock = Route { tags: templates(&["stock/{id}"]), ..route("/stock/{id}") };
    assert!(
        EventRules(rules.to_vec()).can_reach(&stock) && !EventRules(rules[..1].to_vec()).can_reach(&stock)
    );
}

/// The values of Debezium's change events, with `schemas.enable=false`, and with their schema.
#[test]
fn one_tag_names_the_row_of_a_change_and_of_a_deletion() {
    let sources = [
        r#"{"connector": "mysql", "db": "shop", "table": "products", "file": "b.000003", "pos": 154, "gtid": null}"#,
        r#"{"connector": "postgresql", "db": "shop", "schema": "public", "table": "products", "lsn": 24023128}"#,
    ];
    for (before, after, op, expected) in [
        ("null", r#"{"id": 7, "name": "a"}"#, "c", &["tag product:7"][..]),
        // A snapshot, and an update of PostgreSQL that knows no old row.
        ("null", r#"{"id": 7, "name": "a"}"#, "r", &["tag product:7"]),
        ("null", r#"{"id": 7, "name": "a"}"#, "u", &["tag product:7"]),
        (r#"{"id": 7, "name": "a"}"#, r#"{"id": 7, "name": "b"}"#, "u", &["tag product:7"]),
        // A changed key of PostgreSQL: the old row has nothing else.
        (r#"{"id": 7, "name": null}"#, r#"{"id": 8, "name": "a"}"#, "u", &["tag product:7", "tag product:8"]),
        (r#"{"id": 7, "name": null}"#, "null", "d", &["tag product:7"]),
    ] {
        for source in sources {
            let payload = format!(
                r#"{{"before": {before}, "after": {after}, "source": {source}, "transaction": null, "op": "{op}"}}"#
            );
            let whole = format!(r#"{{"schema": {{"type": "struct", "fields": []}}, "payload": {payload}}}"#);
            for (event, row) in
                [(&payload, "$['before','after'].id"), (&whole, "$.payload['before','after'].id")]
            {
                let tag = format!("product:{{event.json:{row}}}");
                let (meaning, targets) =
                    applied(&rule(&[&tag], &[("$..source.table", &["products"])]), event);
                assert_eq!((meaning, &targets[..]), (EventOutcome::Named, &texts(expected)[..]), "{event}");
            }
        }
    }
    let truncated = format!(r#"{{"source": {}, "op": "t", "ts_ms": 1763640000000}}"#, sources[1]);
    let (meaning, _) = applied(&rule(&["product:{event.json:$['before','after'].id}"], &[]), &truncated);
    assert_eq!(meaning, EventOutcome::Widened, "a truncated table has no rows");
}

fn texts(expected: &[&str]) -> Vec<String> {
    expected.iter().map(ToString::to_string).collect()
}
