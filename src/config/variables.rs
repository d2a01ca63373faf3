//! Substitution of `${VAR}` and `${VAR:-default}` in scalars, and of `${VAR[]}`, which stands for a list. It follows parsing,
//! so a value can't change the structure.

use super::diagnostics::{Diagnostics, Location};
use super::yaml::{Value, YamlNode};

/// Looks up an environment variable.
pub(super) type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Substitutes the variables in every scalar below `node`. A scalar with an error becomes [`Value::Broken`].
pub(super) fn substitute(node: &mut YamlNode, environment: Environment<'_>, diagnostics: &Diagnostics) {
    match &mut node.value {
        Value::Scalar(text) if text.contains("${") => {
            node.value = match substitute_value(text, node.location, environment) {
                Ok(value) => value,
                Err(wrong) => {
                    diagnostics.error(node.location, wrong.message).help(wrong.help);
                    Value::Broken
                }
            };
        }
        Value::List(items) => substitute_items(items, environment, diagnostics),
        Value::Mapping(entries) => {
            for (key, value) in entries {
                if key.text().is_some_and(|text| text.contains("${")) {
                    diagnostics
                        .error(key.location, "a key contains a variable")
                        .help("variables are replaced in values only: write the key out");
                }
                substitute(value, environment, diagnostics);
            }
        }
        Value::Scalar(_) | Value::Null | Value::Broken => {}
    }
}

/// An item that is a variable with a list becomes the items of that list.
fn substitute_items(items: &mut Vec<YamlNode>, environment: Environment<'_>, diagnostics: &Diagnostics) {
    let mut substituted = Vec::with_capacity(items.len());
    for mut item in items.drain(..) {
        let is_variable = item.text().is_some();
        substitute(&mut item, environment, diagnostics);
        match item.value {
            Value::List(values) if is_variable => substituted.extend(values),
            _ => substituted.push(item),
        }
    }
    *items = substituted;
}

fn substitute_value(
    text: &str,
    location: Location,
    environment: Environment<'_>,
) -> Result<Value, VariableError> {
    let Some((name, default)) = parse_list_reference(text) else {
        return substitute_text(text, environment, MAX_NESTED).map(Value::Scalar);
    };
    let values = lookup_variable(&format!("{name}{default}"), environment, MAX_NESTED)?;
    if values.trim().is_empty() {
        return Ok(Value::List(Vec::new()));
    }
    let items: Vec<&str> = values.split(',').map(str::trim).collect();
    if items.contains(&"") {
        return Err(VariableError {
            message: format!("the list in the variable `{name}` has an empty item"),
            help: "separate the items by single commas: `a, b`".into(),
        });
    }
    Ok(Value::List(items.into_iter().map(|item| YamlNode::scalar(item, location)).collect()))
}

/// Splits `${VAR[]:-a,b}` into `VAR` and `:-a,b`.
fn parse_list_reference(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix("${")?;
    let end = closing_brace(inside).filter(|end| end + 1 == inside.len())?;
    let (name, default) = inside[..end].split_once("[]")?;
    (is_name(name) && (default.is_empty() || default.starts_with(":-"))).then_some((name, default))
}

/// How deep defaults may be nested: `${A:-${B:-b}}`.
const MAX_NESTED: usize = 8;

struct VariableError {
    message: String,
    help: String,
}

/// `$${` is an escaped `${`. `nested`: how many references deep a default may still go.
fn substitute_text(text: &str, environment: Environment<'_>, nested: usize) -> Result<String, VariableError> {
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
            return Err(VariableError {
                message: "`${` without `}`".into(),
                help: "write `${VAR}` or `${VAR:-default}`; `$${` is a literal `${`".into(),
            });
        };
        out.push_str(&lookup_variable(inside, environment, nested)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// Finds the end of a reference, whose default may have braces of its own: `${TAG:-course:{id}}`.
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

/// Looks up a variable. The default also replaces an empty value, as in a shell, and may have variables itself.
fn lookup_variable(
    inside: &str,
    environment: Environment<'_>,
    nested: usize,
) -> Result<String, VariableError> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if name.strip_suffix("[]").is_some_and(is_name) {
        return Err(VariableError {
            message: format!("`${{{name}}}` is a list and can't be a part of a text"),
            help: format!("let it stand alone, or write `${{{}}}`", name.trim_end_matches("[]")),
        });
    }
    if !is_name(name) {
        let end = name.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
        let shown = end.map_or_else(|| name.to_owned(), |end| format!("{}…", &name[..end]));
        return Err(VariableError {
            // The rest may be the default, and that a secret.
            message: format!("`${{{shown}}}` is not a variable"),
            help: "write `${VAR}` or `${VAR:-default}`, where VAR has letters, digits and `_`".into(),
        });
    }
    match (environment(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => match nested.checked_sub(1) {
            Some(nested) => substitute_text(default, environment, nested),
            None => Err(VariableError {
                message: format!("defaults are nested more than {MAX_NESTED} deep"),
                help: "set one of the variables, or write fewer".into(),
            }),
        },
        (None, None) => Err(VariableError {
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
