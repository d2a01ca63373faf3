//! JSON lines. Times are in milliseconds.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;

use super::{AccessRecord, ClientText, time};
use crate::policy::cache_status::{CacheOutcome, Detail, Fwd};

/// The method, path and protocol of a request that could not be read.
const UNREAD: &str = "-";

/// Fields in reading order; unknown ones are omitted.
#[derive(Serialize)]
struct JsonEntry<'f> {
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<std::net::IpAddr>,
    method: Cow<'f, str>,
    path: Cow<'f, str>,
    protocol: String,
    status: u16,
    bytes: u64,
    /// The whole body was sent.
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
    /// The position of the purge that made it a miss.
    #[serde(skip_serializing_if = "Option::is_none")]
    purge_position: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stored: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    collapsed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<Cow<'f, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<Cow<'f, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<Cow<'f, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referer: Option<Cow<'f, str>>,
}

pub(super) fn write(facts: &AccessRecord, out: &mut Vec<u8>) {
    let (line, outcome) = (facts.line.as_ref(), facts.outcome());
    let (stored, collapsed) = match outcome {
        Some(CacheOutcome::Forwarded { stored, collapsed, .. }) => (stored, collapsed),
        _ => (false, false),
    };
    let entry = JsonEntry {
        time: time::format_rfc3339(facts.at),
        client: facts.client,
        method: line.map_or(UNREAD.into(), |line| text(&line.method)),
        path: line.map_or(UNREAD.into(), |line| text(&line.target)),
        protocol: line.map_or_else(|| UNREAD.to_owned(), |line| format!("{:?}", line.version)),
        status: facts.status(),
        bytes: facts.bytes,
        whole: facts.complete,
        duration_ms: millis(facts.duration),
        first_byte_ms: facts.first_byte.map(millis),
        upstream_ms: facts.upstream.get().map(millis),
        route: facts.route(),
        cache: outcome.map(cache_result),
        detail: outcome.and_then(outcome_detail).map(Detail::as_str),
        purge_position: outcome.and_then(outcome_detail).and_then(Detail::purge_position),
        stored,
        collapsed,
        request_id: facts.request_id.as_ref().map(text),
        trace_id: facts.trace_id.as_ref().map(text),
        user_agent: facts.user_agent.as_ref().map(text),
        referer: facts.referer.as_ref().map(text),
    };
    // Writing to memory cannot fail.
    let before = out.len();
    match serde_json::to_writer(&mut *out, &entry) {
        Ok(()) => out.push(b'\n'),
        Err(_) => out.truncate(before),
    }
}

/// Returns `hit`, or the `fwd` reason of RFC 9211.
fn cache_result(outcome: CacheOutcome) -> &'static str {
    match outcome {
        CacheOutcome::Hit { .. } => "hit",
        CacheOutcome::Forwarded { fwd, .. } => Fwd::as_str(fwd),
    }
}

fn outcome_detail(outcome: CacheOutcome) -> Option<Detail> {
    match outcome {
        CacheOutcome::Hit { detail, .. } | CacheOutcome::Forwarded { detail, .. } => detail,
    }
}

fn millis(duration: Duration) -> f64 {
    // Rounds to microseconds.
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn text(text: &ClientText) -> Cow<'_, str> {
    String::from_utf8_lossy(text.as_bytes())
}
