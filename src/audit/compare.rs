//! Compares a stored response with a fresh one: status, some fields, and the content, as JSON where it is.

use bytes::Bytes;
use http::header::{CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, LINK, LOCATION};
use http::{HeaderMap, HeaderName, StatusCode};
use serde::Serialize;
use serde_json::Value;

use super::MAX_AUDITED_BYTES;
use crate::config::AuditSettings;
use crate::policy::content::Content;

/// Fields that a client acts on and that do not name one exchange.
const COMPARED_FIELDS: [HeaderName; 5] =
    [CONTENT_TYPE, CONTENT_LANGUAGE, CONTENT_DISPOSITION, LOCATION, LINK];

const MAX_DIFFERENCES: usize = 8;

/// Most bytes of a value in a finding.
const MAX_VALUE_BYTES: usize = 80;

/// Largest JSON, decoded. Parsed, it takes up to 100 times its size.
const MAX_JSON_BYTES: u64 = MAX_AUDITED_BYTES as u64;

/// A response to compare.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Same,
    Different(Vec<Difference>),
    /// The contents have a coding that is not read, and differ in it.
    Incomparable,
}

/// A value that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Difference {
    /// `status`, `header.NAME`, `content`, or a JSON Pointer.
    pub place: String,
    pub stored: String,
    pub fresh: String,
}

impl Comparison {
    pub(crate) fn new(stored: &Observed, fresh: &Observed, settings: &AuditSettings) -> Self {
        let mut differences = Vec::new();
        if stored.status != fresh.status {
            differences.push(difference("status", stored.status.as_str(), fresh.status.as_str()));
        }
        for name in COMPARED_FIELDS.iter().filter(|name| !settings.ignored_fields.contains(name)) {
            let values = |headers: &HeaderMap| {
                let values =
                    headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
                values.collect::<Vec<_>>().join(", ")
            };
            let (before, after) = (values(&stored.headers), values(&fresh.headers));
            if before != after {
                differences.push(difference(&format!("header.{name}"), &before, &after));
            }
        }
        if stored.body != fresh.body {
            match compare_json(stored, fresh, settings) {
                Some(found) => differences.extend(found),
                None if is_encoded(&stored.headers) || is_encoded(&fresh.headers) => {
                    if differences.is_empty() {
                        return Comparison::Incomparable;
                    }
                }
                None => differences.push(differing_bytes(&stored.body, &fresh.body)),
            }
        }
        differences.truncate(MAX_DIFFERENCES);
        if differences.is_empty() { Comparison::Same } else { Comparison::Different(differences) }
    }
}

impl Observed {
    /// The bytes that a comparison may have to parse.
    pub(crate) fn parsed_bytes(&self) -> usize {
        if is_encoded(&self.headers) { MAX_AUDITED_BYTES } else { self.body.len() }
    }
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn differing_bytes(stored: &[u8], fresh: &[u8]) -> Difference {
    let at = stored.iter().zip(fresh).take_while(|(one, other)| one == other).count();
    let describe = |body: &[u8]| format!("{} bytes", body.len());
    difference(&format!("content at byte {at}"), &describe(stored), &describe(fresh))
}

/// `None` if one of them is no JSON.
fn compare_json(stored: &Observed, fresh: &Observed, settings: &AuditSettings) -> Option<Vec<Difference>> {
    let read = |observed: &Observed| match Content::parse_response(
        &observed.headers,
        &observed.body,
        MAX_JSON_BYTES,
    ) {
        Ok(Content::Json(document)) => Some(without_ignored(document, settings)),
        _ => None,
    };
    let (stored, fresh) = (read(stored)?, read(fresh)?);
    let mut differences = Vec::new();
    compare_values(&mut String::new(), &stored, &fresh, &mut differences);
    Some(differences)
}

fn without_ignored(mut document: Value, settings: &AuditSettings) -> Value {
    let pointers: Vec<String> =
        settings.ignored_json.iter().flat_map(|query| query.pointers(&document)).collect();
    for pointer in pointers {
        if let Some(value) = document.pointer_mut(&pointer) {
            *value = Value::Null;
        }
    }
    document
}

/// Adds the places at which two documents differ; an absent member is `null`. JSON is parsed with a bound on its depth, so this recursion has one.
fn compare_values(place: &mut String, stored: &Value, fresh: &Value, differences: &mut Vec<Difference>) {
    if differences.len() >= MAX_DIFFERENCES || stored == fresh {
        return;
    }
    let length = place.len();
    match (stored, fresh) {
        (Value::Object(before), Value::Object(after)) => {
            let added = after.keys().filter(|name| !before.contains_key(*name));
            for name in before.keys().chain(added) {
                place.push('/');
                place.push_str(&name.replace('~', "~0").replace('/', "~1"));
                let (one, other) = (before.get(name), after.get(name));
                let (one, other) = (one.unwrap_or(&Value::Null), other.unwrap_or(&Value::Null));
                compare_values(place, one, other, differences);
                place.truncate(length);
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (at, (one, other)) in before.iter().zip(after).enumerate() {
                place.push_str(&format!("/{at}"));
                compare_values(place, one, other, differences);
                place.truncate(length);
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            let describe = |items: &[Value]| format!("{} items", items.len());
            differences.push(difference(place, &describe(before), &describe(after)));
        }
        _ => differences.push(difference(place, &stored.to_string(), &fresh.to_string())),
    }
}

fn difference(place: &str, stored: &str, fresh: &str) -> Difference {
    let place = if place.is_empty() { "content" } else { place };
    Difference { place: bounded(place), stored: bounded(stored), fresh: bounded(fresh) }
}

/// Cuts a text of others.
pub(super) fn bounded(text: &str) -> String {
    if text.len() <= MAX_VALUE_BYTES {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MAX_VALUE_BYTES);
    format!("{}{CUT}", &text[..end])
}

/// The end of a text that is cut.
pub(super) const CUT: char = '…';
