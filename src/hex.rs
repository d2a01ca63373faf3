//! Bytes as hexadecimal digits, and back.

const DIGITS: [u8; 16] = *b"0123456789abcdef";

pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut digits = Vec::with_capacity(2 * bytes.len());
    for byte in bytes {
        digits.extend([byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]));
    }
    // They are all ASCII.
    String::from_utf8(digits).unwrap_or_default()
}

/// `None` unless these are the digits of so many bytes.
pub(crate) fn decode<const N: usize>(digits: &str) -> Option<[u8; N]> {
    if digits.len() != 2 * N || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let bytes = [0x00, 0x0f, 0xa0, 0xff];
        assert_eq!(encode(&bytes), "000fa0ff");
        assert_eq!(decode("000FA0ff"), Some(bytes));
        for wrong in ["", "000fa0f", "000fa0ff0", "000fa0+f", "000fa0 f", "000fa0é"] {
            assert_eq!(decode::<4>(wrong), None, "{wrong}");
        }
    }
}
