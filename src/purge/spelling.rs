//! Spellings of numbers and UUIDs. An API finds one resource by each of them.

use std::borrow::Cow;

/// The zeros of the decimal digits beyond ASCII (general category Nd, Unicode 17); the other nine follow each.
const DECIMAL_ZEROS: [char; 75] = [
    '\u{660}',
    '\u{6f0}',
    '\u{7c0}',
    '\u{966}',
    '\u{9e6}',
    '\u{a66}',
    '\u{ae6}',
    '\u{b66}',
    '\u{be6}',
    '\u{c66}',
    '\u{ce6}',
    '\u{d66}',
    '\u{de6}',
    '\u{e50}',
    '\u{ed0}',
    '\u{f20}',
    '\u{1040}',
    '\u{1090}',
    '\u{17e0}',
    '\u{1810}',
    '\u{1946}',
    '\u{19d0}',
    '\u{1a80}',
    '\u{1a90}',
    '\u{1b50}',
    '\u{1bb0}',
    '\u{1c40}',
    '\u{1c50}',
    '\u{a620}',
    '\u{a8d0}',
    '\u{a900}',
    '\u{a9d0}',
    '\u{a9f0}',
    '\u{aa50}',
    '\u{abf0}',
    '\u{ff10}',
    '\u{104a0}',
    '\u{10d30}',
    '\u{10d40}',
    '\u{11066}',
    '\u{110f0}',
    '\u{11136}',
    '\u{111d0}',
    '\u{112f0}',
    '\u{11450}',
    '\u{114d0}',
    '\u{11650}',
    '\u{116c0}',
    '\u{116d0}',
    '\u{116da}',
    '\u{11730}',
    '\u{118e0}',
    '\u{11950}',
    '\u{11bf0}',
    '\u{11c50}',
    '\u{11d50}',
    '\u{11da0}',
    '\u{11de0}',
    '\u{11f50}',
    '\u{16a60}',
    '\u{16ac0}',
    '\u{16b50}',
    '\u{16d70}',
    '\u{1ccf0}',
    '\u{1d7ce}',
    '\u{1d7d8}',
    '\u{1d7e2}',
    '\u{1d7ec}',
    '\u{1d7f6}',
    '\u{1e140}',
    '\u{1e2f0}',
    '\u{1e4f0}',
    '\u{1e5f1}',
    '\u{1e950}',
    '\u{1fbf0}',
];

/// A UUID or a whole number at the start of `text`, in one spelling, and the text after it.
pub(super) fn split_value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let uuid = split_uuid(text).map(|(uuid, after)| (Cow::Owned(uuid), after));
    uuid.or_else(|| split_number(text))
}

/// A UUID at the start of `text`, as RFC 9562 §4 spells it, and the text after it. Parsers also take one without hyphens, in
/// braces, and after `urn:uuid:`. Its digits keep their case.
pub(super) fn split_uuid(text: &str) -> Option<(String, &str)> {
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    let text = text.strip_prefix("urn:uuid:").unwrap_or(text);
    let (is_braced, text) = text.strip_prefix('{').map_or((false, text), |inner| (true, inner));
    let is_hyphenated = text.as_bytes().get(8) == Some(&b'-');
    let (uuid, after) = text.split_at_checked(if is_hyphenated { 36 } else { 32 })?;
    let after = if is_braced { after.strip_prefix('}')? } else { after };
    let is_digit = |(at, byte): (usize, u8)| match is_hyphenated && HYPHENS.contains(&at) {
        true => byte == b'-',
        false => byte.is_ascii_hexdigit(),
    };
    if !is_end_of_word(after) || !uuid.bytes().enumerate().all(is_digit) {
        return None;
    }
    let digits = uuid.replace('-', "");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| digits.get(part).unwrap_or_default());
    Some((parts.join("-"), after))
}

/// A whole number at the start of `text`, without its sign, leading zeros and zeros behind a point, and the text after it.
fn split_number(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let (digits, after) = split_digits(text.strip_prefix('+').unwrap_or(text))?;
    if !is_end_of_word(after) {
        return None;
    }
    let fraction = after.strip_prefix('.').map(|fraction| fraction.trim_start_matches('0'));
    let fraction = fraction
        .filter(|rest| rest.len() + 1 < after.len() && is_end_of_word(rest) && !rest.starts_with('.'));
    Some((digits, fraction.unwrap_or(after)))
}

/// The digits at the start of `text`, as a decimal number in ASCII without leading zeros, and the text after them. Parsers
/// take the decimal digits of all scripts (Python, Java), and `0x7`, `0o7` and `0b111` (JavaScript).
pub(crate) fn split_digits(text: &str) -> Option<(Cow<'_, str>, &str)> {
    if let Some(split) = split_radix(text) {
        return Some(split);
    }
    let end = text.find(|c| decimal_digit(c).is_none()).unwrap_or(text.len());
    let (digits, after) = text.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())?;
    if digits.is_ascii() {
        return Some((Cow::Borrowed(without_leading_zeros(digits)), after));
    }
    let digits: String = digits.chars().filter_map(decimal_digit).collect();
    Some((Cow::Owned(without_leading_zeros(&digits).to_owned()), after))
}

/// `None`: it has no such prefix, or is larger than any id.
fn split_radix(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let (prefix, digits) = text.split_at_checked(2)?;
    let radix = match prefix {
        "0x" | "0X" => 16,
        "0o" | "0O" => 8,
        "0b" | "0B" => 2,
        _ => return None,
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let (digits, after) = digits.split_at(end);
    let number = u128::from_str_radix(digits, radix).ok()?;
    Some((Cow::Owned(number.to_string()), after))
}

/// The ASCII digit of the same value as a decimal digit of any script.
pub(crate) fn decimal_digit(c: char) -> Option<char> {
    if c.is_ascii() {
        return c.is_ascii_digit().then_some(c);
    }
    let zero = DECIMAL_ZEROS.partition_point(|zero| *zero <= c).checked_sub(1)?;
    char::from_digit(u32::from(c) - u32::from(DECIMAL_ZEROS[zero]), 10)
}

/// The text without case, in ASCII and beyond it (the simple mappings of Unicode). A sigma at the end of a word has no other
/// upper case.
pub(crate) fn fold_case(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let fold = |c: char| match c {
        'ς' => 'σ'.to_lowercase(),
        c => c.to_lowercase(),
    };
    text.chars().flat_map(fold).collect()
}

/// The digits of a number without the zeros before them.
pub(crate) fn without_leading_zeros(digits: &str) -> &str {
    match digits.trim_start_matches('0') {
        "" => "0",
        significant => significant,
    }
}

fn is_end_of_word(after: &str) -> bool {
    !after.starts_with(|next: char| next.is_alphanumeric())
}
