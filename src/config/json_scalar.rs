//! Single values that larder compares with JSON, or writes into it. In quotes they are text; without, numbers are those of
//! YAML's core schema (YAML 1.2.2 §10.3.2), and booleans are spelled as everywhere in the file.

use super::diagnostics::Diagnostics;
use super::scalars::{parse_boolean, parsed};
use super::units::FieldError;
use super::yaml::{Value, YamlNode};
use crate::policy::core_number::to_json_number;

/// Reads a single value as the text of a JSON value.
pub(super) fn read_json_scalar(node: &YamlNode, diagnostics: &Diagnostics) -> Option<String> {
    if node.value == Value::Null {
        return Some("null".to_owned());
    }
    parsed(node, "text, a number, `true`, `false` or `null`", diagnostics, |text| {
        let plain = if node.is_plain { plain_value(text)? } else { None };
        Ok(plain.unwrap_or_else(|| serde_json::Value::from(text).to_string()))
    })
}

/// `None`: it is text.
fn plain_value(text: &str) -> Result<Option<String>, FieldError> {
    const NOT_IN_JSON: [&str; 3] = [".inf", "+.inf", "-.inf"];
    let lower = text.to_ascii_lowercase();
    if lower == ".nan" || NOT_IN_JSON.contains(&lower.as_str()) {
        return Err((format!("JSON has no number `{text}`"), format!("write `\"{text}\"` if it is text")));
    }
    Ok(parse_boolean(text).map(|flag| flag.to_string()).or_else(|| to_json_number(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;

    fn read(written: &str) -> Option<String> {
        let diagnostics = Diagnostics::default();
        let root = yaml::parse(&format!("a: {written}\n"), &diagnostics)?;
        read_json_scalar(root.entry("a")?, &diagnostics)
    }

    #[test]
    fn what_stands_without_quotes_is_what_yaml_takes_it_for() {
        for (written, expected) in [
            ("true", "true"),
            ("True", "true"),
            ("yes", "true"),
            ("OFF", "false"),
            ("~", "null"),
            ("null", "null"),
            ("1", "1"),
            ("+1", "1"),
            ("007", "7"),
            ("1.50", "1.50"),
            (".5", "0.5"),
            ("1e3", "1e3"),
            ("0x10", "16"),
            ("0o17", "15"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("1_000", r#""1_000""#),
            ("2026-11-30", r#""2026-11-30""#),
            ("a b", r#""a b""#),
            (r#""true""#, r#""true""#),
            ("'1'", r#""1""#),
            ("''", r#""""#),
            ("!!str 1", r#""1""#),
        ] {
            assert_eq!(read(written).as_deref(), Some(expected), "{written}");
        }
        for written in [".inf", "-.Inf", ".NaN", "[1]"] {
            assert_eq!(read(written), None, "{written}");
        }
    }
}
