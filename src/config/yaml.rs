//! YAML as a tree with locations. The only file that names the YAML library.
//!
//! Scalars are kept as they are written; the reader of each key interprets them.

use std::collections::HashMap;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::Spanned;
use serde_yaml::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};

use super::diagnostics::{Diagnostics, Location};
use super::yaml_help::locate_syntax_error;

/// Maximum size of a file.
pub(super) const MAX_FILE_BYTES: usize = 4 << 20;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct YamlNode {
    pub value: Value,
    pub location: Location,
    /// A single value without quotes, which YAML takes for a number or a boolean if it reads as one.
    pub is_plain: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A key without a value, `~` or `null`.
    Null,
    /// The text as written, without quotes.
    Scalar(String),
    List(Vec<YamlNode>),
    /// In the order of the file.
    Mapping(Vec<(YamlNode, YamlNode)>),
    /// An error that was reported.
    Broken,
}

impl YamlNode {
    pub(super) fn scalar(text: impl Into<String>, place: Location) -> Self {
        Self { value: Value::Scalar(text.into()), location: place, is_plain: true }
    }

    /// A node that is no single value.
    pub(super) fn new(value: Value, place: Location) -> Self {
        Self { value, location: place, is_plain: false }
    }

    /// The kind of value, for error messages.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Mapping(_) => "a mapping",
            Value::Broken => "something unreadable",
        }
    }

    /// Moves the node and everything below it to `location`.
    pub(super) fn with_location(self, place: Location) -> Self {
        let value = match self.value {
            Value::List(items) => {
                Value::List(items.into_iter().map(|item| item.with_location(place)).collect())
            }
            Value::Mapping(entries) => Value::Mapping(
                entries
                    .into_iter()
                    .map(|(key, value)| (key.with_location(place), value.with_location(place)))
                    .collect(),
            ),
            other => other,
        };
        Self { value, location: place, is_plain: self.is_plain }
    }

    /// The value under `name`, if this is a mapping with it.
    pub(super) fn entry(&self, name: &str) -> Option<&YamlNode> {
        let Value::Mapping(entries) = &self.value else { return None };
        entries.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
    }

    pub(super) fn is_empty_list(&self) -> bool {
        matches!(&self.value, Value::List(items) if items.is_empty())
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            _ => None,
        }
    }
}

/// Parses a text with one document. Returns `None` after reporting that it is not YAML.
pub(super) fn parse(text: &str, diagnostics: &Diagnostics) -> Option<YamlNode> {
    if text.len() > MAX_FILE_BYTES {
        diagnostics.error(
            Location::Start,
            format!("the file has {} bytes; at most {MAX_FILE_BYTES} are allowed", text.len()),
        );
        return None;
    }
    match read::<Spanned<Raw>>(text, DuplicateKeyPolicy::LastWins) {
        Ok(raw) => {
            let before = diagnostics.error_count();
            let node = to_node(raw, text, diagnostics);
            if diagnostics.error_count() == before {
                refuse_hidden_duplicates(text, diagnostics);
            }
            Some(node)
        }
        Err(error) => {
            let message = syntax_message(&error);
            let (location, help) = locate_syntax_error(text, &message, error_location(&error));
            let diagnostic = diagnostics.error(location, message);
            if let Some(help) = help {
                diagnostic.help(help);
            }
            None
        }
    }
}

/// Reports duplicates among keys that are numbers, which `LastWins` folds. All others are in the tree and reported there.
fn refuse_hidden_duplicates(text: &str, diagnostics: &Diagnostics) {
    if let Err(error) = read::<Spanned<Raw>>(text, DuplicateKeyPolicy::Error) {
        diagnostics
            .error(error_location(&error), "this key occurs twice in its mapping")
            .help("remove one of them");
    }
}

