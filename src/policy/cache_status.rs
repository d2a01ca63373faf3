//! `Cache-Status` (RFC 9211): the outcome of a request, shared by the field, the metrics and the log.

use std::fmt::{self, Display, Formatter, Write};

use http::{HeaderValue, StatusCode};

use super::classify::PassReason;
use super::decimal::Decimal;
use super::miss_reason::MissReason;
use super::not_stored::NotStored;

/// The outcome of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheOutcome {
    /// Answered from the store.
    Hit {
        /// Remaining freshness in seconds, negative if stale.
        ttl: i64,
        /// The reason, if it was served stale.
        detail: Option<Detail>,
    },
    /// Forwarded to the upstream, or joined to a request that was.
    Forwarded {
        /// Why it was forwarded.
        fwd: Fwd,
        /// The upstream's status, if the client sees another one.
        fwd_status: Option<u16>,
        /// The response was stored.
        stored: bool,
        /// It joined a request in flight.
        collapsed: bool,
        /// The response's freshness in seconds.
        ttl: Option<i64>,
        /// larder's reason.
        detail: Option<Detail>,
    },
}

/// The `fwd` parameter (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fwd {
    /// The configuration or the request keeps it from the cache.
    Bypass,
    /// The method is forwarded.
    Method,
    /// Nothing is stored for the URI.
    UriMiss,
    /// No stored variant matches.
    VaryMiss,
    /// Something is stored that the request may not have.
    Miss,
    /// The request asks for validation.
    Request,
    /// The stored response is stale.
    Stale,
}

/// larder's own reason: the `detail` parameter, the metric's label and the log's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Detail {
    /// Why it was passed.
    Pass(PassReason),
    /// Why the response was not stored.
    NotStored(NotStored),
    /// Why a stored response was not used.
    Miss(MissReason),
    /// Served stale while it is revalidated.
    StaleWhileRevalidate,
    /// Served stale because the request accepts it.
    StaleOnRequest,
    /// Served stale because the upstream failed.
    StaleIfError,
    /// Merged with what concerns the caller (`overlay`).
    Overlay,
    /// Merged for a caller who is nobody: no item is selected.
    OverlayAnonymous,
    /// A part of the caller failed, so that it selects no item.
    OverlayFailed,
    /// `mode: observe`: it would have been a hit.
    WouldHit,
    /// `mode: observe`: it would have been fetched.
    WouldMiss,
    /// `mode: observe`: it would have been stored.
    WouldStore,
}

impl MissReason {
    /// The parameter of RFC 9211 §2.2 for a response that was found and may not be used: it is no `uri-miss`, and
    /// `request` if it suits other requests. Likewise where it is not known whether there is one.
    pub(crate) fn fwd_of_found(self) -> Fwd {
        match self {
            MissReason::OtherCaller | MissReason::ExpiredCaller => Fwd::Request,
            _ => Fwd::Miss,
        }
    }
}

impl CacheOutcome {
    pub(crate) fn pass(reason: PassReason) -> Self {
        let fwd = if reason == PassReason::Method { Fwd::Method } else { Fwd::Bypass };
        CacheOutcome::forwarded(fwd, Some(Detail::Pass(reason)))
    }

    /// The upstream's response, which is not stored.
    pub(crate) fn forwarded(fwd: Fwd, detail: Option<Detail>) -> Self {
        CacheOutcome::Forwarded { fwd, fwd_status: None, stored: false, collapsed: false, ttl: None, detail }
    }

    /// The response of another request's fetch, with this much freshness left.
    pub(crate) fn collapsed(fwd: Fwd, ttl: i64) -> Self {
        let (fwd_status, detail) = (None, None);
        CacheOutcome::Forwarded { fwd, fwd_status, stored: false, collapsed: true, ttl: Some(ttl), detail }
    }

    /// The upstream's response, which is stored with this much freshness left; `None` if its content is to say how much.
    pub(crate) fn stored(fwd: Fwd, ttl: Option<i64>) -> Self {
        CacheOutcome::Forwarded { fwd, fwd_status: None, stored: true, collapsed: false, ttl, detail: None }
    }

    /// The stored response, which the upstream confirmed by a 304.
    pub(crate) fn freshened(fwd: Fwd, ttl: i64) -> Self {
        let (fwd_status, ttl) = (Some(StatusCode::NOT_MODIFIED.as_u16()), Some(ttl));
        CacheOutcome::Forwarded { fwd, fwd_status, stored: true, collapsed: false, ttl, detail: None }
    }

    /// The same, for a request that is a miss for this reason. A reason for not storing stays.
    #[must_use]
    pub(crate) fn because(mut self, reason: Option<MissReason>) -> Self {
        if let CacheOutcome::Forwarded { detail: detail @ None, .. } = &mut self {
            *detail = reason.map(Detail::Miss);
        }
        self
    }

    /// The upstream's response to a HEAD. `stored`: it freshened the stored response.
    pub(crate) fn head(fwd: Fwd, stored: bool) -> Self {
        CacheOutcome::Forwarded { fwd, fwd_status: None, stored, collapsed: false, ttl: None, detail: None }
    }

