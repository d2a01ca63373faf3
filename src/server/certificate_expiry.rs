//! Reads `notAfter` of a certificate (RFC 5280 §4.1.2.5) for operators. It validates nothing.

use crate::clock::Timestamp;

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Returns `notAfter` of a DER certificate in Unix seconds, or `None` if it can't be parsed.
pub(super) fn parse_not_after(certificate: &[u8]) -> Option<u64> {
    let (SEQUENCE, certificate, _) = read_element(certificate)? else { return None };
    let (SEQUENCE, mut rest, _) = read_element(certificate)? else { return None };
    if let (VERSION, _, after) = read_element(rest)? {
        rest = after;
    }
    // Skip the serial number, the algorithm and the issuer.
    for _ in 0..3 {
        rest = read_element(rest)?.2;
    }
    let (SEQUENCE, validity, _) = read_element(rest)? else { return None };
    let (_, _, after_its_beginning) = read_element(validity)?;
    let (kind, time, _) = read_element(after_its_beginning)?;
    parse_time(kind, std::str::from_utf8(time).ok()?)
}

/// Returns the tag and the content of the first element, and the bytes after it.
fn read_element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [tag, length, rest @ ..] = der else { return None };
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((*tag, content, after))
}

/// Parses UTCTime (`491231235959Z`) or GeneralizedTime (`20500101000000Z`) to Unix seconds; 0 for earlier times.
fn parse_time(kind: u8, time: &str) -> Option<u64> {
    let time = time.strip_suffix('Z')?;
    let (year, rest) = match kind {
        UTC_TIME => {
            let (year, rest) = time.split_at_checked(2)?;
            let year: u64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = time.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |at| rest.get(at..at + 2)?.parse::<u64>().ok();
    let (month, day, hour, minute, second) = (part(0)?, part(2)?, part(4)?, part(6)?, part(8)?);
    if rest.len() != 10 {
        return None;
    }
    let at = Timestamp::from_civil(year, month, day, hour * 3600 + minute * 60 + second)?;
    Some(at.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_in_both_forms() {
        for (kind, time, expected) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "000229000000Z", Some(951_782_400)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(0)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (GENERALIZED_TIME, "20240301000000Z", Some(1_709_251_200)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (UTC_TIME, "491231235959", None),
            (UTC_TIME, "4912312359Z", None),
            (UTC_TIME, "491331235959Z", None),
            (UTC_TIME, "4912é1235959Z", None),
            (GENERALIZED_TIME, "205001010000000Z", None),
            (2, "491231235959Z", None),
        ] {
            assert_eq!(parse_time(kind, time), expected, "{time}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let long = [&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff][..], &[0; 64]].concat();
        for der in [&b""[..], b"0", &[SEQUENCE, 0], &[SEQUENCE, 2, SEQUENCE, 0], &[SEQUENCE, 0x80, 0], &long]
        {
            assert_eq!(parse_not_after(der), None, "{der:?}");
        }
    }
}