/// Parses with limits, which hold for the expansion of aliases too.
fn read<T: serde::de::DeserializeOwned>(
    text: &str,
    duplicate_keys: DuplicateKeyPolicy,
) -> Result<T, serde_yaml::Error> {
    let options = serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_events: 400_000,
            max_nodes: 200_000,
            max_depth: 32,
            max_total_scalar_bytes: MAX_FILE_BYTES,
            max_recorded_anchor_bytes: MAX_FILE_BYTES,
            max_recorded_anchor_events: 100_000,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: duplicate_keys,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        emit_comments: false,
        with_snippet: false,
    };
    serde_yaml::from_str_with_options(text, options)
}

/// The values as the library resolves them. The text of plain numbers and booleans is taken from their location.
enum Raw {
    Null,
    Typed(String),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Mapping(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

fn to_node(raw: Spanned<Raw>, text: &str, diagnostics: &Diagnostics) -> YamlNode {
    let place = to_location(&raw.defined);
    let is_plain = match &raw.value {
        Raw::Typed(_) => true,
        Raw::Text(_) => is_written_plain(&raw.defined, text),
        Raw::Null | Raw::List(_) | Raw::Mapping(_) => false,
    };
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Typed(resolved) => Value::Scalar(source_text(&raw.defined, text).unwrap_or(resolved)),
        Raw::Text(text) => Value::Scalar(text),
        Raw::List(items) => {
            Value::List(items.into_iter().map(|item| to_node(item, text, diagnostics)).collect())
        }
        Raw::Mapping(entries) => {
            let nodes: Vec<_> = entries
                .into_iter()
                .map(|(key, value)| (to_node(key, text, diagnostics), to_node(value, text, diagnostics)))
                .collect();
            refuse_duplicates(&nodes, diagnostics);
            Value::Mapping(nodes)
        }
    };
    YamlNode { value, location: place, is_plain }
}

fn refuse_duplicates(entries: &[(YamlNode, YamlNode)], diagnostics: &Diagnostics) {
    let mut seen = HashMap::new();
    for (key, _) in entries {
        let Some(name) = key.text() else { continue };
        if let Some(first) = seen.insert(name, key.location) {
            diagnostics
                .error(key.location, format!("`{name}` occurs twice in its mapping"))
                .note(first, "the other one")
                .help("remove one of them");
        }
    }
}

/// Whether a text stands in the file without quotes, in no block, and without a tag such as `!!str`.
fn is_written_plain(location: &serde_yaml::Location, text: &str) -> bool {
    const MARKS: [char; 5] = ['"', '\'', '!', '|', '>'];
    let start = location.span().byte_offset().and_then(|start| usize::try_from(start).ok());
    let Some((before, from)) = start.and_then(|start| text.split_at_checked(start)) else { return false };
    let before = before.trim_end().rsplit(char::is_whitespace).next().unwrap_or_default();
    !from.starts_with(MARKS) && !before.starts_with(['!', '|', '>'])
}

/// The text of a plain scalar as it is written, so that `1.10` does not become 1.1.
fn source_text(location: &serde_yaml::Location, text: &str) -> Option<String> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
    let written = text.get(start..end)?.trim();
    // A quoted value with an explicit tag such as `!!int "5"`.
    let bare = written.trim_matches(['"', '\'']);
    (!bare.is_empty()).then(|| bare.to_owned())
}

fn to_location(location: &serde_yaml::Location) -> Location {
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    match location.line() {
        0 => Location::Start,
        line => Location::Text {
            line: number(line),
            column: number(location.column()),
            length: usize::try_from(location.span().len()).unwrap_or(1),
        },
    }
}

fn error_location(error: &serde_yaml::Error) -> Location {
    error.location().map_or(Location::Start, |location| to_location(&location))
}

fn syntax_message(error: &serde_yaml::Error) -> String {
    use serde_yaml::Error;
    match error.without_snippet() {
        Error::MultipleDocuments { .. } => "a second YAML document begins here; there must be one".into(),
        Error::AliasError { error, .. } => syntax_message(error),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            "the file exceeds a limit: too many values, nested too deeply, or too many aliases".into()
        }
        other => {
            let text = other.to_string();
            let text = text.split(" at line ").next().unwrap_or(&text);
            format!("this is not YAML: {text}")
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut mapping = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            mapping.push(entry);
        }
        Ok(Raw::Mapping(mapping))
    }
}
