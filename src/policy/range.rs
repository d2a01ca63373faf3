//! Byte ranges of a stored response (RFC 9110 §14).
//!
//! Applies to a GET that a stored 200 answers, after its preconditions (§13.2.2).

use http::header::{DATE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use http::{HeaderMap, HeaderValue};

use super::compression::has_varying_bytes;
use super::entity_tag::EntityTag;
use super::http_date::{self, single_value};
use crate::clock::Timestamp;

/// The part of a content that a `Range` field selects (RFC 9110 §14.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SelectedRange {
    /// The whole: no `Range`, a malformed one, `If-Range` did not match, or the stored response has no ranges.
    Whole,
    /// Inclusive first and last bytes, in request order; at least one range.
    Parts(Vec<(u64, u64)>),
    /// 416 (Range Not Satisfiable).
    NotSatisfiable,
}

/// Requests for more ranges, or for overlapping ones, get the whole (§14.2: a sign of an attack).
const MAX_RANGES: usize = 16;

/// `length` is the length of the stored content.
pub fn select_range(request_headers: &HeaderMap, stored_headers: &HeaderMap, length: u64) -> SelectedRange {
    if !request_headers.contains_key(RANGE)
        || has_varying_bytes(stored_headers)
        || !if_range_holds(request_headers, stored_headers)
    {
        return SelectedRange::Whole;
    }
    let Some(ranges) = single_value(request_headers, &RANGE).and_then(parse_ranges) else {
        return SelectedRange::Whole;
    };
    let parts: Vec<_> = ranges.iter().filter_map(|range| range.resolve(length)).collect();
    match parts.is_empty() {
        true if ranges.iter().any(|range| range.is_satisfiable(length)) => SelectedRange::Whole,
        true => SelectedRange::NotSatisfiable,
        false if are_overlapping(&parts) => SelectedRange::Whole,
        false => SelectedRange::Parts(parts),
    }
}

/// §14.1.1, §14.1.2.
#[derive(Clone, Copy)]
enum ByteRange {
    From { first: u64, last: Option<u64> },
    Suffix(u64),
}

impl ByteRange {
    fn is_satisfiable(self, length: u64) -> bool {
        match self {
            ByteRange::From { first, .. } => first < length,
            ByteRange::Suffix(count) => count > 0,
        }
    }

    fn resolve(self, length: u64) -> Option<(u64, u64)> {
        if !self.is_satisfiable(length) {
            return None;
        }
        let end = length.checked_sub(1)?;
        Some(match self {
            ByteRange::From { first, last } => (first, last.unwrap_or(end).min(end)),
            ByteRange::Suffix(count) => (length.saturating_sub(count), end),
        })
    }
}

/// Parses `bytes=` and a list (§14.2); `None` for other units and malformed lists.
fn parse_ranges(value: &HeaderValue) -> Option<Vec<ByteRange>> {
    let (unit, list) = value.to_str().ok()?.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut ranges = Vec::new();
    for member in list.split(',').map(|member| member.trim_matches([' ', '\t'])) {
        if member.is_empty() {
            continue;
        }
        if ranges.len() == MAX_RANGES {
            return None;
        }
        ranges.push(parse_range(member)?);
    }
    Some(ranges).filter(|ranges| !ranges.is_empty())
}

fn parse_range(text: &str) -> Option<ByteRange> {
    match text.split_once('-')? {
        ("", count) => Some(ByteRange::Suffix(parse_position(count)?)),
        (first, "") => Some(ByteRange::From { first: parse_position(first)?, last: None }),
        (first, last) => {
            let (first, last) = (parse_position(first)?, parse_position(last)?);
            (first <= last).then_some(ByteRange::From { first, last: Some(last) })
        }
    }
}

/// `1*DIGIT`, saturating.
fn parse_position(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

fn are_overlapping(parts: &[(u64, u64)]) -> bool {
    let mut sorted = parts.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| pair[1].0 <= pair[0].1)
}

/// §13.1.5: true without `If-Range`, or if its validator strongly matches the stored one.
fn if_range_holds(request_headers: &HeaderMap, stored_headers: &HeaderMap) -> bool {
    if !request_headers.contains_key(IF_RANGE) {
        return true;
    }
    let Some(condition) = single_value(request_headers, &IF_RANGE) else { return false };
    if let Some(tag) = EntityTag::parse(condition.as_bytes()) {
        return EntityTag::from_field(stored_headers, &ETAG)
            .is_some_and(|stored| stored.matches_strongly(&tag));
    }
    single_value(stored_headers, &LAST_MODIFIED)
        .is_some_and(|stored| stored == condition && is_strong_date(stored_headers))
}

/// RFC 9110 §8.8.2.2: a date is a strong validator if the response was generated at least a second after it.
fn is_strong_date(stored_headers: &HeaderMap) -> bool {
    /// 2026-01-01, to resolve two-digit years. Both dates are from one response, so the exact time is irrelevant.
    const ABOUT_NOW: Timestamp = Timestamp::from_secs(1_767_225_600);
    let date_of = |name| http_date::parse_field(stored_headers, name, ABOUT_NOW);
    match (date_of(LAST_MODIFIED), date_of(DATE)) {
        (Some(modified), Some(date)) => date > modified,
        _ => false,
    }
}

#[cfg(test)]
#[path = "range_tests.rs"]
mod tests;
