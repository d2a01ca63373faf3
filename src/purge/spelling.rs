//! Spellings of numbers and UUIDs. An API finds one resource by each of them.

use std::borrow::Cow;

/// A UUID or a whole number at the start of `text`, in one spelling, and the text after it.
pub(super) fn split_value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let uuid = split_uuid(text).map(|(uuid, after)| (Cow::Owned(uuid), after));
    uuid.or_else(|| split_number(text).map(|(digits, after)| (Cow::Borrowed(digits), after)))
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
fn split_number(text: &str) -> Option<(&str, &str)> {
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let (digits, after) = unsigned.split_at(unsigned.bytes().take_while(u8::is_ascii_digit).count());
    if digits.is_empty() || !is_end_of_word(after) {
        return None;
    }
    let fraction = after.strip_prefix('.').map(|fraction| fraction.trim_start_matches('0'));
    let fraction = fraction
        .filter(|rest| rest.len() + 1 < after.len() && is_end_of_word(rest) && !rest.starts_with('.'));
    Some((without_leading_zeros(digits), fraction.unwrap_or(after)))
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
