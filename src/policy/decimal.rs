//! Numbers as text, without an allocation and without the cost of `Display`.

/// The decimal digits of a number.
pub(crate) struct Decimal {
    digits: [u8; 20],
    first: usize,
}

impl Decimal {
    pub(crate) fn new(mut number: u64) -> Self {
        let (mut digits, mut first) = ([b'0'; 20], 19);
        while number > 0 {
            digits[first] = b'0' + (number % 10) as u8;
            number /= 10;
            first -= usize::from(number > 0);
        }
        Self { digits, first }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.digits[self.first..]
    }

    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or("0")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_by_display() {
        for number in [0, 1, 9, 10, 4096, u64::MAX] {
            assert_eq!(Decimal::new(number).as_str(), number.to_string());
        }
    }
}
