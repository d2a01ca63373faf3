//! `Cache-Status` (RFC 9211): what happened, told once and used everywhere.

use std::fmt::{self, Display, Formatter, Write};

use http::HeaderValue;

use super::classify::PassReason;
use super::reuse::NoReuse;
use super::storing::NotStored;

/// What was done with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered from the store, without going forward.
    Hit { ttl: i64, detail: Option<Detail> },
    /// Went to the upstream, or waited for a request that did.
    Forwarded {
        fwd: Fwd,
        /// The upstream's status, where it is not the one that the client sees.
        fwd_status: Option<u16>,
        stored: bool,
        collapsed: bool,
        ttl: Option<i64>,
        detail: Option<Detail>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fwd {
    Bypass,
    Method,
    UriMiss,
    VaryMiss,
    Miss,
    Request,
    Stale,
    Partial,
}

/// larder's own reason: the `detail` parameter, the metric's label and the log's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Detail {
    Pass(PassReason),
    NotStored(NotStored),
    NoReuse(NoReuse),
    /// Served stale while it is validated.
    StaleWhileRevalidate,
    /// Served stale since the request accepts that.
    StaleAsAsked,
    /// Served stale since the upstream failed.
    StaleIfError,
    /// `mode: observe`: this would have been a hit.
    WouldHit,
    /// `mode: observe`: this would have been fetched.
    WouldMiss,
    /// `mode: observe`: this would have been stored.
    WouldStore,
    StoreDown,
}

impl Outcome {
    pub fn pass(reason: PassReason) -> Self {
        let fwd = if reason == PassReason::Method { Fwd::Method } else { Fwd::Bypass };
        Outcome::forwarded(fwd, Some(Detail::Pass(reason)))
    }

    pub fn forwarded(fwd: Fwd, detail: Option<Detail>) -> Self {
        Outcome::Forwarded { fwd, fwd_status: None, stored: false, collapsed: false, ttl: None, detail }
    }

    /// It waited for another's request, and got a response with this much freshness left.
    pub fn collapsed(fwd: Fwd, ttl: i64) -> Self {
        Outcome::Forwarded {
            fwd,
            fwd_status: None,
            stored: false,
            collapsed: true,
            ttl: Some(ttl),
            detail: None,
        }
    }
}

impl Fwd {
    /// RFC 9211 §2.2.
    pub fn as_str(self) -> &'static str {
        match self {
            Fwd::Bypass => "bypass",
            Fwd::Method => "method",
            Fwd::UriMiss => "uri-miss",
            Fwd::VaryMiss => "vary-miss",
            Fwd::Miss => "miss",
            Fwd::Request => "request",
            Fwd::Stale => "stale",
            Fwd::Partial => "partial",
        }
    }
}

impl Detail {
    pub fn as_str(self) -> &'static str {
        match self {
            Detail::Pass(reason) => reason.as_str(),
            Detail::NotStored(reason) => reason.as_str(),
            Detail::NoReuse(reason) => reason.as_str(),
            Detail::StaleWhileRevalidate => "stale-while-revalidate",
            Detail::StaleAsAsked => "max-stale",
            Detail::StaleIfError => "stale-if-error",
            Detail::WouldHit => "would-hit",
            Detail::WouldMiss => "would-miss",
            Detail::WouldStore => "would-store",
            Detail::StoreDown => "store-down",
        }
    }
}

/// One member of `Cache-Status`: `larder; hit; ttl=23`.
impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

impl Outcome {
    /// As [`Display`], for the field; one allocation.
    pub fn to_header_value(&self) -> HeaderValue {
        let mut member = Member { bytes: [0; LONGEST_MEMBER], length: 0 };
        // Neither can fail: every member fits (a test writes the longest), and its bytes are visible ASCII.
        let written = self.write(&mut member).ok();
        written
            .and_then(|()| HeaderValue::from_bytes(&member.bytes[..member.length]).ok())
            .unwrap_or(HeaderValue::from_static("larder"))
    }

    /// Parameters in the order of RFC 9211 §2.
    fn write(&self, out: &mut impl Write) -> fmt::Result {
        out.write_str("larder")?;
        match *self {
            Outcome::Hit { ttl, detail } => {
                out.write_str("; hit")?;
                write_number(out, "; ttl=", ttl)?;
                write_detail(out, detail)
            }
            Outcome::Forwarded { fwd, fwd_status, stored, collapsed, ttl, detail } => {
                out.write_str("; fwd=")?;
                out.write_str(fwd.as_str())?;
                if let Some(status) = fwd_status {
                    write_number(out, "; fwd-status=", i64::from(status))?;
                }
                if let Some(ttl) = ttl {
                    write_number(out, "; ttl=", ttl)?;
                }
                out.write_str(if stored { "; stored" } else { "" })?;
                out.write_str(if collapsed { "; collapsed" } else { "" })?;
                write_detail(out, detail)
            }
        }
    }
}

fn write_number(out: &mut impl Write, parameter: &str, number: i64) -> fmt::Result {
    /// RFC 8941 §3.3.1: an integer has at most 15 digits.
    const MOST: i64 = 999_999_999_999_999;
    write!(out, "{parameter}{}", number.clamp(-MOST, MOST))
}

fn write_detail(out: &mut impl Write, detail: Option<Detail>) -> fmt::Result {
    let Some(detail) = detail else { return Ok(()) };
    out.write_str("; detail=")?;
    out.write_str(detail.as_str())
}

const LONGEST_MEMBER: usize = 160;

/// A member being written, on the stack.
struct Member {
    bytes: [u8; LONGEST_MEMBER],
    length: usize,
}

impl Write for Member {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
#[path = "cache_status_tests.rs"]
mod tests;
