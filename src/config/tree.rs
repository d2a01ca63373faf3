//! YAML as a tree that remembers where everything stands. The only file that names the YAML library.
//!
//! Scalars are kept as they are written: what a text means is the business of the field it is given to.
//! Never resolves variables, never knows a key of `proxy.yaml`.

use std::collections::HashMap;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::Spanned;
use serde_yaml::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};

use super::problem::{Place, Problems};

/// The largest file that is read.
pub const MAX_BYTES: usize = 4 << 20;

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Value,
    pub place: Place,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A key without a value, `~` or `null`.
    Null,
    /// As it is written, without quotes.
    Scalar(String),
    List(Vec<Node>),
    /// In the order of the file.
    Mapping(Vec<(Node, Node)>),
    /// Something is wrong with it, and that has been said.
    Broken,
}

impl Node {
    pub fn scalar(text: impl Into<String>, place: Place) -> Self {
        Self { value: Value::Scalar(text.into()), place }
    }

    /// What it is, as an error says it.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a single value",
            Value::List(_) => "a list",
            Value::Mapping(_) => "a mapping",
            Value::Broken => "something unreadable",
        }
    }

    /// The same, all of it standing at `place`.
    pub fn moved_to(self, place: Place) -> Self {
        let value = match self.value {
            Value::List(items) => Value::List(items.into_iter().map(|item| item.moved_to(place)).collect()),
            Value::Mapping(entries) => Value::Mapping(
                entries
                    .into_iter()
                    .map(|(key, value)| (key.moved_to(place), value.moved_to(place)))
                    .collect(),
            ),
            other => other,
        };
        Self { value, place }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            _ => None,
        }
    }
}

/// The one document in `text`; what is wrong with it goes to `problems`. `None` if it is no YAML at all.
pub fn parse(text: &str, problems: &Problems) -> Option<Node> {
    if text.len() > MAX_BYTES {
        problems
            .error(Place::Start, format!("the file has {} bytes; {MAX_BYTES} are read at most", text.len()));
        return None;
    }
    match read::<Spanned<Raw>>(text, DuplicateKeyPolicy::LastWins) {
        Ok(raw) => {
            let before = problems.count();
            let node = node_of(raw, text, problems);
            if problems.count() == before {
                refuse_hidden_duplicates(text, problems);
            }
            Some(node)
        }
        Err(error) => {
            let message = syntax_message(&error);
            let help = syntax_help(&message);
            let problem = problems.error(place_of_error(&error), message);
            if let Some(help) = help {
                problem.help(help);
            }
            None
        }
    }
}

/// Reading with `LastWins` lets the tree see duplicate keys and name them all, but folds keys that are numbers.
fn refuse_hidden_duplicates(text: &str, problems: &Problems) {
    if let Err(error) = read::<Spanned<Raw>>(text, DuplicateKeyPolicy::Error) {
        problems
            .error(place_of_error(&error), "this key stands twice in its mapping")
            .help("keep one of them");
    }
}

/// Bounds hold for what aliases expand to as well.
fn read<T: serde::de::DeserializeOwned>(
    text: &str,
    duplicate_keys: DuplicateKeyPolicy,
) -> Result<T, serde_yaml::Error> {
    let options = serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_events: 400_000,
            max_nodes: 200_000,
            max_depth: 32,
            max_total_scalar_bytes: MAX_BYTES,
            max_recorded_anchor_bytes: MAX_BYTES,
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

/// What the library sees; plain numbers and booleans keep only their place, from which the text is read again.
enum Raw {
    Null,
    Typed(String),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Mapping(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

fn node_of(raw: Spanned<Raw>, text: &str, problems: &Problems) -> Node {
    let place = place_of(&raw.defined);
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Typed(resolved) => Value::Scalar(as_written(&raw.defined, text).unwrap_or(resolved)),
        Raw::Text(text) => Value::Scalar(text),
        Raw::List(items) => {
            Value::List(items.into_iter().map(|item| node_of(item, text, problems)).collect())
        }
        Raw::Mapping(entries) => {
            let nodes: Vec<_> = entries
                .into_iter()
                .map(|(key, value)| (node_of(key, text, problems), node_of(value, text, problems)))
                .collect();
            refuse_duplicates(&nodes, problems);
            Value::Mapping(nodes)
        }
    };
    Node { value, place }
}

fn refuse_duplicates(entries: &[(Node, Node)], problems: &Problems) {
    let mut seen = HashMap::new();
    for (key, _) in entries {
        let Some(name) = key.text() else { continue };
        if let Some(first) = seen.insert(name, key.place) {
            problems
                .error(key.place, format!("`{name}` stands twice in its mapping"))
                .note(first, "the other one")
                .help("keep one of them");
        }
    }
}

/// A plain scalar as it stands in the file: `1.10` is not 1.1, and `1_000` is not 1000 to whoever reads it.
fn as_written(location: &serde_yaml::Location, text: &str) -> Option<String> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
    let written = text.get(start..end)?.trim();
    // A quoted value with an explicit tag such as `!!int "5"`.
    let bare = written.trim_matches(['"', '\'']);
    (!bare.is_empty()).then(|| bare.to_owned())
}

fn place_of(location: &serde_yaml::Location) -> Place {
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    match location.line() {
        0 => Place::Start,
        line => Place::Text {
            line: number(line),
            column: number(location.column()),
            length: usize::try_from(location.span().len()).unwrap_or(1),
        },
    }
}

fn place_of_error(error: &serde_yaml::Error) -> Place {
    error.location().map_or(Place::Start, |location| place_of(&location))
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
            "this is more than a configuration can hold: too many values, too deep, or aliases of aliases"
                .into()
        }
        other => {
            let text = other.to_string();
            let text = text.split(" at line ").next().unwrap_or(&text);
            format!("this is not YAML: {text}")
        }
    }
}

/// What is most often behind the parser's words.
fn syntax_help(message: &str) -> Option<&'static str> {
    [
        ("tabs disallowed", "indent with spaces; YAML takes no tabs there"),
        ("may not precede any of", "put text with braces in quotes: `\"course:{id}\"`"),
        ("quoted scalar", "a quote is not closed, here or on a line before"),
    ]
    .into_iter()
    .find(|(words, _)| message.contains(words))
    .map(|(_, help)| help)
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
