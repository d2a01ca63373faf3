//! One JSON object a line. Times are in milliseconds.

use std::time::Duration;

use http::HeaderValue;
use serde::Serialize;

use super::{Facts, time};
use crate::policy::cache_status::{Detail, Fwd, Outcome};

/// In the order in which a person reads it. What is not known is left out.
#[derive(Serialize)]
struct Line<'f> {
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<std::net::IpAddr>,
    method: &'f str,
    path: String,
    protocol: String,
    status: u16,
    bytes: u64,
    /// All of it went out.
    whole: bool,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'f str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stored: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    collapsed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referer: Option<String>,
}

pub fn write(facts: &Facts, out: &mut Vec<u8>) {
    let outcome = facts.outcome();
    let (stored, collapsed) = match outcome {
        Some(Outcome::Forwarded { stored, collapsed, .. }) => (stored, collapsed),
        _ => (false, false),
    };
    let line = Line {
        time: time::rfc3339(facts.at),
        client: facts.client,
        method: facts.method.as_str(),
        path: facts.target(),
        protocol: format!("{:?}", facts.version),
        status: facts.status(),
        bytes: facts.bytes,
        whole: facts.whole,
        duration_ms: millis(facts.took),
        first_byte_ms: facts.first_byte.map(millis),
        upstream_ms: facts.upstream.get().map(millis),
        route: facts.answered.as_ref().and_then(|answered| answered.route.as_deref()),
        cache: outcome.map(word),
        detail: outcome.and_then(detail).map(Detail::as_str),
        stored,
        collapsed,
        request_id: facts.request_id.as_ref().map(text),
        trace_id: facts.trace_id.as_ref().map(text),
        user_agent: facts.user_agent.as_ref().map(text),
        referer: facts.referer.as_ref().map(text),
    };
    // Writing to memory does not fail, and there is nothing in it that JSON can't say.
    let before = out.len();
    match serde_json::to_writer(&mut *out, &line) {
        Ok(()) => out.push(b'\n'),
        Err(_) => out.truncate(before),
    }
}

/// `hit`, or why it went forward (RFC 9211).
fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Hit { .. } => "hit",
        Outcome::Forwarded { fwd, .. } => Fwd::as_str(fwd),
    }
}

fn detail(outcome: Outcome) -> Option<Detail> {
    match outcome {
        Outcome::Hit { detail, .. } | Outcome::Forwarded { detail, .. } => detail,
    }
}

fn millis(duration: Duration) -> f64 {
    // To the microsecond.
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
