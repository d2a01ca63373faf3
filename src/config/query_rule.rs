//! `query:` in its four forms: `all`, a list of names, names with defaults, `{ignore: […]}`.

use super::problem::Problems;
use super::route_fields::{Placed, distinct};
use super::scalars::{list, text};
use super::tree::{Node, Value};
use crate::policy::query::QueryRule;

const FORMS: &str = "write `all`, a list of names `[page, limit]`, names with defaults `{page: 1}`, or `{ignore: [\"utm_*\"]}`";

pub fn read(node: &Node, problems: &Problems) -> Option<QueryRule> {
    match &node.value {
        Value::List(_) => {
            let names = distinct(list(node, "[page, limit]", problems, name)?, problems)?;
            Some(QueryRule::Only(names.into_iter().map(|name| (name, None)).collect()))
        }
        Value::Mapping(entries) => mapping(entries, problems),
        Value::Scalar(word) if word == "all" => Some(QueryRule::All),
        Value::Broken => None,
        Value::Scalar(word) => {
            let help = match word.as_str() {
                "none" => "write `[]`: no parameter makes the key".to_owned(),
                name => format!("{FORMS}; for one parameter, `[{name}]`"),
            };
            problems.error(node.place, format!("`{word}` is not known here")).help(help);
            None
        }
        Value::Null => {
            problems.error(node.place, "a value is missing").help(FORMS);
            None
        }
    }
}

/// The one key `ignore` with a list is the ignore form; otherwise all keys are names of parameters.
fn mapping(entries: &[(Node, Node)], problems: &Problems) -> Option<QueryRule> {
    let ignored = entries.iter().find(|(key, value)| key.text() == Some("ignore") && is_list(value));
    match ignored {
        Some((_, patterns)) if entries.len() == 1 => ignore(patterns, problems),
        Some((key, _)) => {
            problems
                .error(key.place, "a parameter is either named or ignored, and here are both")
                .help("keep the names (all others are ignored then), or `{ignore: […]}` alone");
            None
        }
        None => {
            let names: Vec<_> = entries.iter().map(|(key, value)| named(key, value, problems)).collect();
            names.into_iter().collect::<Option<_>>().map(QueryRule::Only)
        }
    }
}

fn named(key: &Node, value: &Node, problems: &Problems) -> Option<(String, Option<String>)> {
    let name = name(key, problems);
    let default = match &value.value {
        Value::Null => None,
        Value::Scalar(default) => Some(default.clone()),
        Value::Broken => return None,
        Value::List(_) | Value::Mapping(_) => {
            let help = match key.text() {
                Some("only") => {
                    "to name parameters without defaults, write the list itself: `query: [page, limit]`"
                }
                _ => "write the value that stands for a request without it, or nothing",
            };
            problems
                .error(
                    value.place,
                    format!("a parameter's default must be a single value, not {}", value.kind()),
                )
                .help(help);
            return None;
        }
    };
    Some((name?.value, default))
}

fn ignore(node: &Node, problems: &Problems) -> Option<QueryRule> {
    let patterns = list(node, "[\"utm_*\"]", problems, |node, problems| {
        let pattern = name(node, problems)?;
        if pattern.value.trim_end_matches('*').len() + 1 < pattern.value.len()
            || pattern.value.trim_end_matches('*').contains('*')
        {
            problems
                .error(node.place, "`*` stands elsewhere than once at the end")
                .help("write `utm_*`, or the whole name");
            return None;
        }
        Some(pattern)
    })?;
    distinct(patterns, problems).map(QueryRule::Ignore)
}

fn name(node: &Node, problems: &Problems) -> Option<Placed<String>> {
    match text(node, "the name of a parameter", problems)? {
        "" => {
            problems.error(node.place, "the name of a parameter is empty").help("write its name");
            None
        }
        name => Some(Placed { value: name.to_owned(), place: node.place }),
    }
}

fn is_list(node: &Node) -> bool {
    matches!(node.value, Value::List(_))
}
