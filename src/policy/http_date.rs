//! HTTP-dates (RFC 9110 §5.6.7): the three forms, to the letter, and nothing that merely looks like one.
//!
//! Never asks what time it is: a two-digit year needs `now`, and gets it as an argument.

mod rfc3339;

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

pub use rfc3339::parse as parse_rfc3339;

use crate::clock::Timestamp;

/// The date in a field that must occur once; `None` if it is absent, repeated, or not a date.
pub fn of_field(headers: &HeaderMap, name: HeaderName, now: Timestamp) -> Option<Timestamp> {
    parse(only_value(headers, &name)?.as_bytes(), now)
}

/// The value of a field that occurs exactly once.
pub(super) fn only_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Names are compared without case, as RFC 9111 §4.2 asks of caches. The day of the week is not checked against the
/// date. Dates before 1970 count as 1970: both are long ago.
pub fn parse(value: &[u8], now: Timestamp) -> Option<Timestamp> {
    let date = imf_fixdate(Reader(value))
        .or_else(|| rfc850(Reader(value), now))
        .or_else(|| asctime(Reader(value)))?;
    date.to_timestamp()
}

/// As IMF-fixdate, the only form that may be sent.
pub fn format(time: Timestamp) -> HeaderValue {
    /// 9999-12-31T23:59:59Z: a four-digit year can't say more.
    const LAST: u64 = 253_402_300_799;
    let seconds = Duration::from_secs(time.as_secs().min(LAST));
    let text = httpdate::fmt_http_date(std::time::UNIX_EPOCH + seconds);
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

const SHORT_DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const LONG_DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(mut text: Reader<'_>) -> Option<Date> {
    text.one_of(&SHORT_DAYS)?;
    text.literal(", ")?;
    let day = text.digits(2)?;
    text.literal(" ")?;
    let month = text.one_of(&MONTHS)?;
    text.literal(" ")?;
    let year = text.digits(4)?;
    text.literal(" ")?;
    let second = text.time_of_day()?;
    text.literal(" GMT")?;
    text.end(Date { year, month, day, second })
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(mut text: Reader<'_>, now: Timestamp) -> Option<Date> {
    text.one_of(&LONG_DAYS)?;
    text.literal(", ")?;
    let day = text.digits(2)?;
    text.literal("-")?;
    let month = text.one_of(&MONTHS)?;
    text.literal("-")?;
    let year = full_year(text.digits(2)?, now);
    text.literal(" ")?;
    let second = text.time_of_day()?;
    text.literal(" GMT")?;
    text.end(Date { year, month, day, second })
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(mut text: Reader<'_>) -> Option<Date> {
    text.one_of(&SHORT_DAYS)?;
    text.literal(" ")?;
    let month = text.one_of(&MONTHS)?;
    text.literal(" ")?;
    let day = if text.literal(" ").is_some() { text.digits(1)? } else { text.digits(2)? };
    text.literal(" ")?;
    let second = text.time_of_day()?;
    text.literal(" ")?;
    let year = text.digits(4)?;
    text.end(Date { year, month, day, second })
}

/// RFC 9110 §5.6.7: what appears to be more than 50 years in the future is in the past.
fn full_year(two_digits: u64, now: Timestamp) -> u64 {
    let this_year = year_of(now);
    let year = this_year - this_year % 100 + two_digits;
    if year > this_year + 50 { year.saturating_sub(100) } else { year }
}

fn year_of(now: Timestamp) -> u64 {
    let days = now.as_secs() / 86_400;
    // By the mean length of a year, which is never a whole year off; then down to the year that has begun.
    let mut year = 1971 + days * 400 / 146_097;
    while days_before_year(year) > days_before_year(1970) + days {
        year -= 1;
    }
    year
}

struct Date {
    year: u64,
    /// From 0.
    month: usize,
    /// From 1.
    day: u64,
    /// Of the day.
    second: u64,
}

impl Date {
    fn to_timestamp(&self) -> Option<Timestamp> {
        if self.day == 0 || self.day > days_in_month(self.year, self.month) || self.year == 0 {
            return None;
        }
        let in_year: u64 = (0..self.month).map(|month| days_in_month(self.year, month)).sum();
        let days = days_before_year(self.year) + in_year + self.day - 1;
        let seconds = (days * 86_400 + self.second).saturating_sub(days_before_year(1970) * 86_400);
        Some(Timestamp::from_secs(seconds))
    }
}

/// From the first day of the year 1 to the first of `year`, which is not 0.
fn days_before_year(year: u64) -> u64 {
    let years = year - 1;
    years * 365 + years / 4 - years / 100 + years / 400
}

fn days_in_month(year: u64, month: usize) -> u64 {
    const DAYS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    DAYS[month] + u64::from(month == 1 && is_leap)
}

/// What is left of the text.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn literal(&mut self, literal: &str) -> Option<()> {
        let (start, rest) = self.0.split_at_checked(literal.len())?;
        if !start.eq_ignore_ascii_case(literal.as_bytes()) {
            return None;
        }
        self.0 = rest;
        Some(())
    }

    fn one_of(&mut self, names: &[&str]) -> Option<usize> {
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
        // A leap second, which the grammar allows, counts as the second before it.
        (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second.min(59))
    }

    fn end(self, date: Date) -> Option<Date> {
        self.0.is_empty().then_some(date)
    }
}

#[cfg(test)]
#[path = "http_date_tests.rs"]
mod tests;
