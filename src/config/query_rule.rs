//! `query:` in its four forms: `all`, a list of names, names with defaults, `{ignore: […]}`.

use super::diagnostics::Diagnostics;
use super::fields::Located;
use super::keys::Reader;
use super::scalars::{distinct, list, text};
use super::section::Kind;
use super::settings::{Settings, settings};
use super::yaml::{Value, YamlNode};
use crate::policy::query::QueryRule;

settings! {
    struct IgnoreFields = "query" {
        /// Parameters that are left out of the key and not sent on; all others make the key. A name may end in `*`.
        ignore: Vec<String> = IGNORE, required;
    }
}

pub(super) const QUERY: Reader<QueryRule> = Reader::new(
    Kind::OneOf(&[
        Kind::Word(&["all"]),
        Kind::ListOf(&Kind::Text),
        Kind::Mapping(IgnoreFields::SECTION),
        Kind::Names(&Kind::Text),
    ]),
    read,
);

const FORMS: &str = "write `all`, a list of names `[page, limit]`, names with defaults `{page: 1}`, or `{ignore: [\"utm_*\"]}`";

fn read(node: &YamlNode, diagnostics: &Diagnostics) -> Option<QueryRule> {
    match &node.value {
        Value::List(_) => {
            let names = list(node, "[page, limit]", diagnostics, name)?;
            for Located { value, location } in names.iter().filter(|name| name.value.contains('*')) {
                diagnostics
                    .warning(*location, format!("`{value}` is one parameter: `*` stands for itself here"))
                    .help("write out the names, or leave parameters out by `{ignore: [\"utm_*\"]}`");
            }
            let names = distinct(names, diagnostics)?;
            Some(QueryRule::Only(names.into_iter().map(|name| (name, None)).collect()))
        }
        Value::Mapping(entries) => mapping(entries, diagnostics),
        Value::Scalar(word) if word == "all" => Some(QueryRule::All),
        Value::Broken => None,
        Value::Scalar(word) => {
            let help = match word.as_str() {
                "none" => "write `[]`: no parameter is part of the key".to_owned(),
                name => format!("{FORMS}; for one parameter, `[{name}]`"),
            };
            diagnostics.error(node.location, format!("unknown value `{word}`")).help(help);
            None
        }
        Value::Null => {
            diagnostics.error(node.location, "a value is missing").help(FORMS);
            None
        }
    }
}

/// The one key `ignore` with a list is the ignore form; otherwise all keys are names of parameters.
fn mapping(entries: &[(YamlNode, YamlNode)], diagnostics: &Diagnostics) -> Option<QueryRule> {
    let ignored = entries.iter().find(|(key, value)| key.text() == Some("ignore") && is_list(value));
    match ignored {
        Some((_, patterns)) if entries.len() == 1 => {
            IGNORE.read(patterns, diagnostics).map(QueryRule::Ignore)
        }
        Some((key, _)) => {
            diagnostics
                .error(key.location, "`ignore` can't be combined with names of parameters")
                .help("keep the names (all others are ignored then), or `{ignore: […]}` alone");
            None
        }
        None => {
            let names = entries.iter().map(|(key, value)| name_with_default(key, value, diagnostics));
            let names: Vec<_> = names.collect();
            names.into_iter().collect::<Option<_>>().map(QueryRule::Only)
        }
    }
}

fn name_with_default(
    key: &YamlNode,
    value: &YamlNode,
    diagnostics: &Diagnostics,
) -> Option<(String, Option<String>)> {
    let name = name(key, diagnostics);
    let default = match &value.value {
        Value::Null => None,
        Value::Scalar(default) => Some(default.clone()),
        Value::Broken => return None,
        Value::List(_) | Value::Mapping(_) => {
            let help = match key.text() {
                Some("only") => {
                    "to name parameters without defaults, write the list itself: `query: [page, limit]`"
                }
                _ => "write the value that an absent parameter stands for, or nothing",
            };
            diagnostics
                .error(
                    value.location,
                    format!("a parameter's default must be a single value, not {}", value.kind()),
                )
                .help(help);
            return None;
        }
    };
    Some((name?.value, default))
}

const IGNORE: Reader<Vec<String>> = Reader::new(Kind::ListOf(&Kind::Text), |node, diagnostics| {
    let patterns = list(node, "[\"utm_*\"]", diagnostics, |node, diagnostics| {
        let pattern = name(node, diagnostics)?;
        if pattern.value.strip_suffix('*').unwrap_or(&pattern.value).contains('*') {
            diagnostics
                .error(node.location, "`*` may only be the last character")
                .help("write `utm_*`, or the whole name");
            return None;
        }
        Some(pattern)
    })?;
    distinct(patterns, diagnostics)
});

fn name(node: &YamlNode, diagnostics: &Diagnostics) -> Option<Located<String>> {
    match text(node, "the name of a parameter", diagnostics)? {
        "" => {
            diagnostics.error(node.location, "the name of a parameter is empty").help("write a name");
            None
        }
        name => Some(Located { value: name.to_owned(), location: node.location }),
    }
}

fn is_list(node: &YamlNode) -> bool {
    matches!(node.value, Value::List(_))
}
