//! One line of an access log: Apache's and nginx's combined format, or a JSON object, as Caddy and Traefik write it, too.

use serde_json::Value;

use crate::clock::Timestamp;
use crate::policy::http_date::{MONTHS, parse_rfc3339};

/// Longest line that is read, in bytes.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// A request in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LoggedRequest {
    pub at: Option<Timestamp>,
    pub method: String,
    pub path: String,
    pub query: Option<String>,
    pub status: u16,
}

impl LoggedRequest {
    /// A read that a cache can answer.
    pub(super) fn is_read(&self) -> bool {
        self.method == "GET" && matches!(self.status, 200 | 304)
    }

    /// A write that can have changed something.
    pub(super) fn is_write(&self) -> bool {
        matches!(self.method.as_str(), "POST" | "PUT" | "PATCH" | "DELETE") && self.status < 400
    }

    /// `None` if the line is no request.
    pub(super) fn parse(line: &str) -> Option<Self> {
        match line.len() {
            ..=MAX_LINE_BYTES if line.starts_with('{') => Self::parse_json(line),
            ..=MAX_LINE_BYTES => Self::parse_combined(line),
            _ => None,
        }
    }

    /// `127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.1" 200 2326 …`
    fn parse_combined(line: &str) -> Option<Self> {
        let (before, rest) = line.split_once('"')?;
        let (request, after) = rest.split_once('"')?;
        let date = before.split_once('[').and_then(|(_, date)| date.split_once(']')).map(|(date, _)| date);
        let status = after.split_whitespace().next()?.parse().ok()?;
        Self::new(request, date.and_then(parse_date), status)
    }

    fn parse_json(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        // Caddy has the request as an object of its own.
        let parts = [Some(&value), value.get("request")];
        let text = |names: &[&str]| {
            let mut members = parts.iter().flatten().flat_map(|part| names.iter().map(|name| part.get(name)));
            members.find_map(|member| member?.as_str())
        };
        let status = ["status", "status_code", "DownstreamStatus"].iter().find_map(|name| {
            let status = value.get(name)?;
            status.as_u64().or_else(|| status.as_str()?.parse().ok())
        });
        let at = text(&["StartUTC", "time", "timestamp", "@timestamp", "ts"]).and_then(parse_rfc3339);
        let at = at.or_else(|| value.get("ts")?.as_f64().filter(|at| *at >= 0.0).map(from_unix_seconds));
        let status = u16::try_from(status?).ok()?;
        let method = text(&["method", "request_method", "RequestMethod"]);
        match (method, text(&["path", "uri", "request_uri", "url", "RequestPath"])) {
            (Some(method), Some(target)) => Self::new(&format!("{method} {target}"), at, status),
            _ => Self::new(text(&["request"])?, at, status),
        }
    }

    fn new(request: &str, at: Option<Timestamp>, status: u16) -> Option<Self> {
        let mut words = request.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let is_method =
            !method.is_empty() && method.len() <= 16 && method.bytes().all(|byte| byte.is_ascii_uppercase());
        let origin_form = match target.split_once("://") {
            Some((_, rest)) => &rest[rest.find('/')?..],
            None => target,
        };
        let (path, query) = match origin_form.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (origin_form, None),
        };
        (is_method && path.starts_with('/')).then(|| Self {
            at,
            method: method.to_owned(),
            path: path.to_owned(),
            query,
            status,
        })
    }
}

/// Whole seconds are enough for what is counted.
fn from_unix_seconds(seconds: f64) -> Timestamp {
    Timestamp::from_secs(seconds as u64)
}

/// `10/Oct/2000:13:55:36 -0700`.
fn parse_date(text: &str) -> Option<Timestamp> {
    let (day, rest) = text.split_once('/')?;
    let (month, rest) = rest.split_once('/')?;
    let (date, zone) = rest.split_once(' ')?;
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let (year, time) = date.split_once(':')?;
    let (sign, offset) = zone.split_at_checked(1)?;
    let (hours, minutes) = offset.split_at_checked(2)?;
    let sign = if sign == "-" { '-' } else { '+' };
    parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}{sign}{hours}:{minutes}"))
}
