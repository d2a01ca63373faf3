//! The JSON Schema: the file in `config/` is the one that is printed, and the ready-made configurations obey it.

use serde_json::Value as Json;

use crate::config::diagnostics::Diagnostics;
use crate::config::yaml::{self, Value, YamlNode};

#[test]
fn the_schema_in_config_is_the_one_that_larder_prints() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/proxy.schema.json");
    let written = std::fs::read_to_string(path).expect("the schema");
    let printed = format!("{:#}", crate::config::schema());
    assert!(
        written.trim_end() == printed,
        "config/proxy.schema.json differs; write it anew: larder schema > config/proxy.schema.json"
    );
}

#[test]
fn every_key_has_a_description() {
    fn check(schema: &Json, path: &str) {
        if let Some(properties) = schema["properties"].as_object() {
            assert_eq!(schema["additionalProperties"], Json::Bool(false), "{path}");
            for (name, property) in properties {
                assert!(
                    property["description"].as_str().is_some_and(|doc| doc.ends_with('.')),
                    "{path}.{name}"
                );
                check(property, &format!("{path}.{name}"));
            }
        }
        check_each(&schema["anyOf"], path);
        if schema["items"].is_object() {
            check(&schema["items"], path);
        }
    }
    fn check_each(schemas: &Json, path: &str) {
        schemas.as_array().into_iter().flatten().for_each(|schema| check(schema, path));
    }
    let schema = crate::config::schema();
    check(&schema, "");
    check(&schema["$defs"]["route"], "route");
}

#[test]
fn right_files_obey_the_schema_and_wrong_ones_do_not() {
    let schema = crate::config::schema();
    let root = env!("CARGO_MANIFEST_DIR");
    for name in [
        "proxy",
        "config/analytics",
        "config/courses",
        "config/catalogue",
        "config/productivity",
        "config/signed-urls",
    ] {
        let text = std::fs::read_to_string(format!("{root}/{name}.yaml")).expect(name);
        assert!(obeys(&text, &schema), "{name}");
    }
    for (text, expected) in [
        ("upstream: http://a", true),
        ("listen: x", false),
        ("{upstream: http://a, rotues: []}", false),
        ("{upstream: {url: http://a, http2: true}}", true),
        ("{upstream: {url: http://a, http2: maybe}}", false),
        ("{upstream: {url: http://a, http2: \"${H2}\"}}", true),
        ("{upstream: http://a, admin: off}", true),
        ("{upstream: http://a, routes: [{path: /a, query: {page: 1, q: }, mode: off, ttl: false}]}", true),
        ("{upstream: http://a, routes: [{ttl: 1s}]}", false),
        ("{upstream: http://a, routes: [{ttl: 1s, routes: [{path: /a, ttl: 2s}]}]}", true),
        ("{upstream: http://a, routes: [{ttl: 1s, routes: [{ttl: 2s}]}]}", false),
        ("{upstream: http://a, routes: [{path: /b, routes: [{path: /a}]}]}", false),
        ("{upstream: http://a, routes: [{path: /a, override: [everything]}]}", false),
        ("{upstream: http://a, routes: [{path: /a, status: {404: 1s}}]}", true),
        ("{upstream: http://a, defaults: {path: /a}}", false),
        ("{upstream: http://a, x-shop: {any: [thing]}}", true),
        ("{upstream: http://a, trusted_proxies: \"${NETS[]}\"}", true),
        ("{upstream: http://a, trusted_proxies: [\"${NETS[]}\", ::1]}", true),
        ("{upstream: http://a, trusted_proxies: \"${NETS}\"}", false),
    ] {
        assert_eq!(obeys(text, &schema), expected, "{text}");
    }
}

fn obeys(text: &str, schema: &Json) -> bool {
    let node = yaml::parse(text, &Diagnostics::default()).expect("YAML");
    matches(&as_an_editor_reads(&node), schema, schema)
}

/// Plain scalars have types in an editor. Quotes are gone in the tree: no quoted value here looks like another type.
fn as_an_editor_reads(node: &YamlNode) -> Json {
    match &node.value {
        Value::Null | Value::Broken => Json::Null,
        Value::Scalar(text) => match text.as_str() {
            "true" | "on" => Json::Bool(true),
            "false" | "off" => Json::Bool(false),
            text => text.parse::<u64>().map_or_else(|_| text.into(), Json::from),
        },
        Value::List(items) => items.iter().map(as_an_editor_reads).collect(),
        Value::Mapping(entries) => Json::Object(
            entries
                .iter()
                .map(|(key, value)| (key.text().expect("a name").to_owned(), as_an_editor_reads(value)))
                .collect(),
        ),
    }
}

/// The part of JSON Schema that the schema uses; patterns only as far as variables and statuses go.
fn matches(value: &Json, schema: &Json, root: &Json) -> bool {
    if let Some(name) = schema["$ref"].as_str() {
        let definition = name.rsplit('/').next().expect("a name");
        return matches(value, &root["$defs"][definition], root)
            && match definition {
                "variable" => value.as_str().is_some_and(|text| text.contains("${")),
                "list" => value.as_str().is_some_and(|text| text.ends_with("[]}")),
                _ => true,
            };
    }
    let any =
        schema["anyOf"].as_array().is_none_or(|kinds| kinds.iter().any(|kind| matches(value, kind, root)));
    let one = schema["enum"].as_array().is_none_or(|values| values.contains(value));
    any && one && has_type(value, &schema["type"]) && has_parts(value, schema, root)
}

fn has_type(value: &Json, types: &Json) -> bool {
    let is = |name: &Json| match name.as_str().expect("a type") {
        "string" => value.is_string(),
        "integer" | "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other}"),
    };
    match types {
        Json::Null => true,
        Json::Array(names) => names.iter().any(is),
        name => is(name),
    }
}

fn has_parts(value: &Json, schema: &Json, root: &Json) -> bool {
    match value {
        Json::Array(items) => {
            schema["items"].is_null() || items.iter().all(|item| matches(item, &schema["items"], root))
        }
        Json::Object(members) => {
            let required = schema["required"].as_array();
            let others = schema["patternProperties"].as_object();
            let other = |name: &str| {
                let takes = |pattern: &str| pattern != "^x-" || name.starts_with("x-");
                others?.iter().find(|(pattern, _)| takes(pattern)).map(|(_, schema)| schema)
            };
            let known = |name: &str, member: &Json| match (
                &schema["properties"][name],
                other(name),
                &schema["additionalProperties"],
            ) {
                (Json::Null, Some(other), _) => matches(member, other, root),
                (Json::Null, None, Json::Bool(false)) => false,
                (Json::Null, None, Json::Null) => true,
                (Json::Null, None, other) => matches(member, other, root),
                (property, ..) => matches(member, property, root),
            };
            required.is_none_or(|names| {
                names.iter().all(|name| members.contains_key(name.as_str().expect("a name")))
            }) && members.iter().all(|(name, member)| known(name, member))
        }
        _ => true,
    }
}
