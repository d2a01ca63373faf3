//! JSON without duplicate names: parsers disagree on which duplicate counts, so such an object is refused.
//!
//! Nesting is bounded by `serde_json`.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// When two names are duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameComparison {
    Exact,
    /// Go's and .NET's usual readers match names case-insensitively, and the last one wins.
    CaseInsensitive,
}

/// `None`: malformed, or with duplicate names.
pub(super) fn parse(text: &[u8], names: NameComparison) -> Option<Value> {
    // RFC 8259 §8.1: a parser may ignore a byte order mark.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = names.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(value)
}

impl<'de> DeserializeSeed<'de> for NameComparison {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NameComparison {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        let mut seen = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if self == NameComparison::CaseInsensitive && !seen.insert(name.to_lowercase()) {
                return Err(A::Error::custom("a name stands twice"));
            }
            if object.insert(name, members.next_value_seed(self)?).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(object.into())
    }
}
