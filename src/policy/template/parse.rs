//! Parses tag templates; errors give the offset and what can be written instead.

use http::header::HeaderName;

use super::{EVENT_CHANNEL, TemplatePart, ValueSource};
use crate::policy::json_query::JsonQuery;

const KINDS: [&str; 5] = ["query", "header", "cookie", "jwt", "response.header"];

/// Prefixes of content sources; the rest may contain quoted braces.
const REQUEST_JSON: &str = "request.json:";
const REQUEST_FORM: &str = "request.form:";
const RESPONSE_JSON: &str = "response.json:";
const EVENT_JSON: &str = "event.json:";

type JsonSource = fn(JsonQuery) -> ValueSource;

/// Sources that a query finds in JSON.
const JSON_SOURCES: [(&str, JsonSource); 3] = [
    (REQUEST_JSON, ValueSource::RequestJson),
    (RESPONSE_JSON, ValueSource::ResponseJson),
    (EVENT_JSON, ValueSource::EventJson),
];

pub(super) fn parse_parts(text: &str) -> Result<Vec<TemplatePart>, String> {
    if text.is_empty() {
        return Err("a tag can't be empty".to_owned());
    }
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let left = &text[at..];
        if left.starts_with("{{") || left.starts_with("}}") {
            literal.push(c);
            at += 2;
        } else if c == '{' {
            let inner = take_until_brace(&left[1..]).ok_or_else(|| {
                format!("at offset {at}: `{{` is never closed; write `{{name}}`, or `{{{{` for a brace")
            })?;
            if !literal.is_empty() {
                parts.push(TemplatePart::Literal(std::mem::take(&mut literal)));
            }
            parts.push(TemplatePart::Value(
                parse_source(inner).map_err(|error| format!("at offset {at}: {error}"))?,
            ));
            at += inner.len() + 2;
        } else if c == '}' {
            return Err(format!("at offset {at}: `}}` closes nothing; write `}}}}` for a brace"));
        } else if c.is_whitespace() || c.is_control() || c == ',' {
            return Err(format!(
                "at offset {at}: a tag has no spaces, commas or control characters, since lists of tags are \
                 separated by them; write `-`, or make two tags of it"
            ));
        } else {
            literal.push(c);
            at += c.len_utf8();
        }
    }
    if !literal.is_empty() {
        parts.push(TemplatePart::Literal(literal));
    }
    Ok(parts)
}

/// The text before the closing brace; a JSONPath may have braces in its quoted names.
fn take_until_brace(text: &str) -> Option<&str> {
    if !JSON_SOURCES.iter().any(|(kind, _)| text.starts_with(&format!("{kind}$"))) {
        return text.split_once('}').map(|(inner, _)| inner);
    }
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in text.char_indices() {
        match (c, quote) {
            _ if escaped => escaped = false,
            ('\\', Some(_)) => escaped = true,
            ('\'' | '"', None) => quote = Some(c),
            (_, Some(open)) if c == open => quote = None,
            ('}', None) => return Some(&text[..at]),
            _ => {}
        }
    }
    None
}

fn parse_source(inner: &str) -> Result<ValueSource, String> {
    let with_prefix = |(kind, source): &(&str, JsonSource)| Some((inner.strip_prefix(kind)?, *source));
    if let Some((query, source)) = JSON_SOURCES.iter().find_map(with_prefix) {
        return JsonQuery::parse(query).map(source);
    }
    if inner == EVENT_CHANNEL {
        return Ok(ValueSource::EventChannel);
    }
    match inner.strip_prefix(REQUEST_FORM) {
        Some("") => Err(format!("`{{{inner}}}` names no value; write `{{{REQUEST_FORM}name}}`")),
        Some(name) => Ok(ValueSource::RequestForm(name.to_owned())),
        None if is_name(inner) => Ok(ValueSource::Path(inner.to_owned())),
        None => parse_named_source(inner),
    }
}

/// Parses `query.name`, `response.header.name` and the like.
fn parse_named_source(inner: &str) -> Result<ValueSource, String> {
    let (kind, name) = match inner.strip_prefix("response.header.") {
        Some(name) => ("response.header", name),
        None => inner.split_once('.').ok_or_else(|| unknown_source_error(inner))?,
    };
    if !KINDS.contains(&kind) {
        return Err(unknown_source_error(inner));
    }
    if name.is_empty() {
        return Err(format!("`{{{inner}}}` names no value; write `{{{kind}.name}}`"));
    }
    Ok(match kind {
        "query" => ValueSource::Query(name.to_owned()),
        "cookie" => ValueSource::Cookie(name.to_owned()),
        "jwt" => ValueSource::Jwt(name.to_owned()),
        "header" => ValueSource::Header(parse_header_name(name)?),
        _ => ValueSource::ResponseHeader(parse_header_name(name)?),
    })
}

fn parse_header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("`{name}` can't be the name of a header field"))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn unknown_source_error(inner: &str) -> String {
    const SOURCES: &str = "`{name}` (of the path), `{query.name}`, `{header.name}`, `{cookie.name}`, `{jwt.claim}`, `{caller}`, \
                           `{request.json:/name}`, `{request.form:name}`, `{response.header.name}` and \
                           `{response.json:$.items[*].name}`; in `events`, `{event.json:/name}` and `{event.channel}`";
    match suggest_source(inner) {
        Some(instead) => format!("`{{{inner}}}` is not a source of values; did you mean `{{{instead}}}`?"),
        None => format!("`{{{inner}}}` is not a source of values; there are {SOURCES}"),
    }
}

/// Suggests the right name for other tools' words and for typing errors.
fn suggest_source(inner: &str) -> Option<String> {
    let inner = inner.trim().trim_start_matches('*');
    if is_name(inner) {
        return Some(inner.to_owned());
    }
    if let Some(instead) = suggest_content_source(inner) {
        return Some(instead);
    }
    let words: Vec<&str> = inner.split('.').collect();
    let (last, before) = words.split_last()?;
    let before = before.join(".").to_ascii_lowercase();
    let meant = match before.as_str() {
        "path" | "params" | "param" | "route" | "request.path" => return Some((*last).to_owned()),
        "request.query" | "args" => "query",
        "request.header" | "request.headers" | "req.headers" => "header",
        "request.cookie" | "request.cookies" => "cookie",
        "claims" | "token" | "request.jwt" => "jwt",
        "res.headers" | "response" => "response.header",
        other => {
            let near = KINDS.iter().map(|kind| (edit_distance(kind, other), *kind)).min()?;
            (near.0 <= 2).then_some(near.1)?
        }
    };
    Some(format!("{meant}.{last}"))
}

/// Suggests a source for `{request.body.id}`, `{response.json.id}` and the like.
fn suggest_content_source(inner: &str) -> Option<String> {
    let (side, rest) = inner.split_once('.')?;
    let (word, name) = rest.split_at(rest.find(['.', ':', '/', '['])?);
    let name = name.trim_start_matches(['.', ':', '/', '[']).trim_end_matches(']');
    match (side, word) {
        ("request" | "req", "json" | "body") => Some(format!("{REQUEST_JSON}/{name}")),
        ("request" | "req", "form") => Some(format!("{REQUEST_FORM}{name}")),
        ("response" | "res", "json" | "body") => Some(format!("{RESPONSE_JSON}/{name}")),
        ("event", "json" | "body" | "data") => Some(format!("{EVENT_JSON}/{name}")),
        _ => None,
    }
}

/// Levenshtein distance.
fn edit_distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}
