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

const fn digit(number: usize) -> u8 {
    b'0' + (number % 10) as u8
}

/// Each number below 1,000, with leading zeros.
static THREE_DIGITS: [[u8; 3]; 1000] = {
    let (mut all, mut number) = ([[0; 3]; 1000], 0);
    while number < 1000 {
        all[number] = [digit(number / 100), digit(number / 10), digit(number)];
        number += 1;
    }
    all
};

/// The decimal digits of a number below 1,000, without an allocation for what holds them.
pub(crate) fn small_decimal(number: u64) -> Option<&'static str> {
    let digits = THREE_DIGITS.get(usize::try_from(number).ok()?)?;
    let zeros = usize::from(number < 100) + usize::from(number < 10);
    str::from_utf8(&digits[zeros..]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_by_display() {
        for number in [0, 1, 9, 10, 4096, u64::MAX] {
            assert_eq!(Decimal::new(number).as_str(), number.to_string());
        }
        for number in 0..1000 {
            assert_eq!(small_decimal(number), Some(&*number.to_string()));
        }
        assert_eq!((small_decimal(1000), small_decimal(u64::MAX)), (None, None));
    }
}
