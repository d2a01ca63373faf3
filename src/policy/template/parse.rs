//! Reads a tag template; what is wrong is said with its offset and with what can be written instead.

use http::header::HeaderName;

use super::{Part, Source};
use crate::policy::json_query::JsonQuery;

const KINDS: [&str; 5] = ["query", "header", "cookie", "jwt", "response.header"];

/// Sources in the content of a message; what follows may have braces in quotes.
const REQUEST_JSON: &str = "request.json:";
const REQUEST_FORM: &str = "request.form:";
const RESPONSE_JSON: &str = "response.json:";
const EVENT_JSON: &str = "event.json:";

pub(super) fn parts(text: &str) -> Result<Vec<Part>, String> {
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
            let inner = up_to_brace(&left[1..]).ok_or_else(|| {
                format!("at offset {at}: `{{` is never closed; write `{{name}}`, or `{{{{` for a brace")
            })?;
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Value(source(inner).map_err(|error| format!("at offset {at}: {error}"))?));
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
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

/// What stands before the closing brace; a JSONPath may have braces in its quoted names.
fn up_to_brace(text: &str) -> Option<&str> {
    if ![REQUEST_JSON, RESPONSE_JSON, EVENT_JSON].iter().any(|kind| text.starts_with(&format!("{kind}$"))) {
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

fn source(inner: &str) -> Result<Source, String> {
    if let Some(query) = inner.strip_prefix(REQUEST_JSON) {
        return JsonQuery::parse(query).map(Source::RequestJson);
    }
    if let Some(query) = inner.strip_prefix(RESPONSE_JSON) {
        return JsonQuery::parse(query).map(Source::ResponseJson);
    }
    if let Some(query) = inner.strip_prefix(EVENT_JSON) {
        return JsonQuery::parse(query).map(Source::EventJson);
    }
    match inner.strip_prefix(REQUEST_FORM) {
        Some("") => return Err(format!("`{{{inner}}}` names no value; write `{{{REQUEST_FORM}name}}`")),
        Some(name) => return Ok(Source::RequestForm(name.to_owned())),
        None => {}
    }
    if is_name(inner) {
        return Ok(Source::Path(inner.to_owned()));
    }
    let (kind, name) = match inner.strip_prefix("response.header.") {
        Some(name) => ("response.header", name),
        None => inner.split_once('.').ok_or_else(|| unknown(inner))?,
    };
    if !KINDS.contains(&kind) {
        return Err(unknown(inner));
    }
    if name.is_empty() {
        return Err(format!("`{{{inner}}}` names no value; write `{{{kind}.name}}`"));
    }
    Ok(match kind {
        "query" => Source::Query(name.to_owned()),
        "cookie" => Source::Cookie(name.to_owned()),
        "jwt" => Source::Jwt(name.to_owned()),
        "header" => Source::Header(header(name)?),
        _ => Source::ResponseHeader(header(name)?),
    })
}

fn header(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("`{name}` can't be the name of a header field"))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn unknown(inner: &str) -> String {
    const SOURCES: &str = "`{name}` (of the path), `{query.name}`, `{header.name}`, `{cookie.name}`, `{jwt.claim}`, \
                           `{request.json:/name}`, `{request.form:name}`, `{response.header.name}` and \
                           `{response.json:$.items[*].name}`; in `events`, `{event.json:/name}`";
    match nearest(inner) {
        Some(instead) => format!("`{{{inner}}}` is not a source of values; did you mean `{{{instead}}}`?"),
        None => format!("`{{{inner}}}` is not a source of values; there are {SOURCES}"),
    }
}

/// The right name for what is most likely meant, by other tools' words and by slips of the pen.
fn nearest(inner: &str) -> Option<String> {
    let inner = inner.trim().trim_start_matches('*');
    if is_name(inner) {
        return Some(inner.to_owned());
    }
    if let Some(instead) = nearest_content(inner) {
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
            let near = KINDS.iter().map(|kind| (distance(kind, other), *kind)).min()?;
            (near.0 <= 2).then_some(near.1)?
        }
    };
    Some(format!("{meant}.{last}"))
}

/// `{request.body.id}`, `{response.json.id}` and the like.
fn nearest_content(inner: &str) -> Option<String> {
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

/// Levenshtein's.
fn distance(one: &str, other: &str) -> usize {
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
