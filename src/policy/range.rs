//! RFC 9110 §14: ranges out of a whole stored response.
//!
//! Asked for a GET that a stored 200 answers, after its preconditions (§13.2.2); for no other.

use http::header::{DATE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use http::{HeaderMap, HeaderValue};

use super::entity_tag::EntityTag;
use super::http_date::{self, only_value};
use crate::clock::Timestamp;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selected {
    /// No `Range`, one that can't be read, or `If-Range` did not match: the whole.
    Whole,
    /// First and last byte, both included; in the order asked for, at least one.
    Parts(Vec<(u64, u64)>),
    /// 416.
    NotSatisfiable,
}

/// Who asks for more parts, or for parts that overlap, gets the whole (§14.2: such requests are a sign of an attack).
const MOST_PARTS: usize = 16;

/// `length` is that of the stored content.
pub fn select(request_headers: &HeaderMap, stored_headers: &HeaderMap, length: u64) -> Selected {
    if !request_headers.contains_key(RANGE) || !if_range_holds(request_headers, stored_headers) {
        return Selected::Whole;
    }
    let Some(ranges) = only_value(request_headers, &RANGE).and_then(read) else { return Selected::Whole };
    let parts: Vec<_> = ranges.iter().filter_map(|range| range.of(length)).collect();
    match parts.is_empty() {
        true if ranges.iter().any(|range| range.is_satisfiable(length)) => Selected::Whole,
        true => Selected::NotSatisfiable,
        false if overlap(&parts) => Selected::Whole,
        false => Selected::Parts(parts),
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

    fn of(self, length: u64) -> Option<(u64, u64)> {
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

/// §14.2: `bytes=` and a list; `None` for other units and for what can't be read.
fn read(value: &HeaderValue) -> Option<Vec<ByteRange>> {
    let (unit, list) = value.to_str().ok()?.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut ranges = Vec::new();
    for member in list.split(',').map(|member| member.trim_matches([' ', '\t'])) {
        if member.is_empty() {
            continue;
        }
        if ranges.len() == MOST_PARTS {
            return None;
        }
        ranges.push(read_one(member)?);
    }
    Some(ranges).filter(|ranges| !ranges.is_empty())
}

fn read_one(text: &str) -> Option<ByteRange> {
    match text.split_once('-')? {
        ("", count) => Some(ByteRange::Suffix(number(count)?)),
        (first, "") => Some(ByteRange::From { first: number(first)?, last: None }),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(ByteRange::From { first, last: Some(last) })
        }
    }
}

/// `1*DIGIT`, saturating: no content is that long.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

fn overlap(parts: &[(u64, u64)]) -> bool {
    let mut sorted = parts.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| pair[1].0 <= pair[0].1)
}

/// §13.1.5: holds if there is none, or if its validator is the stored one, strongly compared.
fn if_range_holds(request_headers: &HeaderMap, stored_headers: &HeaderMap) -> bool {
    if !request_headers.contains_key(IF_RANGE) {
        return true;
    }
    let Some(condition) = only_value(request_headers, &IF_RANGE) else { return false };
    if let Some(tag) = EntityTag::read(condition.as_bytes()) {
        return EntityTag::of(stored_headers, &ETAG).is_some_and(|stored| stored.matches_strongly(&tag));
    }
    only_value(stored_headers, &LAST_MODIFIED)
        .is_some_and(|stored| stored == condition && is_strong_date(stored_headers))
}

/// RFC 9110 §8.8.2.2: a date is a strong validator if the response was made at least a second after it.
fn is_strong_date(stored_headers: &HeaderMap) -> bool {
    /// 2026-01-01: from when two-digit years are seen. Both dates are of one response, so it need not be now.
    const ABOUT_NOW: Timestamp = Timestamp::from_secs(1_767_225_600);
    let date_of = |name| http_date::of_field(stored_headers, name, ABOUT_NOW);
    match (date_of(LAST_MODIFIED), date_of(DATE)) {
        (Some(modified), Some(date)) => date > modified,
        _ => false,
    }
}

#[cfg(test)]
#[path = "range_tests.rs"]
mod tests;
