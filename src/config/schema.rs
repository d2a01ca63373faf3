//! The JSON Schema (draft 2020-12) of `proxy.yaml`, for editors, generated from the declarations of the keys.

use serde_json::{Map, Value as Json, json};

use super::fields::{EXTENSION_PREFIX, default_node};
use super::root::RootFields;
use super::route_fields::ROUTE;
use super::section::{Key, Kind, Section};
use super::settings::Settings;
use super::yaml::{Value, YamlNode};

/// The place of a route, which stands in `routes` and in groups.
const ROUTE_DEFINITION: &str = "route";

pub(crate) fn schema() -> Json {
    let mut schema = section_schema(RootFields::SECTION);
    schema["patternProperties"] = json!({ format!("^{EXTENSION_PREFIX}"): {} });
    let head = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "proxy.yaml",
        "description": "The configuration of larder, a sidecar caching reverse proxy.",
        "$defs": {
            ROUTE_DEFINITION: section_schema(ROUTE),
            "variable": {
                "type": "string",
                "description": "`${VAR}` or `${VAR:-default}`, replaced from the environment.",
                "pattern": "\\$\\{[A-Za-z_][A-Za-z0-9_]*(:-.*)?\\}"
            },
            "list": {
                "type": "string",
                "description": "`${VAR[]}`, replaced by the items in a variable, which commas separate.",
                "pattern": "^\\$\\{[A-Za-z_][A-Za-z0-9_]*\\[\\](:-.*)?\\}$"
            },
            "duration": {
                "type": ["string", "integer"],
                "description": "A number and a unit: `250ms`, `30s`, `2m`, `1h`, `7d`.",
                "pattern": "^[0-9]+(ms|s|m|h|d)$|^0$",
                "minimum": 0,
                "maximum": 0
            },
            "size": {
                "type": ["string", "integer"],
                "description": "Bytes, or a number and a unit: `64KiB`, `256MiB`, `1GiB`.",
                "pattern": "^[0-9]+(KiB|MiB|GiB)?$",
                "minimum": 0
            }
        }
    });
    if let (Json::Object(schema), Json::Object(head)) = (&mut schema, head) {
        schema.extend(head);
    }
    schema
}

fn section_schema(section: &Section) -> Json {
    let properties: Map<String, Json> =
        section.keys().map(|key| (key.name.to_owned(), property_schema(key))).collect();
    let required: Vec<&str> = section.keys().filter(|key| key.required).map(|key| key.name).collect();
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn property_schema(key: &Key) -> Json {
    let mut schema = kind_schema(&key.kind);
    schema["description"] = json!(key.doc());
    if let Some(default) = default_node(key) {
        schema["default"] = plain(&default);
    }
    schema
}

fn kind_schema(kind: &Kind) -> Json {
    match kind {
        Kind::Duration => variable_or(json!({ "$ref": "#/$defs/duration" })),
        Kind::Size => variable_or(json!({ "$ref": "#/$defs/size" })),
        Kind::Boolean => variable_or(json!({ "type": "boolean" })),
        Kind::Count => variable_or(json!({ "type": "integer", "minimum": 1 })),
        Kind::Fraction => variable_or(json!({ "type": "number", "minimum": 0, "maximum": 1 })),
        Kind::Text => json!({ "type": ["string", "number"] }),
        Kind::Matching(pattern) => variable_or(json!({ "type": "string", "pattern": pattern })),
        Kind::Word(words) => variable_or(json!({ "enum": with_booleans(words) })),
        Kind::ListOf(item) => {
            let list = json!({ "$ref": "#/$defs/list" });
            json!({ "anyOf": [{ "type": "array", "items": { "anyOf": [kind_schema(item), list] } }, list] })
        }
        Kind::Names(value) => {
            let value = json!({ "anyOf": [{ "type": ["boolean", "null"] }, kind_schema(value)] });
            json!({ "type": "object", "additionalProperties": value })
        }
        Kind::Statuses(value) => json!({
            "type": "object",
            "patternProperties": { "^[2-5][0-9][0-9]$": kind_schema(value) },
            "additionalProperties": false
        }),
        Kind::Mapping(mapping) if mapping.name == ROUTE.name => {
            json!({ "$ref": format!("#/$defs/{ROUTE_DEFINITION}") })
        }
        Kind::Mapping(mapping) => section_schema(mapping),
        Kind::OneOf(kinds) => json!({ "anyOf": kinds.iter().map(kind_schema).collect::<Vec<_>>() }),
    }
}

/// Accepts a variable instead of a value.
fn variable_or(kind: Json) -> Json {
    json!({ "anyOf": [kind, { "$ref": "#/$defs/variable" }] })
}

/// Adds the booleans that YAML 1.1 reads for some of the words.
fn with_booleans(words: &[&str]) -> Vec<Json> {
    let mut values: Vec<Json> = words.iter().map(|word| json!(word)).collect();
    for (word, value) in [("on", true), ("off", false), ("never", false)] {
        if words.contains(&word) {
            values.push(json!(value));
        }
    }
    values
}

/// Converts a default to JSON.
fn plain(node: &YamlNode) -> Json {
    match &node.value {
        Value::Scalar(text) => match text.as_str() {
            "true" => json!(true),
            "false" => json!(false),
            text => text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number)),
        },
        Value::List(items) => items.iter().map(plain).collect(),
        Value::Mapping(entries) => {
            let entries =
                entries.iter().map(|(key, value)| (key.text().unwrap_or_default().to_owned(), plain(value)));
            Json::Object(entries.collect())
        }
        Value::Null | Value::Broken => Json::Null,
    }
}
