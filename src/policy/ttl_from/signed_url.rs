//! The time at which a signed URL stops working, read from its query and from tokens in its path.

use std::time::Duration;

use serde_json::Value;

use super::super::http_date::parse_rfc3339;
use super::super::jwt::{MAX_TOKEN_BYTES, decode_base64url, decode_claims, numeric_date};
use super::super::query::decoded_pairs;
use crate::clock::Timestamp;

/// The URL is signed, and its end can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnreadableEnd;

/// Names of parameters, in lower case, without which no known kind of URL is signed.
const SIGNATURE_NAMES: [&str; 19] = [
    "sig",
    "sign",
    "signed",
    "token",
    "__token__",
    "access_token",
    "jwt",
    "auth",
    "auth_key",
    "authorization",
    "policy",
    "verify",
    "md5",
    "hm",
    "hdnts",
    "hdnea",
    "hdntl",
    "oh",
    "ik-s",
];
/// Parts of such names: `X-Amz-Signature`, `Expires`, `q-signature`, `hmac`, `txSecret`.
const SIGNATURE_PARTS: [&str; 4] = ["signature", "expires", "hmac", "secret"];
/// Other names for the end of a URL that is signed. A value that is no time is ignored.
const END_NAMES: [&str; 7] = ["exp", "expire", "expiry", "expiration", "expires_at", "expires_on", "ik-t"];
/// Parameters with seconds in hexadecimal digits, each beside its signature: Discord, Facebook, Tencent's CDN.
const HEX_ENDS: [(&str, &str); 3] = [("hm", "ex"), ("oh", "oe"), ("txsecret", "txtime")];
/// Signatures with names that others use, too, each beside its end in `e`: LinkedIn, nginx. They count if `e` is a time.
const SHORT_SIGNATURE_NAMES: [&str; 2] = ["t", "st"];
/// Smaller numbers are more likely something else than the end of a URL: 2001.
const MIN_SHORT_END: u64 = 1_000_000_000;

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
    let (path, query) = split_url(url);
    let mut ends = vec![parse_path_end(path)?];
    let Some(query) = query else { return Ok(ends.remove(0)) };
    let pairs = decoded_pairs(query).map(|(name, value)| (name.to_ascii_lowercase(), value.into_owned()));
    let parameters = Parameters(pairs.collect());
    ends.push(parameters.time("expires", parse_seconds)?);
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
    for (signature, end) in HEX_ENDS {
        if parameters.value(signature)?.is_some() {
            ends.push(Some(parameters.time(end, parse_hex_seconds)?.ok_or(UnreadableEnd)?));
        }
    }
    ends.push(parameters.time("_upt", parse_upyun_time)?);
    if SHORT_SIGNATURE_NAMES.iter().any(|name| parameters.has(name)) {
        // Short names mean other things, too: what is no time does not make the end unreadable.
        let times = parameters.values("e").filter_map(parse_number).filter(|end| *end >= MIN_SHORT_END);
        ends.extend(times.map(|time| Some(super::time_from_number(time))));
    }
    for name in ["q-sign-time", "q-key-time"] {
        ends.push(parameters.time(name, parse_span_end)?);
    }
    if let Some(policy) = parameters.value("policy")? {
        ends.push(parse_policy_end(policy));
    }
    ends.extend(parameters.0.iter().map(|(_, value)| parse_token_end(value)));
    if parameters.is_signed() {
        for name in END_NAMES {
            ends.push(parameters.value(name)?.and_then(parse_seconds));
        }
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

/// The part before the query, and the query. Text with spaces is no URL, unless it begins like one.
fn split_url(text: &str) -> (&str, Option<&str>) {
    if text.contains(char::is_whitespace) && !begins_like_url(text) {
        return ("", None);
    }
    let (before_fragment, _) = text.split_once('#').unwrap_or((text, ""));
    before_fragment.split_once('?').map_or((before_fragment, None), |(path, query)| (path, Some(query)))
}

/// The end that a token in the path names: `/exp=1795952400~acl=/*~hmac=…/`, `/bcdn_token=…&expires=1795952400/`.
fn parse_path_end(path: &str) -> Result<Option<Timestamp>, UnreadableEnd> {
    let parts = || path.split(['/', '~', '&']);
    let is_signature = |part: &str| {
        part.split_once('=').is_some_and(|(name, _)| name.contains("hmac") || name.ends_with("_token"))
    };
    if !parts().any(is_signature) {
        return Ok(None);
    }
    let ends = parts().filter_map(|part| {
        let (_, text) = part.rsplit_once("exp=").or_else(|| part.split_once("expires="))?;
        Some(parse_seconds(text).ok_or(UnreadableEnd))
    });
    ends.collect::<Result<Vec<_>, _>>()?.into_iter().min().map(Some).ok_or(UnreadableEnd)
}

impl Parameters {
    /// A value that occurs once.
    fn value(&self, name: &str) -> Result<Option<&str>, UnreadableEnd> {
        let mut values = self.values(name);
        let value = values.next();
        if values.next().is_some() { Err(UnreadableEnd) } else { Ok(value) }
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| other == name)
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

/// A token with its own end: a JWT, or `exp=1795952400~acl=/*~hmac=…`.
fn parse_token_end(text: &str) -> Option<Timestamp> {
    if let Some(claims) = decode_claims(text.as_bytes()) {
        return numeric_date(claims.get("exp")?);
    }
    let is_token = text.contains('~');
    text.split('~').filter(|_| is_token).filter_map(|part| parse_seconds(part.strip_prefix("exp=")?)).min()
}

/// CloudFront's `Policy`: base64 with other signs, of JSON with the end.
fn parse_policy_end(text: &str) -> Option<Timestamp> {
    if text.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let json = decode_base64url(&text.trim_end_matches('_').replace('~', "_"))?;
    let policy: Value = serde_json::from_slice(&json).ok()?;
    let end = |statement: &Value| numeric_date(statement.pointer("/Condition/DateLessThan/AWS:EpochTime")?);
    policy.get("Statement")?.as_array()?.iter().map(end).collect::<Option<Vec<_>>>()?.into_iter().min()
}

/// `1795952400;1795953300`: a beginning and an end.
fn parse_span_end(text: &str) -> Option<Timestamp> {
    parse_seconds(text.split_once(';')?.1)
}

/// Upyun's `_upt`: eight digits of a signature before the end.
fn parse_upyun_time(text: &str) -> Option<Timestamp> {
    parse_seconds(text.get(8..).filter(|end| !end.is_empty())?)
}

fn parse_hex_seconds(text: &str) -> Option<Timestamp> {
    let is_hex = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u64::from_str_radix(text, 16).ok())?.map(Timestamp::from_secs)
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