    /// The stale response, since the upstream failed; with this status, if it answered.
    pub fn stale_if_error(status: Option<StatusCode>, ttl: i64) -> Self {
        CacheOutcome::Forwarded {
            fwd: Fwd::Stale,
            fwd_status: status.map(|status| status.as_u16()),
            stored: false,
            collapsed: false,
            ttl: Some(ttl),
            detail: Some(Detail::StaleIfError),
        }
    }
}

impl CacheOutcome {
    /// The outcome of a response that is merged of parts: a hit if all are, with the least lifetime.
    #[must_use]
    pub(crate) fn merged_with(self, part: CacheOutcome) -> Self {
        let least = match (self.ttl(), part.ttl()) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let mut merged = if matches!(self, CacheOutcome::Hit { .. }) { part } else { self };
        match &mut merged {
            CacheOutcome::Hit { ttl, .. } => *ttl = least.unwrap_or(*ttl),
            CacheOutcome::Forwarded { ttl, .. } => *ttl = least,
        }
        merged
    }

    /// The same with this detail.
    #[must_use]
    pub(crate) fn detailed(mut self, with: Detail) -> Self {
        match &mut self {
            CacheOutcome::Hit { detail, .. } | CacheOutcome::Forwarded { detail, .. } => *detail = Some(with),
        }
        self
    }

    fn ttl(self) -> Option<i64> {
        match self {
            CacheOutcome::Hit { ttl, .. } => Some(ttl),
            CacheOutcome::Forwarded { ttl, .. } => ttl,
        }
    }

    /// The member of a part, under a name of its own, with the part's URL as `key` (RFC 9211 §2.8).
    pub(crate) fn to_part_value(self, name: &str, key: Option<&str>) -> Option<HeaderValue> {
        let member = self.to_string();
        let parameters = member.strip_prefix("larder")?;
        let key = key.map(|key| format!("; key=\"{key}\"")).unwrap_or_default();
        HeaderValue::from_str(&format!("{name}{parameters}{key}")).ok()
    }
}

impl Fwd {
    /// The parameter's value (RFC 9211 §2.2).
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Fwd::Bypass => "bypass",
            Fwd::Method => "method",
            Fwd::UriMiss => "uri-miss",
            Fwd::VaryMiss => "vary-miss",
            Fwd::Miss => "miss",
            Fwd::Request => "request",
            Fwd::Stale => "stale",
        }
    }
}

impl Detail {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Detail::Pass(reason) => reason.as_str(),
            Detail::NotStored(reason) => reason.as_str(),
            Detail::Miss(reason) => reason.as_str(),
            Detail::StaleWhileRevalidate => "stale-while-revalidate",
            Detail::StaleOnRequest => "max-stale",
            Detail::StaleIfError => "stale-if-error",
            Detail::Overlay => "overlay",
            Detail::OverlayAnonymous => "overlay-anonymous",
            Detail::OverlayFailed => "overlay-failed",
            Detail::WouldHit => "would-hit",
            Detail::WouldMiss => "would-miss",
            Detail::WouldStore => "would-store",
        }
    }
}

impl Detail {
    /// The position of the purge that made the request a miss.
    pub(crate) fn purge_position(self) -> Option<u64> {
        match self {
            Detail::Miss(reason) => reason.position(),
            _ => None,
        }
    }
}

/// Writes one member of `Cache-Status`: `larder; hit; ttl=23`.
impl Display for CacheOutcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

impl CacheOutcome {
    /// Formats the field's value with one allocation.
    pub fn to_header_value(&self) -> HeaderValue {
        let mut member = MemberBuffer { bytes: [0; MAX_MEMBER_BYTES], length: 0 };
        // Neither step fails: the buffer fits the longest member (tested), and the bytes are visible ASCII.
        let written = self.write(&mut member).ok();
        written
            .and_then(|()| HeaderValue::from_bytes(&member.bytes[..member.length]).ok())
            .unwrap_or(HeaderValue::from_static("larder"))
    }

    /// Writes the parameters in the order of RFC 9211 §2.
    fn write(&self, out: &mut impl Write) -> fmt::Result {
        out.write_str("larder")?;
        match *self {
            CacheOutcome::Hit { ttl, detail } => {
                out.write_str("; hit")?;
                write_number(out, "; ttl=", ttl)?;
                write_detail(out, detail)
            }
            CacheOutcome::Forwarded { fwd, fwd_status, stored, collapsed, ttl, detail } => {
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
    const MAX_SF_INTEGER: i64 = 999_999_999_999_999;
    out.write_str(parameter)?;
    out.write_str(if number < 0 { "-" } else { "" })?;
    out.write_str(Decimal::new(number.clamp(-MAX_SF_INTEGER, MAX_SF_INTEGER).unsigned_abs()).as_str())
}

fn write_detail(out: &mut impl Write, detail: Option<Detail>) -> fmt::Result {
    let Some(detail) = detail else { return Ok(()) };
    out.write_str("; detail=")?;
    out.write_str(detail.as_str())?;
    detail.purge_position().map_or(Ok(()), |position| write!(out, ":{position}"))
}

const MAX_MEMBER_BYTES: usize = 160;

/// A stack buffer for one member.
struct MemberBuffer {
    bytes: [u8; MAX_MEMBER_BYTES],
    length: usize,
}

impl Write for MemberBuffer {
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
