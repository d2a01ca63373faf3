//! RFC 3339 dates as APIs write them in JSON: `2026-11-21T03:00:00Z`, `2026-11-21t03:00:00.5+01:00`.

use std::time::Duration;

use super::{CivilDate, DateReader};
use crate::clock::Timestamp;

/// Fractions of a second are dropped, so the result is never late. A date without an offset is refused.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let mut reader = DateReader(text.as_bytes());
    let year = reader.digits(4)?;
    reader.literal("-")?;
    let month = usize::try_from(reader.digits(2)?).ok()?.checked_sub(1).filter(|month| *month < 12)?;
    reader.literal("-")?;
    let day = reader.digits(2)?;
    reader.literal("t").or_else(|| reader.literal(" "))?;
    let second = reader.time_of_day()?;
    if reader.literal(".").is_some() {
        reader.digits(1)?;
        while reader.digits(1).is_some() {}
    }
    let time = CivilDate { year, month, day, second }.to_timestamp()?;
    let offset = |reader: &mut DateReader<'_>| {
        let hours = reader.digits(2)?;
        reader.literal(":")?;
        let minutes = reader.digits(2)?;
        (hours < 24 && minutes < 60).then(|| Duration::from_secs(hours * 3600 + minutes * 60))
    };
    let time = if reader.literal("z").is_some() {
        time
    } else if reader.literal("+").is_some() {
        time.minus(offset(&mut reader)?)
    } else {
        reader.literal("-")?;
        time.plus(offset(&mut reader)?)
    };
    reader.0.is_empty().then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_with_an_offset_is_a_point_in_time() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1994-11-06T08:49:37Z", 784_111_777),
            ("1994-11-06t08:49:37.999z", 784_111_777),
            ("1994-11-06 09:49:37+01:00", 784_111_777),
            ("1994-11-06T03:19:37.5-05:30", 784_111_777),
            ("2024-02-29T00:00:00Z", 1_709_164_800),
        ] {
            assert_eq!(parse(text), Some(Timestamp::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_not_guessed() {
        for text in [
            "",
            "1994-11-06",
            "1994-11-06T08:49:37",
            "1994-13-06T08:49:37Z",
            "1994-00-06T08:49:37Z",
            "1994-02-30T08:49:37Z",
            "1994-11-06T24:00:00Z",
            "1994-11-06T08:49Z",
            "1994-11-06T08:49:37.Z",
            "1994-11-06T08:49:37+0100",
            "1994-11-06T08:49:37Zx",
            "94-11-06T08:49:37Z",
            "0000-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
