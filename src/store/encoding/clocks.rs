//! The store's clock beside this process's. Clocks of different processes are never compared: what is stored carries
//! the store's time.
//!
//! Both conversions err towards earlier, so that nothing becomes younger by being stored.

use std::time::Duration;

use crate::clock::Timestamp;

/// By how much the store's clock is ahead of this process's: somewhere between two bounds, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    at_least: i64,
    at_most: i64,
}

impl Clocks {
    /// The store's clock showed `store` at some moment between `asked` and `answered`.
    pub fn compared(asked: Timestamp, store: Timestamp, answered: Timestamp) -> Self {
        Self { at_least: difference(store, answered), at_most: difference(store, asked) }
    }

    pub fn to_store(&self, here: Timestamp) -> Timestamp {
        shifted(here, self.at_least)
    }

    /// No earlier than it was.
    pub fn to_store_at_most(&self, here: Timestamp) -> Timestamp {
        shifted(here, self.at_most)
    }

    pub fn from_store(&self, store: Timestamp) -> Timestamp {
        shifted(store, self.at_most.saturating_neg())
    }
}

fn difference(one: Timestamp, other: Timestamp) -> i64 {
    let signed = |time: Timestamp| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    signed(one).saturating_sub(signed(other))
}

fn shifted(time: Timestamp, by: i64) -> Timestamp {
    let distance = Duration::from_micros(by.unsigned_abs());
    if by < 0 { time.minus(distance) } else { time.plus(distance) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(micros: u64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    proptest! {
        #[test]
        fn what_went_to_the_store_and_back_is_never_younger(
            ahead in -1_000_000_000i64..1_000_000_000,
            there in 0u64..1_000_000,
            back in 0u64..1_000_000,
            received in 5_000_000_000u64..9_000_000_000,
            elapsed in 0u64..1_000_000_000,
        ) {
            let store = |here: u64| at(here.checked_add_signed(ahead).unwrap());
            let asked = 2_000_000_000;
            let clocks = Clocks::compared(at(asked), store(asked + there), at(asked + there + back));
            // Another process, whose clock is the same one.
            let asked = asked + 7;
            let others = Clocks::compared(at(asked), store(asked + back), at(asked + there + back));
            let stored = clocks.to_store(at(received));
            prop_assert!(stored <= store(received));
            let read = others.from_store(stored);
            prop_assert!(read <= at(received));
            prop_assert!(at(received + elapsed).since(read) >= at(elapsed).since(at(0)));
        }
    }
}
