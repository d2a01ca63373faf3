//! `when` of a source: values that select events.

use serde_json::{Number, Value};

use crate::policy::core_number::to_json_number;
use crate::policy::json_query::JsonQuery;

/// Holds if a value of the event is one of the listed ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventCondition {
    /// Selects the value.
    pub value: JsonQuery,
    pub(crate) one_of: Vec<ListedValue>,
}

/// A listed value, as it is written and as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedValue {
    text: String,
    value: Value,
}

/// An event with more values where one is looked for is taken for one that may be meant.
const MAX_VALUES: usize = 4096;

impl EventCondition {
    /// Whether the event has values, and none of them is listed. A list or an object may be meant.
    pub(super) fn is_refuted_by(&self, document: &Value) -> bool {
        let mut found = self.value.nodes(document);
        found.retain(|value| !value.is_null());
        (1..=MAX_VALUES).contains(&found.len())
            && found.iter().all(|found| {
                !found.is_array()
                    && !found.is_object()
                    && !self.one_of.iter().any(|listed| listed.is_same(found))
            })
    }
}

impl ListedValue {
    pub(crate) fn new(written: &str, value: Value) -> Self {
        Self { text: written.trim().to_owned(), value }
    }

    /// Compares by value. Text is also the number or the boolean that is spelled like it, so that no event is lost to
    /// quotes on one side.
    fn is_same(&self, found: &Value) -> bool {
        match (found, &self.value) {
            (Value::Bool(found), Value::Bool(own)) => found == own,
            (Value::Bool(found), _) => self.text == found.to_string(),
            (Value::Number(found), Value::Number(own)) => are_equal(found, own),
            (Value::Number(found), _) => parse_number(&self.text).is_some_and(|own| are_equal(found, &own)),
            (Value::String(found), own) => {
                let found = found.trim();
                found == self.text
                    || match own {
                        Value::Number(own) => parse_number(found).is_some_and(|found| are_equal(&found, own)),
                        Value::Bool(own) => found == own.to_string(),
                        _ => false,
                    }
            }
            (Value::Null | Value::Array(_) | Value::Object(_), _) => false,
        }
    }
}

fn parse_number(text: &str) -> Option<Number> {
    serde_json::from_str(&to_json_number(text)?).ok()
}

fn are_equal(one: &Number, other: &Number) -> bool {
    let whole = |number: &Number| number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one.as_f64() == other.as_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_same(written: &str, value: &str, found: &str) -> bool {
        let json = |text: &str| serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        ListedValue::new(written, json(value)).is_same(&json(found))
    }

    #[test]
    fn listed_values_are_compared_by_value() {
        for (written, value, found) in [
            ("1.0", "1.0", "1"),
            ("1", "1", "1.0"),
            ("1.0", "1.0", r#""1.0""#),
            ("1.0", r#""1.0""#, r#""1.0""#),
            ("1.0", r#""1.0""#, "1.0"),
            ("2.50", "2.50", "2.5"),
            ("1e3", "1e3", "1000"),
            ("0x10", "16", "16"),
            ("007", "7", "7"),
            ("007", "7", r#""007""#),
            ("7", "7", r#"" 7 ""#),
            ("-0", "-0", "0"),
            ("18446744073709551615", "18446744073709551615", "18446744073709551615"),
            ("yes", "true", "true"),
            ("yes", "true", r#""yes""#),
            ("yes", "true", r#""true""#),
            ("True", "true", "true"),
            ("true", r#""true""#, "true"),
            ("no", "false", "false"),
            (" a ", r#"" a ""#, r#""a""#),
            ("", r#""""#, r#""""#),
        ] {
            assert!(is_same(written, value, found), "{written} {found}");
        }
        for (written, value, found) in [
            ("1", "1", "1.5"),
            ("1", "1", "true"),
            ("yes", r#""yes""#, "true"),
            ("yes", "true", "false"),
            ("a", r#""a""#, r#""A""#),
            ("18446744073709551615", "18446744073709551615", "18446744073709551614"),
            ("1.0", r#""1.0""#, r#""1""#),
            ("", r#""""#, "0"),
        ] {
            assert!(!is_same(written, value, found), "{written} {found}");
        }
    }

    #[test]
    fn only_an_event_with_other_values_is_refuted() {
        let is_refuted = |document: Value| {
            let value = JsonQuery::parse("$.v[*]").expect("a path");
            EventCondition { value, one_of: vec![ListedValue::new("1", 1.into())] }.is_refuted_by(&document)
        };
        assert!(is_refuted(serde_json::json!({"v": [2, null, 1.5]})));
        for meant in [
            serde_json::json!({}),
            serde_json::json!({"v": [null]}),
            serde_json::json!({"v": [2, 1]}),
            serde_json::json!({"v": [2, [1]]}),
            serde_json::json!({"v": vec![2; MAX_VALUES + 1]}),
        ] {
            assert!(!is_refuted(meant.clone()), "{meant}");
        }
    }
}
