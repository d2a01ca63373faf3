//! Reading documents that are no configuration of larder: JSON or YAML.

use std::path::Path;

use super::diagnostics::{Diagnostics, Location};
use super::errors::ConfigErrors;
use super::load::read_file;
use super::yaml::{self, Value, YamlNode};

/// Most bytes of a JSON document. YAML has a bound of its own.
const MAX_JSON_BYTES: usize = 32 << 20;

/// The help where a file can't be read.
const CHECK_PATH: &str = "check the path of the file, and that this user may read it";

/// Reads a document. The scalars of YAML are texts.
///
/// # Errors
/// The file can't be read, is too large, or is neither JSON nor YAML.
pub(crate) fn read_document(path: &Path) -> Result<serde_json::Value, ConfigErrors> {
    let (text, source) = read_file(path, CHECK_PATH)?;
    let diagnostics = Diagnostics::default();
    if text.trim_start().starts_with('{') {
        if text.len() > MAX_JSON_BYTES {
            let message = format!("the file has {} bytes; at most {MAX_JSON_BYTES} are read", text.len());
            diagnostics.error(Location::Start, message);
            return Err(ConfigErrors::new(&source, "", diagnostics.into_parts().0));
        }
        if let Ok(document) = serde_json::from_str(&text) {
            return Ok(document);
        }
    }
    let node = yaml::parse(&text, &diagnostics);
    node.map(to_json).ok_or_else(|| ConfigErrors::new(&source, &text, diagnostics.into_parts().0))
}

/// Reads a text.
///
/// # Errors
/// The file can't be read, or is not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, ConfigErrors> {
    read_file(path, CHECK_PATH).map(|(text, _)| text)
}

fn to_json(node: YamlNode) -> serde_json::Value {
    match node.value {
        Value::Null | Value::Broken => serde_json::Value::Null,
        Value::Scalar(text) => serde_json::Value::String(text),
        Value::List(items) => items.into_iter().map(to_json).collect(),
        Value::Mapping(entries) => entries
            .into_iter()
            .filter_map(|(key, value)| Some((key.text()?.to_owned(), to_json(value))))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}
