//! The content of a message as templates read it: JSON, or a form. What can't be read for certain is not read at all.
//!
//! Never reads more than a bound, also of what a compressed body becomes.

mod strict_json;
#[cfg(test)]
mod tests;

use std::io::Read;

use flate2::bufread::MultiGzDecoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use serde_json::Value;

use super::http_date::only_value;
use super::json_query::{JsonQuery, Unusable};
use super::query;
use super::storing::NotStored;
use strict_json::Names;

#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Json(Value),
    /// `application/x-www-form-urlencoded`, as it came.
    Form(String),
}

/// Why it is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Its type is another, or its charset.
    Type,
    /// A content coding other than gzip.
    Coding,
    /// It is not what its type says, or has two readings.
    Malformed,
    TooLarge,
}

impl Unreadable {
    /// As the reason why a response is not stored whose tags stand in its content.
    pub fn not_stored(self) -> NotStored {
        match self {
            Unreadable::Type => NotStored::NotJson,
            Unreadable::Coding => NotStored::Encoded,
            Unreadable::Malformed => NotStored::MalformedJson,
            Unreadable::TooLarge => NotStored::JsonTooLarge,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Json,
    Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
}

impl Content {
    /// Whether a response with these fields is one that [`Content::of_response`] could read.
    pub fn is_expected(headers: &HeaderMap) -> Result<(), Unreadable> {
        match kind(headers)? {
            Kind::Json => coding(headers).map(drop),
            Kind::Form => Err(Unreadable::Type),
        }
    }

    /// JSON of at most `limit` bytes, decoded.
    pub fn of_response(headers: &HeaderMap, body: &[u8], limit: u64) -> Result<Self, Unreadable> {
        Self::is_expected(headers)?;
        let text = decoded(coding(headers)?, body, limit)?;
        strict_json::parse(&text, Names::AsWritten).map(Content::Json).ok_or(Unreadable::Malformed)
    }

    /// JSON or a form of at most `limit` bytes. Who sends it may want the upstream to read something else than what
    /// is read here, so names that some reader takes for the same may stand once only.
    pub fn of_request(headers: &HeaderMap, body: &[u8], limit: u64) -> Result<Self, Unreadable> {
        let kind = kind(headers)?;
        let text = decoded(coding(headers)?, body, limit)?;
        match kind {
            Kind::Json => strict_json::parse(&text, Names::WithoutCase).map(Content::Json),
            Kind::Form => String::from_utf8(text).ok().map(Content::Form),
        }
        .ok_or(Unreadable::Malformed)
    }

    /// The texts that `query` finds in it, `at_most` of them; none where it is no JSON.
    pub fn texts(&self, query: &JsonQuery, at_most: usize) -> Result<Vec<String>, Unusable> {
        self.json().map_or(Ok(Vec::new()), |document| query.texts(document).take(at_most).collect())
    }

    /// A change event: JSON of at most `limit` bytes, in which a name has one reading.
    pub fn of_event(text: &[u8], limit: usize) -> Result<Self, Unreadable> {
        if text.len() > limit {
            return Err(Unreadable::TooLarge);
        }
        strict_json::parse(text, Names::WithoutCase).map(Content::Json).ok_or(Unreadable::Malformed)
    }

    /// A change event that comes as fields with values.
    pub fn of_fields<'f>(fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>) -> Result<Self, Unreadable> {
        let mut object = serde_json::Map::new();
        for (name, value) in fields {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| Unreadable::Malformed);
            if object.insert(text(name)?, Value::String(text(value)?)).is_some() {
                return Err(Unreadable::Malformed);
            }
        }
        Ok(Content::Json(Value::Object(object)))
    }

    pub(super) fn json(&self) -> Option<&Value> {
        match self {
            Content::Json(value) => Some(value),
            Content::Form(_) => None,
        }
    }

    /// All the values of one field of a form.
    pub(super) fn form_values(&self, name: &str) -> Vec<String> {
        match self {
            Content::Form(text) => query::values(Some(text), name),
            Content::Json(_) => Vec::new(),
        }
    }
}

fn kind(headers: &HeaderMap) -> Result<Kind, Unreadable> {
    let value = only_value(headers, &CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let value = str::from_utf8(value).map_err(|_| Unreadable::Type)?.to_ascii_lowercase();
    let mut parts = value.split(';').map(str::trim);
    let kind = match parts.next().unwrap_or_default() {
        "application/x-www-form-urlencoded" => Kind::Form,
        "application/json" | "text/json" => Kind::Json,
        other if other.ends_with("+json") => Kind::Json,
        _ => return Err(Unreadable::Type),
    };
    // RFC 8259 §8.1: JSON is UTF-8. Whoever says that it is something else may mean it.
    let charsets = parts.filter_map(|parameter| parameter.strip_prefix("charset="));
    let is_read = |charset: &str| matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii");
    if charsets.into_iter().all(is_read) { Ok(kind) } else { Err(Unreadable::Type) }
}

fn coding(headers: &HeaderMap) -> Result<Coding, Unreadable> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter().map(HeaderValue::as_bytes);
    let coding = match values.next() {
        None => Coding::Identity,
        Some(value) if value.trim_ascii().eq_ignore_ascii_case(b"identity") => Coding::Identity,
        Some(value)
            if [&b"gzip"[..], b"x-gzip"].iter().any(|name| value.trim_ascii().eq_ignore_ascii_case(name)) =>
        {
            Coding::Gzip
        }
        Some(_) => return Err(Unreadable::Coding),
    };
    if values.next().is_some() { Err(Unreadable::Coding) } else { Ok(coding) }
}

fn decoded(coding: Coding, body: &[u8], limit: u64) -> Result<Vec<u8>, Unreadable> {
    let mut text = Vec::new();
    let read = match coding {
        Coding::Identity => body.take(limit.saturating_add(1)).read_to_end(&mut text),
        Coding::Gzip => MultiGzDecoder::new(body).take(limit.saturating_add(1)).read_to_end(&mut text),
    };
    match read {
        Ok(length) if length as u64 > limit => Err(Unreadable::TooLarge),
        Ok(_) => Ok(text),
        Err(_) => Err(Unreadable::Malformed),
    }
}

/// What to accept in place of what the client does, so that the answer can be read and still is one for this client;
/// `None`: as it is.
pub fn readable_coding(accepted: &HeaderMap) -> Option<HeaderValue> {
    let lines: Vec<&[u8]> = accepted.get_all(ACCEPT_ENCODING).iter().map(HeaderValue::as_bytes).collect();
    if lines.is_empty() {
        return None;
    }
    let text = String::from_utf8_lossy(&lines.join(&b","[..])).to_ascii_lowercase();
    let is_refused = |member: &str| {
        member.split(';').skip(1).map(str::trim).any(|weight| {
            weight.strip_prefix("q=").is_some_and(|q| q.bytes().all(|byte| matches!(byte, b'0' | b'.')))
        })
    };
    let mut members = text.split(',').map(str::trim);
    let named =
        |name: &str, member: &str| member.split(';').next().is_some_and(|coding| coding.trim() == name);
    if members.clone().any(|member| named("gzip", member) && !is_refused(member)) {
        return Some(HeaderValue::from_static("gzip"));
    }
    let needs_a_coding =
        members.any(|member| (named("identity", member) || named("*", member)) && is_refused(member));
    (!needs_a_coding).then(|| HeaderValue::from_static("identity"))
}
