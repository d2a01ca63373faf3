//! The content of a message as templates read it: JSON or a form. Ambiguous content is not read.
//!
//! Reads are bounded, including the decompressed size.

mod strict_json;
#[cfg(test)]
mod tests;

use std::io::Read;

use flate2::bufread::MultiGzDecoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use serde_json::Value;

use super::http_date::single_value;
use super::json_query::{JsonQuery, UnusableValue};
use super::not_stored::NotStored;
use super::query;
use strict_json::NameComparison;

/// Parses JSON without duplicate names. `None`: it is malformed, or has some.
pub(crate) fn parse_strict_json(text: &[u8]) -> Option<Value> {
    strict_json::parse(text, NameComparison::Exact)
}

/// A content that was parsed.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A JSON value.
    Json(Value),
    /// `application/x-www-form-urlencoded`, undecoded.
    Form(String),
}

/// The reason why content is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreadableContent {
    /// Another media type or charset.
    Type,
    /// A content coding other than gzip.
    Coding,
    /// The content does not parse, or has two readings.
    Malformed,
    /// It is larger than it may be.
    TooLarge,
}

impl UnreadableContent {
    /// The matching reason for not storing a response whose tags are in its content.
    pub(crate) fn as_not_stored(self) -> NotStored {
        match self {
            UnreadableContent::Type => NotStored::NotJson,
            UnreadableContent::Coding => NotStored::Encoded,
            UnreadableContent::Malformed => NotStored::MalformedJson,
            UnreadableContent::TooLarge => NotStored::JsonTooLarge,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentKind {
    Json,
    Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContentCoding {
    Identity,
    Gzip,
}

impl Content {
    /// Whether [`Content::parse_response`] can read a response with these fields.
    pub(crate) fn is_expected(headers: &HeaderMap) -> Result<(), UnreadableContent> {
        match content_kind(headers)? {
            ContentKind::Json => content_coding(headers).map(drop),
            ContentKind::Form => Err(UnreadableContent::Type),
        }
    }

    /// Parses JSON of at most `limit` decoded bytes.
    pub fn parse_response(headers: &HeaderMap, body: &[u8], limit: u64) -> Result<Self, UnreadableContent> {
        Self::is_expected(headers)?;
        let text = decode(content_coding(headers)?, body, limit)?;
        strict_json::parse(&text, NameComparison::Exact)
            .map(Content::Json)
            .ok_or(UnreadableContent::Malformed)
    }

    /// The text of a JSON response of at most `limit` decoded bytes.
    pub(crate) fn response_text(
        headers: &HeaderMap,
        body: &[u8],
        limit: u64,
    ) -> Result<String, UnreadableContent> {
        Self::is_expected(headers)?;
        let text = decode(content_coding(headers)?, body, limit)?;
        String::from_utf8(text).map_err(|_| UnreadableContent::Malformed)
    }

    /// Parses JSON or a form of at most `limit` decoded bytes. A client may try to make the upstream read other
    /// values than larder, so names that differ only in case are duplicates.
    pub fn parse_request(headers: &HeaderMap, body: &[u8], limit: u64) -> Result<Self, UnreadableContent> {
        let kind = content_kind(headers)?;
        let text = decode(content_coding(headers)?, body, limit)?;
        match kind {
            ContentKind::Json => {
                strict_json::parse(&text, NameComparison::CaseInsensitive).map(Content::Json)
            }
            ContentKind::Form => String::from_utf8(text).ok().map(Content::Form),
        }
        .ok_or(UnreadableContent::Malformed)
    }

    /// The first `at_most` texts that `query` selects; none if the content is not JSON.
    pub(crate) fn extract_texts(
        &self,
        query: &JsonQuery,
        at_most: usize,
    ) -> Result<Vec<String>, UnusableValue> {
        self.json().map_or(Ok(Vec::new()), |document| query.texts(document).take(at_most).collect())
    }

    /// Parses a change event: JSON of at most `limit` bytes without duplicate names.
    pub fn parse_event(text: &[u8], limit: usize) -> Result<Self, UnreadableContent> {
        if text.len() > limit {
            return Err(UnreadableContent::TooLarge);
        }
        strict_json::parse(text, NameComparison::CaseInsensitive)
            .map(Content::Json)
            .ok_or(UnreadableContent::Malformed)
    }

    /// Builds a change event from name-value pairs.
    pub fn from_event_fields<'f>(
        fields: impl IntoIterator<Item = (&'f [u8], &'f [u8])>,
    ) -> Result<Self, UnreadableContent> {
        let mut object = serde_json::Map::new();
        for (name, value) in fields {
            let text =
                |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| UnreadableContent::Malformed);
            if object.insert(text(name)?, Value::String(text(value)?)).is_some() {
                return Err(UnreadableContent::Malformed);
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

    /// All values of one form field, also as readers see them that separate fields by `;`.
    pub(super) fn form_values(&self, name: &str) -> Vec<String> {
        match self {
            Content::Form(text) => {
                let named = query::decoded_pairs_of_any_reader(text).filter(|(other, _)| other == name);
                named.map(|(_, value)| value.into_owned()).collect()
            }
            Content::Json(_) => Vec::new(),
        }
    }
}

/// Parses JSON that every reader understands alike: no object has a name twice, in whatever case.
pub(super) fn parse_unambiguous_json(text: &[u8]) -> Option<Value> {
    strict_json::parse(text, NameComparison::CaseInsensitive)
}

pub(super) fn content_kind(headers: &HeaderMap) -> Result<ContentKind, UnreadableContent> {
    let value = single_value(headers, &CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let value = str::from_utf8(value).map_err(|_| UnreadableContent::Type)?.to_ascii_lowercase();
    let mut parts = value.split(';').map(str::trim);
    let kind = match parts.next().unwrap_or_default() {
        "application/x-www-form-urlencoded" => ContentKind::Form,
        "application/json" | "text/json" => ContentKind::Json,
        other if other.ends_with("+json") => ContentKind::Json,
        _ => return Err(UnreadableContent::Type),
    };
    // RFC 8259 §8.1: JSON is UTF-8. Content that declares another charset is not read.
    let charsets = parts.filter_map(|parameter| parameter.strip_prefix("charset="));
    let is_read = |charset: &str| matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii");
    if charsets.into_iter().all(is_read) { Ok(kind) } else { Err(UnreadableContent::Type) }
}

fn content_coding(headers: &HeaderMap) -> Result<ContentCoding, UnreadableContent> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter().map(HeaderValue::as_bytes);
    let coding = match values.next() {
        None => ContentCoding::Identity,
        Some(value) if value.trim_ascii().eq_ignore_ascii_case(b"identity") => ContentCoding::Identity,
        Some(value)
            if [&b"gzip"[..], b"x-gzip"].iter().any(|name| value.trim_ascii().eq_ignore_ascii_case(name)) =>
        {
            ContentCoding::Gzip
        }
        Some(_) => return Err(UnreadableContent::Coding),
    };
    if values.next().is_some() { Err(UnreadableContent::Coding) } else { Ok(coding) }
}

fn decode(coding: ContentCoding, body: &[u8], limit: u64) -> Result<Vec<u8>, UnreadableContent> {
    let mut text = Vec::new();
    let read = match coding {
        ContentCoding::Identity => body.take(limit.saturating_add(1)).read_to_end(&mut text),
        ContentCoding::Gzip => MultiGzDecoder::new(body).take(limit.saturating_add(1)).read_to_end(&mut text),
    };
    match read {
        Ok(length) if length as u64 > limit => Err(UnreadableContent::TooLarge),
        Ok(_) => Ok(text),
        Err(_) => Err(UnreadableContent::Malformed),
    }
}

/// The `Accept-Encoding` to send so that the response can be read and still suits the client; `None`: unchanged.
pub(crate) fn restrict_accept_encoding(accepted: &HeaderMap) -> Option<HeaderValue> {
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
