//! The time at which a signed URL stops working, read from its query.

use std::time::Duration;

use super::super::http_date::parse_rfc3339;
use super::super::query::decoded_pairs;
use crate::clock::Timestamp;

/// The URL is signed, and its end can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnreadableEnd;

/// Names of parameters, in lower case, without which no known kind of URL is signed.
const SIGNATURE_NAMES: [&str; 8] = ["sig", "sign", "token", "policy", "verify", "md5", "hdnts", "hdnea"];
/// Parts of such names: `X-Amz-Signature`, `Expires`, `q-signature`, `hmac`.
const SIGNATURE_PARTS: [&str; 3] = ["signature", "expires", "hmac"];

/// The decoded parameters of a URL, with names in lower case.
struct Parameters(Vec<(String, String)>);

/// URLs in parameters of URLs are followed as deep as this: `/_next/image?url=https%3A%2F%2F…`.
const MAX_NESTED: usize = 3;

/// The end of a signed URL, the earliest of several; `None`: the text has no URL, or none that is signed.
///
/// `named`: one more parameter that holds a time.
pub(super) fn parse_end(
    text: &str,
    named: Option<&str>,
    parse_time: impl Fn(&str) -> Option<Timestamp>,
) -> Result<Option<Timestamp>, UnreadableEnd> {
    if begins_like_url(text) || !text.contains(char::is_whitespace) && !text.contains("](") {
        return parse_url_end(text, named, &parse_time, MAX_NESTED);
    }
    // A text with URLs in it, such as Markdown.
    let is_end = |c: char| c.is_whitespace() || "()<>\"'".contains(c);
    let urls = text
        .split(is_end)
        .map(|word| word.trim_end_matches(['.', ',', ';']))
        .filter(|word| word.contains("://"));
    let ends: Result<Vec<_>, _> =
        urls.map(|url| parse_url_end(url, named, &parse_time, MAX_NESTED)).collect();
    Ok(ends?.into_iter().flatten().min())
}

fn parse_url_end(
    url: &str,
    named: Option<&str>,
    parse_time: &impl Fn(&str) -> Option<Timestamp>,
    depth: usize,
) -> Result<Option<Timestamp>, UnreadableEnd> {
    let Some(query) = find_query(url) else { return Ok(None) };
    let pairs = decoded_pairs(query).map(|(name, value)| (name.to_ascii_lowercase(), value.into_owned()));
    let parameters = Parameters(pairs.collect());
    let mut ends = vec![parameters.time("expires", parse_seconds)?];
    if parameters.value("sig")?.is_some() {
        // Azure: `se` is the end of a shared access signature, `ske` that of the key that signed it.
        ends.push(parameters.time("se", parse_azure_time)?);
        ends.push(parameters.time("ske", parse_azure_time)?);
    }
    for (_, nested) in parameters.0.iter().filter(|(_, value)| depth > 0 && begins_like_url(value)) {
        ends.push(parse_url_end(nested, named, parse_time, depth - 1)?);
    }
    for vendor in parameters.vendors() {
        ends.push(parameters.dated_end(vendor)?);
    }
    if let Some(name) = named {
        ends.push(parameters.time(&name.to_ascii_lowercase(), |text| parse_token_time(text, parse_time))?);
    }
    let end = ends.into_iter().flatten().min();
    if end.is_none() && parameters.is_signed() { Err(UnreadableEnd) } else { Ok(end) }
}

fn begins_like_url(text: &str) -> bool {
    ["http://", "https://", "/"].iter().any(|start| text.starts_with(start))
}

/// Text with spaces is no URL, unless it begins like one.
fn find_query(text: &str) -> Option<&str> {
    if text.contains(char::is_whitespace) && !begins_like_url(text) {
        return None;
    }
    let (before_fragment, _) = text.split_once('#').unwrap_or((text, ""));
    before_fragment.split_once('?').map(|(_, query)| query)
}

impl Parameters {
    /// A value that occurs once.
    fn value(&self, name: &str) -> Result<Option<&str>, UnreadableEnd> {
        let mut values = self.0.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str());
        let value = values.next();
        if values.next().is_some() { Err(UnreadableEnd) } else { Ok(value) }
    }

    fn time(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Option<Timestamp>,
    ) -> Result<Option<Timestamp>, UnreadableEnd> {
        self.value(name)?.map(|text| parse(text).ok_or(UnreadableEnd)).transpose()
    }

    /// The names between `x-` and `-expires`: `amz`, `goog`, `oss`.
    fn vendors(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|(name, _)| name.strip_prefix("x-")?.strip_suffix("-expires"))
    }

    /// `X-Amz-Date=20261129T114000Z&X-Amz-Expires=900`: a beginning and a number of seconds.
    fn dated_end(&self, vendor: &str) -> Result<Option<Timestamp>, UnreadableEnd> {
        let begin = self.time(&format!("x-{vendor}-date"), parse_basic_time)?.ok_or(UnreadableEnd)?;
        let seconds = self.value(&format!("x-{vendor}-expires"))?.and_then(parse_number);
        Ok(Some(begin.plus(Duration::from_secs(seconds.ok_or(UnreadableEnd)?))))
    }

    fn is_signed(&self) -> bool {
        let is_part = |name: &str| SIGNATURE_PARTS.iter().any(|part| name.contains(part));
        self.0.iter().any(|(name, _)| SIGNATURE_NAMES.contains(&name.as_str()) || is_part(name))
    }
}

fn parse_number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn parse_seconds(text: &str) -> Option<Timestamp> {
    parse_number(text).map(super::time_from_number)
}

/// `20261129T114000Z`
fn parse_basic_time(text: &str) -> Option<Timestamp> {
    let digits = |from: usize, to: usize| text.get(from..to);
    let (date, time) = (digits(0, 8)?, text.strip_suffix('Z')?.get(8..)?.strip_prefix('T')?);
    if time.len() != 6 {
        return None;
    }
    let (year, month, day) = (date.get(..4)?, date.get(4..6)?, date.get(6..)?);
    let (hour, minute, second) = (time.get(..2)?, time.get(2..4)?, time.get(4..)?);
    parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z"))
}

/// `2026-11-29`, `2026-11-29T11:40Z`, `2026-11-29T11:40:00Z`.
fn parse_azure_time(text: &str) -> Option<Timestamp> {
    match text.len() {
        10 => parse_rfc3339(&format!("{text}T00:00:00Z")),
        17 => parse_rfc3339(&format!("{}:00Z", text.strip_suffix('Z')?)),
        _ => parse_rfc3339(text),
    }
}

/// A time, or a token with one: `exp=1795952400~acl=/*~hmac=…`.
fn parse_token_time(text: &str, parse_time: impl Fn(&str) -> Option<Timestamp>) -> Option<Timestamp> {
    let mut parts = text.split('~').filter_map(|part| part.strip_prefix("exp="));
    parse_time(parts.next().unwrap_or(text))
}

#[cfg(test)]
#[path = "signed_url_tests.rs"]
mod tests;
