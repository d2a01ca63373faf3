//! Parses durations (`250ms`, `30s`) and sizes (`64KiB`, `256MiB`).

use std::time::Duration;

/// Longer durations are most likely mistakes; the bound also keeps later arithmetic from overflowing.
const MAX_DURATION: Duration = Duration::from_secs(3650 * DAY);
const DAY: u64 = 24 * 3600;

/// Units with their milliseconds.
const DURATIONS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", DAY * 1000)];

const SIZES: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("", 1)];

/// The message of an error, and what to write instead.
pub(super) type FieldError = (String, String);

pub(crate) fn duration(text: &str) -> Result<Duration, FieldError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (digits, unit) = number_and_unit(text);
    let parsed = digits.parse::<u64>().ok();
    let Some((_, factor)) = DURATIONS.iter().find(|(name, _)| *name == unit) else {
        return Err((format!("`{text}` is not a duration"), duration_help(digits, unit)));
    };
    match parsed.and_then(|number| number.checked_mul(*factor)).map(Duration::from_millis) {
        Some(duration) if duration <= MAX_DURATION => Ok(duration),
        _ if digits.is_empty() => Err((format!("`{text}` is not a duration"), duration_help(digits, unit))),
        // The number may be too large to be counted.
        _ => Err((format!("`{text}` is longer than ten years"), "the longest is `3650d`".into())),
    }
}

pub(super) fn size(text: &str) -> Result<u64, FieldError> {
    let (digits, unit) = number_and_unit(text);
    let factor = SIZES.iter().find(|(name, _)| *name == unit).filter(|_| !digits.is_empty());
    let Some((_, factor)) = factor else {
        return Err((format!("`{text}` is not a size"), size_help(digits, unit)));
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
    // Keeps sums of sizes from overflowing.
    let bytes = bytes.filter(|bytes| *bytes <= i64::MAX as u64);
    bytes.ok_or_else(|| (format!("`{text}` is too large"), "the largest is `8589934591GiB`".into()))
}

/// The error of a text that is no number from 1 to `max`.
pub(super) fn wrong_count(text: &str, max: u64) -> FieldError {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let help =
        if is_number { format!("write a number between 1 and {max}") } else { "write digits only".into() };
    (format!("`{text}` is not a number from 1 to {max}"), help)
}

/// Formats a duration as it would be written in the file.
pub(crate) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (unit, factor) = DURATIONS
        .iter()
        .rev()
        .find(|(_, factor)| millis > 0 && millis.is_multiple_of(u128::from(*factor)))
        .unwrap_or(&("s", 1000));
    format!("{}{unit}", millis / u128::from(*factor))
}

fn number_and_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn duration_help(digits: &str, unit: &str) -> String {
    let known = "a number and one of ms, s, m, h, d: `250ms`, `30s`, `2m`, `1h`, `7d`";
    let word = unit.trim().to_ascii_lowercase();
    let meant = match word.as_str() {
        "" | "sec" | "secs" | "second" | "seconds" => "s",
        "msec" | "millis" | "milliseconds" => "ms",
        "min" | "mins" | "minute" | "minutes" => "m",
        "hr" | "hrs" | "hour" | "hours" => "h",
        "day" | "days" => "d",
        other => DURATIONS.iter().map(|(name, _)| *name).find(|name| *name == other).unwrap_or(""),
    };
    suggest(format!("{digits}{meant}"), known, |text| {
        !digits.is_empty() && !meant.is_empty() && duration(text).is_ok()
    })
}

/// Suggests what was meant, if it can be read.
fn suggest(meant: String, known: &str, is_valid: impl FnOnce(&str) -> bool) -> String {
    match is_valid(&meant) {
        true => format!("write `{meant}`: {known}"),
        false => format!("write {known}"),
    }
}

fn size_help(digits: &str, unit: &str) -> String {
    let known = "bytes, or a number and one of KiB, MiB, GiB: `64KiB`, `256MiB`";
    let meant = match unit.trim().to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        _ => "",
    };
    suggest(format!("{digits}{meant}"), known, |text| {
        !digits.is_empty() && !meant.is_empty() && size(text).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{duration, show_duration, size, wrong_count};

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, millis) in [
            ("250ms", Some(250)),
            ("30s", Some(30_000)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("7d", Some(604_800_000)),
            ("0s", Some(0)),
            ("0", Some(0)),
            ("3650d", Some(315_360_000_000)),
            ("3651d", None),
            ("30", None),
            ("1.5s", None),
            ("1h30m", None),
            ("-1s", None),
            ("s", None),
            ("", None),
            ("30 s", None),
            ("1_000s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
        ] {
            assert_eq!(duration(text).ok(), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn a_value_that_is_too_large_is_told_so_and_not_suggested() {
        for text in ["3651d", "99999999999999d", "18446744073709551616ms", "99999999999999999999s"] {
            let (message, help) = duration(text).expect_err(text);
            assert!(
                message.ends_with("longer than ten years") && help == "the longest is `3650d`",
                "{text}: {help}"
            );
        }
        for text in ["99999999999999 days", "5 weeks"] {
            assert!(duration(text).expect_err(text).1.starts_with("write a number"), "{text}");
        }
        for text in ["8589934592GiB", "18446744073709551616"] {
            let (message, help) = size(text).expect_err(text);
            assert!(message.ends_with("too large") && help.contains("`8589934591GiB`"), "{text}: {help}");
        }
        assert!(size("8589934591GiB").is_ok());
        assert!(size("8589934592GB").expect_err("too large").1.starts_with("write bytes"));
        assert_eq!(wrong_count("0", 9).1, "write a number between 1 and 9");
        assert_eq!(wrong_count("1_0", 9).1, "write digits only");
    }

    #[test]
    fn the_help_names_the_spelling_that_was_meant() {
        for (text, expected) in [("30", "`30s`"), ("5 min", "`5m`"), ("2H", "`2h`"), ("10 seconds", "`10s`")]
        {
            let help = duration(text).expect_err(text).1;
            assert!(help.contains(expected), "{text}: {help}");
        }
        for (text, expected) in [("256MB", "`256MiB`"), ("64k", "`64KiB`"), ("1 GB", "`1GiB`")] {
            let help = size(text).expect_err(text).1;
            assert!(help.contains(expected), "{text}: {help}");
        }
    }

    #[test]
    fn sizes_are_bytes_or_a_number_and_a_binary_unit() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("64KiB", Some(65_536)),
            ("256MiB", Some(268_435_456)),
            ("2GiB", Some(2 << 30)),
            ("256MB", None),
            ("8589934592GiB", None),
            ("-1", None),
            ("1.5MiB", None),
            ("", None),
        ] {
            assert_eq!(size(text).ok(), bytes, "{text}");
        }
    }

    #[test]
    fn a_duration_is_shown_as_it_would_be_written() {
        for text in ["250ms", "30s", "2m", "1h", "7d", "0s", "90s"] {
            assert_eq!(show_duration(duration(text).expect(text)), text);
        }
    }
}
