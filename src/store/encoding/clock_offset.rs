//! The offset between the store's clock and this process's. Stored times are on the store's clock, so that clocks of
//! different processes are never compared.
//!
//! Both conversions err towards earlier, so that storing a response never makes it younger.

use std::time::Duration;

use crate::clock::Timestamp;

/// The lead of the store's clock over this process's, between two bounds, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockOffset {
    lower: i64,
    upper: i64,
}

impl ClockOffset {
    /// The store's clock showed `store` at some moment between `sent` and `received`.
    pub(crate) fn from_exchange(sent: Timestamp, store: Timestamp, received: Timestamp) -> Self {
        Self { lower: difference(store, received), upper: difference(store, sent) }
    }

    /// A time of this process on the clock of the store.
    pub(crate) fn to_store(self, here: Timestamp) -> Timestamp {
        shift(here, self.lower)
    }

    /// [`ClockOffset::to_store`] that errs towards later.
    pub(crate) fn to_store_upper_bound(self, here: Timestamp) -> Timestamp {
        shift(here, self.upper)
    }

    /// A time of the store on the clock of this process.
    pub(crate) fn here(self, store: Timestamp) -> Timestamp {
        shift(store, self.upper.saturating_neg())
    }
}

fn difference(one: Timestamp, other: Timestamp) -> i64 {
    let signed = |time: Timestamp| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    signed(one).saturating_sub(signed(other))
}

fn shift(time: Timestamp, by: i64) -> Timestamp {
    let distance = Duration::from_micros(by.unsigned_abs());
    if by < 0 { time.minus(distance) } else { time.plus(distance) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn micros(micros: u64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    proptest! {
        #[test]
        fn a_round_trip_never_makes_a_time_later(
            ahead in -1_000_000_000i64..1_000_000_000,
            there in 0u64..1_000_000,
            back in 0u64..1_000_000,
            received in 5_000_000_000u64..9_000_000_000,
            elapsed in 0u64..1_000_000_000,
        ) {
            let store = |here: u64| micros(here.checked_add_signed(ahead).unwrap());
            let asked = 2_000_000_000;
            let clocks = ClockOffset::from_exchange(micros(asked), store(asked + there), micros(asked + there + back));
            // Another process, whose clock is the same one.
            let asked = asked + 7;
            let others = ClockOffset::from_exchange(micros(asked), store(asked + back), micros(asked + there + back));
            let stored = clocks.to_store(micros(received));
            prop_assert!(stored <= store(received));
            let read = others.here(stored);
            prop_assert!(read <= micros(received));
            prop_assert!(micros(received + elapsed).since(read) >= micros(elapsed).since(micros(0)));
        }
    }
}
