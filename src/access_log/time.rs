//! Two ways to write a moment, made of the one that HTTP has.

use crate::clock::Timestamp;
use crate::policy::http_date;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `10/Oct/2000:13:55:36 +0000`
pub fn common(at: Timestamp) -> String {
    with_parts(at, |day, month, year, time| format!("{day}/{month}/{year}:{time} +0000"))
}

/// `2000-10-10T13:55:36.123456Z`
pub fn rfc3339(at: Timestamp) -> String {
    let micros = at.as_micros() % 1_000_000;
    with_parts(at, |day, month, year, time| {
        let month = MONTHS.iter().position(|name| *name == month).map_or(0, |at| at + 1);
        format!("{year}-{month:02}-{day}T{time}.{micros:06}Z")
    })
}

/// Of `Sun, 06 Nov 1994 08:49:37 GMT`.
fn with_parts(at: Timestamp, write: impl FnOnce(&str, &str, &str, &str) -> String) -> String {
    let date = http_date::format(at);
    let mut parts = date.to_str().unwrap_or_default().split(' ').skip(1);
    let mut next = || parts.next().unwrap_or_default();
    let (day, month, year, time) = (next(), next(), next(), next());
    write(day, month, year, time)
}
