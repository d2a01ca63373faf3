//! HTTP-dates (RFC 9110 §5.6.7): the three forms, parsed strictly.
//!
//! Pure: two-digit years need `now`, which is an argument.

mod rfc3339;

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) use rfc3339::parse as parse_rfc3339;

use crate::clock::Timestamp;

/// Parses the date of a field that must occur once; `None` if it is absent, repeated or malformed.
pub fn parse_field(headers: &HeaderMap, name: HeaderName, now: Timestamp) -> Option<Timestamp> {
    parse(single_value(headers, &name)?.as_bytes(), now)
}

/// The value of a field that occurs exactly once.
pub(super) fn single_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Names are compared case-insensitively (RFC 9111 §4.2). The weekday is not checked. Dates before 1970 become
/// 1970.
pub fn parse(value: &[u8], now: Timestamp) -> Option<Timestamp> {
    let date = imf_fixdate(DateReader(value))
        .or_else(|| rfc850(DateReader(value), now))
        .or_else(|| asctime(DateReader(value)))?;
    date.to_timestamp()
}

/// Formats an IMF-fixdate, the only form that senders may generate.
pub fn format(time: Timestamp) -> HeaderValue {
    /// 9999-12-31T23:59:59Z, the last date with a four-digit year.
    const LAST: u64 = 253_402_300_799;
    let seconds = Duration::from_secs(time.as_secs().min(LAST));
    let text = httpdate::fmt_http_date(std::time::UNIX_EPOCH + seconds);
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

const SHORT_DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const LONG_DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
/// The months, also of access logs.
pub(crate) const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(mut text: DateReader<'_>) -> Option<CivilDate> {
    text.match_name(&SHORT_DAYS)?;
    text.literal(", ")?;
    let day = text.digits(2)?;
    text.literal(" ")?;
    let month = text.match_name(&MONTHS)?;
    text.literal(" ")?;
    let year = text.digits(4)?;
    text.literal(" ")?;
    let second = text.time_of_day()?;
    text.literal(" GMT")?;
    text.end(CivilDate { year, month, day, second })
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(mut text: DateReader<'_>, now: Timestamp) -> Option<CivilDate> {
    text.match_name(&LONG_DAYS)?;
    text.literal(", ")?;
    let day = text.digits(2)?;
    text.literal("-")?;
    let month = text.match_name(&MONTHS)?;
    text.literal("-")?;
    let year = full_year(text.digits(2)?, now);
    text.literal(" ")?;
    let second = text.time_of_day()?;
    text.literal(" GMT")?;
    text.end(CivilDate { year, month, day, second })
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(mut text: DateReader<'_>) -> Option<CivilDate> {
    text.match_name(&SHORT_DAYS)?;
    text.literal(" ")?;
    let month = text.match_name(&MONTHS)?;
    text.literal(" ")?;
    let day = if text.literal(" ").is_some() { text.digits(1)? } else { text.digits(2)? };
    text.literal(" ")?;
    let second = text.time_of_day()?;
    text.literal(" ")?;
    let year = text.digits(4)?;
    text.end(CivilDate { year, month, day, second })
}

/// RFC 9110 §5.6.7: a date that appears to be more than 50 years in the future is in the past.
fn full_year(two_digits: u64, now: Timestamp) -> u64 {
    let this_year = now.year();
    let year = this_year - this_year % 100 + two_digits;
    if year > this_year + 50 { year.saturating_sub(100) } else { year }
}

struct CivilDate {
    year: u64,
    /// Zero-based.
    month: usize,
    /// One-based.
    day: u64,
    /// Second of the day.
    second: u64,
}

impl CivilDate {
    fn to_timestamp(&self) -> Option<Timestamp> {
        let month = u64::try_from(self.month).ok()? + 1;
        Timestamp::from_civil(self.year, month, self.day, self.second).filter(|_| self.year != 0)
    }
}

/// The unparsed rest of the text.
#[derive(Clone, Copy)]
struct DateReader<'a>(&'a [u8]);

impl DateReader<'_> {
    fn literal(&mut self, literal: &str) -> Option<()> {
        let (start, rest) = self.0.split_at_checked(literal.len())?;
        if !start.eq_ignore_ascii_case(literal.as_bytes()) {
            return None;
        }
        self.0 = rest;
        Some(())
    }

    fn match_name(&mut self, names: &[&str]) -> Option<usize> {
        names.iter().position(|name| self.literal(name).is_some())
    }

    fn digits(&mut self, count: usize) -> Option<u64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.0 = rest;
        Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    }

    fn time_of_day(&mut self) -> Option<u64> {
        let hour = self.digits(2)?;
        self.literal(":")?;
        let minute = self.digits(2)?;
        self.literal(":")?;
        let second = self.digits(2)?;
        // A leap second counts as the second before it.
        (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second.min(59))
    }

    fn end(self, date: CivilDate) -> Option<CivilDate> {
        self.0.is_empty().then_some(date)
    }
}

#[cfg(test)]
#[path = "http_date_tests.rs"]
mod tests;
