//! The JSON Schema (draft 2020-12) of `proxy.yaml`, for editors: the table of keys in another form.

use serde_json::{Map, Value as Json, json};

use super::fields::default_of;
use super::keys::{Key, Kind, ROOT, Section};
use super::tree::{Node, Value};

pub fn schema() -> Json {
    let mut schema = section(&ROOT);
    let head = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "proxy.yaml",
        "description": "The configuration of larder, a sidecar caching reverse proxy.",
        "$defs": {
            "variable": {
                "type": "string",
                "description": "`${VAR}` or `${VAR:-default}`, filled in from the environment.",
                "pattern": "\\$\\{[A-Za-z_][A-Za-z0-9_]*(:-.*)?\\}"
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

fn section(section: &Section) -> Json {
    let properties: Map<String, Json> =
        section.keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> = section.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn property(key: &Key) -> Json {
    let mut schema = kind(&key.kind);
    schema["description"] = json!(key.doc);
    if let Some(default) = default_of(key) {
        schema["default"] = plain(&default);
    }
    schema
}

fn kind(kind: &Kind) -> Json {
    match kind {
        Kind::Duration => variable_or(json!({ "$ref": "#/$defs/duration" })),
        Kind::Size => variable_or(json!({ "$ref": "#/$defs/size" })),
        Kind::Boolean => variable_or(json!({ "type": "boolean" })),
        Kind::Count => variable_or(json!({ "type": "integer", "minimum": 1 })),
        Kind::Fraction => variable_or(json!({ "type": "number", "minimum": 0, "maximum": 1 })),
        Kind::Text => json!({ "type": ["string", "number"] }),
        Kind::Matching(pattern) => variable_or(json!({ "type": "string", "pattern": pattern })),
        Kind::Word(words) => variable_or(json!({ "enum": with_booleans(words) })),
        Kind::ListOf(item) => json!({ "type": "array", "items": self::kind(item) }),
        Kind::Names(value) => {
            let value = json!({ "anyOf": [{ "type": ["boolean", "null"] }, self::kind(value)] });
            json!({ "type": "object", "additionalProperties": value })
        }
        Kind::Statuses(value) => json!({
            "type": "object",
            "patternProperties": { "^[2-5][0-9][0-9]$": self::kind(value) },
            "additionalProperties": false
        }),
        Kind::Mapping(mapping) => section(mapping),
        Kind::OneOf(kinds) => json!({ "anyOf": kinds.iter().map(self::kind).collect::<Vec<_>>() }),
    }
}

/// A variable can stand in any scalar.
fn variable_or(kind: Json) -> Json {
    json!({ "anyOf": [kind, { "$ref": "#/$defs/variable" }] })
}

/// Where YAML 1.1 reads `off` as a boolean, an editor does so too.
fn with_booleans(words: &[&str]) -> Vec<Json> {
    let mut values: Vec<Json> = words.iter().map(|word| json!(word)).collect();
    for (word, value) in [("on", true), ("off", false), ("never", false)] {
        if words.contains(&word) {
            values.push(json!(value));
        }
    }
    values
}

/// A built-in default as JSON.
fn plain(node: &Node) -> Json {
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
