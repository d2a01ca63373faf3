//! `${VAR}` and `${VAR:-default}` in scalars, filled in after parsing: a value can never change the structure.

use super::problem::Problems;
use super::tree::{Node, Value};

/// The environment, as far as it is asked for.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Fills in every scalar below `node`. One that can't be filled in is broken from then on.
pub fn fill(node: &mut Node, environment: Environment<'_>, problems: &Problems) {
    match &mut node.value {
        Value::Scalar(text) if text.contains("${") => match filled(text, environment) {
            Ok(value) => *text = value,
            Err(wrong) => {
                problems.error(node.place, wrong.message).help(wrong.help);
                node.value = Value::Broken;
            }
        },
        Value::List(items) => items.iter_mut().for_each(|item| fill(item, environment, problems)),
        Value::Mapping(entries) => {
            for (key, value) in entries {
                if key.text().is_some_and(|text| text.contains("${")) {
                    problems
                        .error(key.place, "a variable stands in a key")
                        .help("variables are filled in in values only: write the key out");
                }
                fill(value, environment, problems);
            }
        }
        Value::Scalar(_) | Value::Null | Value::Broken => {}
    }
}

struct Wrong {
    message: String,
    help: String,
}

/// `$${` stands for `${` itself.
fn filled(text: &str, environment: Environment<'_>) -> Result<String, Wrong> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        let body = &reference[2..];
        if let Some(literal) = before.strip_suffix('$') {
            out.push_str(literal);
            out.push_str("${");
            rest = body;
            continue;
        }
        out.push_str(before);
        let Some((inside, after)) = closing_brace(body).map(|end| (&body[..end], &body[end + 1..])) else {
            return Err(Wrong {
                message: "`${` without `}`".into(),
                help: "write `${VAR}` or `${VAR:-default}`; `$${` stands for `${` itself".into(),
            });
        };
        out.push_str(&value_of(inside, environment)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// A default may hold braces of its own: `${TAG:-course:{id}}`.
fn closing_brace(body: &str) -> Option<usize> {
    let mut open = 0_usize;
    for (at, byte) in body.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' if open == 0 => return Some(at),
            b'}' => open -= 1,
            _ => {}
        }
    }
    None
}

/// As in a shell, the default also stands in for a variable that is empty.
fn value_of(inside: &str, environment: Environment<'_>) -> Result<String, Wrong> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if !is_name(name) {
        return Err(Wrong {
            message: format!("`${{{inside}}}` names no variable"),
            help: "write `${VAR}` or `${VAR:-default}`, where VAR has letters, digits and `_`".into(),
        });
    }
    match (environment(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Wrong {
            message: format!("the variable `{name}` is not set"),
            help: format!("set it, or give a default: `${{{name}:-…}}`"),
        }),
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
