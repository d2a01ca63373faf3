//! Selects values of a JSON document: a JSON Pointer (RFC 6901) for one, a JSONPath (RFC 9535) for many.

use serde_json::{Number, Value};
use serde_json_path::JsonPath;

/// Selects values in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonQuery {
    /// A JSON Pointer (RFC 6901).
    Pointer(String),
    /// A JSONPath (RFC 9535).
    Path(JsonPath),
}

/// A value that cannot be part of a tag: an object, a list, or a number with more than one spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnusableValue;

impl JsonQuery {
    /// # Errors
    /// Says how to write a query.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('$') {
            return JsonPath::parse(text).map(JsonQuery::Path).map_err(|error| {
                format!(
                    "`{text}` is not a JSONPath (RFC 9535, without `match` and `search`): {} at its offset {}",
                    error.message(),
                    error.position().saturating_sub(1)
                )
            });
        }
        if !text.is_empty() && !text.starts_with('/') {
            return Err(format!(
                "`{text}` begins neither with `/` nor with `$`; write `/{text}` or `$.{text}`"
            ));
        }
        let is_escaped = |rest: &str| rest.starts_with(['0', '1']);
        if !text.split('~').skip(1).all(is_escaped) {
            return Err(format!(
                "`{text}`: `~` stands for itself as `~0` in a JSON Pointer, and `~1` is a slash"
            ));
        }
        Ok(JsonQuery::Pointer(text.to_owned()))
    }

    /// The selected nodes in document order.
    pub(crate) fn nodes<'v>(&self, document: &'v Value) -> Vec<&'v Value> {
        match self {
            JsonQuery::Pointer(pointer) => document.pointer(pointer).into_iter().collect(),
            JsonQuery::Path(path) => path.query(document).all(),
        }
    }

    /// The places of the selected nodes, as JSON Pointers.
    pub(crate) fn pointers(&self, document: &Value) -> Vec<String> {
        match self {
            JsonQuery::Pointer(pointer) => vec![pointer.clone()],
            JsonQuery::Path(path) => {
                path.query_located(document).locations().map(|location| location.to_json_pointer()).collect()
            }
        }
    }

    /// The selected values as text for tags; `null` is skipped.
    pub(crate) fn texts(&self, document: &Value) -> impl Iterator<Item = Result<String, UnusableValue>> {
        self.nodes(document).into_iter().filter(|node| !node.is_null()).map(to_text)
    }
}

fn to_text(value: &Value) -> Result<String, UnusableValue> {
    match value {
        Value::String(text) => Ok(text.trim().to_owned()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) => to_whole_number(number).ok_or(UnusableValue),
        Value::Array(_) | Value::Object(_) | Value::Null => Err(UnusableValue),
    }
}

/// The digits of a whole number: APIs take `7.0` and `7e0` for `7`. `None` if it has a fraction, or was rounded.
fn to_whole_number(number: &Number) -> Option<String> {
    /// Beyond it, a whole number that was written may be rounded to another.
    const MAX_EXACT: f64 = (1_u64 << 53) as f64;
    if number.is_i64() || number.is_u64() {
        return Some(number.to_string());
    }
    // The sum has no negative zero.
    number
        .as_f64()
        .filter(|value| value.fract() == 0.0 && value.abs() < MAX_EXACT)
        .map(|value| format!("{:.0}", value + 0.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(query: &str) -> Result<Vec<String>, UnusableValue> {
        let document = json!({
            "id": 7, "name": " a b ", "none": null, "price": 7.5, "big": 1e30, "open": true, "a/b": {"m~n": "x"},
            "items": [{"id": 1, "tags": ["p", "q"]}, {"id": "2"}, {"id": null}, {"other": 4}],
            "i64": i64::MIN, "u64": u64::MAX, "whole": 7.0, "exponent": 1e1, "negative": -3.0, "zero": -0.0,
        });
        JsonQuery::parse(query).unwrap_or_else(|error| panic!("{error}")).texts(&document).collect()
    }

    #[test]
    fn a_pointer_names_one_value_and_a_path_many() {
        for (query, expected) in [
            ("/id", &["7"][..]),
            ("$.id", &["7"]),
            ("/name", &["a b"]),
            ("/open", &["true"]),
            ("/i64", &["-9223372036854775808"]),
            ("/u64", &["18446744073709551615"]),
            ("/whole", &["7"]),
            ("/exponent", &["10"]),
            ("/negative", &["-3"]),
            ("/zero", &["0"]),
            ("/a~1b/m~0n", &["x"]),
            ("/items/1/id", &["2"]),
            ("/items/01/id", &[]),
            ("/items/-", &[]),
            ("/none", &[]),
            ("/nowhere", &[]),
            ("$.items[*].id", &["1", "2"]),
            ("$..id", &["7", "1", "2"]),
            ("$.items[?@.id == 1].tags[*]", &["p", "q"]),
            ("$['a/b']['m~n']", &["x"]),
            ("$.nowhere[*].id", &[]),
        ] {
            assert_eq!(
                texts(query).as_deref(),
                Ok(&expected.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
                "{query}"
            );
        }
    }

    #[test]
    fn what_has_no_single_spelling_is_no_text() {
        for query in ["", "$", "/items", "$.items", "$.items[*]", "/price", "/big", "$.*"] {
            assert_eq!(texts(query), Err(UnusableValue), "{query}");
        }
    }

    #[test]
    fn the_error_of_a_query_says_what_to_write() {
        for (query, part) in [
            ("id", "`/id` or `$.id`"),
            ("/a~2", "`~0`"),
            ("/a~", "`~0`"),
            ("$.", "JSONPath"),
            ("$.items[", "JSONPath"),
            ("$.items[*].id extra", "JSONPath"),
            ("$[?match(@.a, 'x')]", "without `match`"),
        ] {
            let error = JsonQuery::parse(query).expect_err(query);
            assert!(error.contains(part), "{query}: {error}");
        }
    }
}
