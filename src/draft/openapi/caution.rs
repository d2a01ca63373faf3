//! Guesses by names, where the document says nothing: a GET that acts, a POST that reads, a write of something that is
//! read under another spelling.

use super::operation::{PathItem, PathSegment, ReadOperation, WriteOperation};
use super::resource::without_format;
use crate::config::is_login_segment;

/// The first words of operations that do something.
const ACTIONS: [&str; 29] = [
    "accept",
    "activate",
    "approve",
    "authorize",
    "callback",
    "cancel",
    "confirm",
    "deactivate",
    "decline",
    "disable",
    "enable",
    "execute",
    "invoke",
    "logoff",
    "logout",
    "reject",
    "resend",
    "reset",
    "restart",
    "retry",
    "revoke",
    "run",
    "send",
    "signout",
    "start",
    "stop",
    "trigger",
    "unsubscribe",
    "verify",
];

/// Last segments of paths that answer for the moment of the request.
const MOMENTS: [&str; 20] = [
    "clock",
    "health",
    "healthcheck",
    "healthz",
    "heartbeat",
    "live",
    "liveness",
    "livez",
    "metrics",
    "nonce",
    "now",
    "ping",
    "random",
    "readiness",
    "ready",
    "readyz",
    "time",
    "uptime",
    "uuid",
    "whoami",
];

/// Words for POSTs that read.
const SEARCHES: [&str; 7] = ["filter", "find", "graphql", "lookup", "query", "search", "suggest"];

/// Words for writes to many items at once.
const BULKS: [&str; 6] = ["batch", "bulk", "import", "mass", "sync", "upload"];

/// Why a GET is no read that may be answered from a cache, as far as its names tell.
pub(super) fn find_action(item: &PathItem, read: &ReadOperation) -> Option<String> {
    let last = last_literal(item).unwrap_or_default();
    if is_login_segment(last) {
        return Some(format!(
            "`{last}` most likely answers for one caller, once. May its responses be kept?"
        ));
    }
    let is_action = |text: &&str| words(text).first().is_some_and(|word| ACTIONS.contains(&word.as_str()));
    if let Some(name) = [last, &read.name].into_iter().find(is_action) {
        return Some(format!("`{name}` sounds like an action, which a hit would not do. Does it only read?"));
    }
    let parameters = item.named_segments().iter().filter_map(parameter_name);
    let queried = read.query.iter().flat_map(|query| query.keys().map(String::as_str));
    if let Some(name) = parameters.chain(queried).find(|name| words(name).iter().any(|word| word == "token"))
    {
        return Some(format!("`{name}` sounds like a link that works once. Does it only read?"));
    }
    let is_moment = MOMENTS.contains(&last.to_ascii_lowercase().as_str())
        || words(last).first().is_some_and(|word| word == "random");
    is_moment.then(|| format!("`{last}` sounds like an answer for the moment of the request. May it be old?"))
}

/// Whether a POST most likely only reads.
pub(super) fn is_search(item: &PathItem, write: &WriteOperation) -> bool {
    let last = last_literal(item).unwrap_or_default();
    let mut words = words(last).into_iter().chain(words(&write.name).into_iter().take(1));
    write.method == "POST" && words.any(|word| SEARCHES.contains(&word.as_str()))
}

/// Whether a write most likely changes many items at once.
pub(super) fn is_bulk(item: &PathItem) -> bool {
    literals(item).flat_map(words).any(|word| BULKS.contains(&word.as_str()))
}

/// Whether a write to a login or the like, which changes nothing that is read.
pub(super) fn is_login(item: &PathItem) -> bool {
    last_literal(item).is_some_and(is_login_segment)
}

/// A literal of `write` that is another spelling of the last one of `read`: `category` and `categories`.
pub(super) fn find_other_spelling<'w>(read: &PathItem, write: &'w PathItem) -> Option<&'w str> {
    let last = last_literal(read)?;
    literals(write).find(|other| !other.eq_ignore_ascii_case(last) && stem(other) == stem(last))
}

fn stem(text: &str) -> String {
    let lower: String = text.to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
    match lower.strip_suffix("ies") {
        Some(start) if !start.is_empty() => format!("{start}y"),
        _ => {
            let without = lower.strip_suffix('s').unwrap_or(&lower);
            without.strip_suffix('e').unwrap_or(without).to_owned()
        }
    }
}

fn literals(item: &PathItem) -> impl Iterator<Item = &str> {
    item.named_segments().iter().filter_map(PathSegment::literal).map(without_format)
}

/// The last literal segment without its format, if at most one parameter follows it.
fn last_literal(item: &PathItem) -> Option<&str> {
    item.named_segments().iter().rev().take(2).find_map(PathSegment::literal).map(without_format)
}

fn parameter_name(segment: &PathSegment) -> Option<&str> {
    match segment {
        PathSegment::Parameter(name) => Some(name),
        PathSegment::Literal(_) | PathSegment::Affixed(_) => None,
    }
}

/// The words of a name in lower case: `verify-email`, `startJob`, `Start the job`.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in text.chars() {
        if !c.is_ascii_alphanumeric() || was_lower && c.is_ascii_uppercase() {
            words.push(String::new());
        }
        was_lower = c.is_ascii_lowercase();
        if let (true, Some(word)) = (c.is_ascii_alphanumeric(), words.last_mut()) {
            word.push(c.to_ascii_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
