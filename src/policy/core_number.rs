//! Numbers in the spellings of YAML's core schema (YAML 1.2.2 §10.3.2).

use crate::purge::without_leading_zeros;

/// The number as JSON spells it, with all its digits; `None` if the text is no number.
pub(crate) fn to_json_number(text: &str) -> Option<String> {
    let (sign, unsigned) = match text.strip_prefix(['+', '-']) {
        Some(unsigned) => (if text.starts_with('-') { "-" } else { "" }, unsigned),
        None => ("", text),
    };
    if let Some(number) = parse_radix(text) {
        return Some(number.to_string());
    }
    let (mantissa, exponent) = unsigned.find(['e', 'E']).map_or((unsigned, ""), |at| unsigned.split_at(at));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_number = [whole, fraction].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    if !is_number || whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole = without_leading_zeros(whole);
    let fraction = if fraction.is_empty() { String::new() } else { format!(".{fraction}") };
    let number = format!("{sign}{whole}{fraction}{exponent}");
    serde_json::from_str::<serde_json::Number>(&number).is_ok().then_some(number)
}

/// `0x1F`, `0o17`.
fn parse_radix(text: &str) -> Option<u128> {
    let (digits, radix) = match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
        (Some(digits), _) => (digits, 16),
        (_, Some(digits)) => (digits, 8),
        (None, None) => return None,
    };
    // `from_str_radix` would take a sign.
    let is_digits = digits.chars().all(|digit| digit.is_digit(radix));
    is_digits.then(|| u128::from_str_radix(digits, radix).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_number_are_json() {
        for (text, expected) in [
            ("1", "1"),
            ("+1", "1"),
            ("-0", "-0"),
            ("007", "7"),
            ("1.", "1"),
            (".5", "0.5"),
            ("-.5", "-0.5"),
            ("2.50", "2.50"),
            ("1e3", "1e3"),
            ("1E+3", "1E+3"),
            ("0x10", "16"),
            ("0xfF", "255"),
            ("0o17", "15"),
        ] {
            assert_eq!(to_json_number(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "", "+", ".", "e3", "1e", "1e+", "0x", "0o8", "0x+1", "-0x1", "1_000", "1 0", "--1", "1.2.3",
            "1e999", "a",
        ] {
            assert_eq!(to_json_number(text), None, "{text}");
        }
    }
}
