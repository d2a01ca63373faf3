//! Limits the rate of purges by writes of senders that send many at once, or are beyond their budget. Such a write waits for
//! its turn before it is forwarded, so that no sender can keep Redis, and every replica that hears of its purges, from working
//! for the others. A write that would wait for too long is refused, and nothing of it is sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Moment;

/// For all such senders of this process together. Redis takes some hundred thousand targets in a second.
pub(super) const TARGETS_PER_SECOND: u64 = 10_000;

/// The longest wait for a turn.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// The part of it that the writes of one address may cause. HTTP/1.1 clients within `connections_per_client` rarely have
/// writes with so many targets under way.
const MAX_WAIT_PER_CLIENT: Duration = Duration::from_secs(1);

/// A shorter wait is none.
const MIN_WAIT: Duration = Duration::from_millis(50);

/// A queue: turns come in the order in which they were asked for.
#[derive(Debug, Default)]
pub(super) struct PurgeRateLimiter {
    /// The [`Moment`] of the next turn.
    next_turn: AtomicU64,
}

/// Why a write gets no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RateExceeded {
    /// Its own address has too many; it may try again after this time.
    Client(Duration),
    /// All such senders together have too many.
    Total,
}

impl PurgeRateLimiter {
    /// Takes the next turn for a write that purges this many targets. `debt`: how long the earlier turns of its address take.
    ///
    /// # Errors
    /// If it would wait for too long.
    pub(super) fn reserve(
        &self,
        targets: usize,
        debt: Duration,
        now: Moment,
    ) -> Result<Moment, RateExceeded> {
        if debt > MAX_WAIT_PER_CLIENT {
            return Err(RateExceeded::Client(debt - MAX_WAIT_PER_CLIENT));
        }
        let taken = self.next_turn.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            let turn = Moment::from_nanos(next.max(now.as_nanos()));
            (turn.since(now) <= MAX_WAIT).then(|| turn.plus(duration(targets)).as_nanos())
        });
        let turn = taken.map_err(|_| RateExceeded::Total)?;
        let turn = Moment::from_nanos(turn.max(now.as_nanos()));
        Ok(if turn.since(now) < MIN_WAIT { now } else { turn })
    }

    /// Defers the next turn by targets that were not known when their write took its turn. Others wait no longer for it
    /// than for a turn.
    pub(super) fn defer(&self, targets: usize, now: Moment) {
        let latest = now.plus(MAX_WAIT).plus(duration(usize::MAX)).as_nanos();
        self.next_turn.update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            let deferred = Moment::from_nanos(next.max(now.as_nanos())).plus(duration(targets));
            deferred.as_nanos().min(latest).max(next)
        });
    }
}

/// How long a turn takes; at most a second.
fn duration(targets: usize) -> Duration {
    let targets = u64::try_from(targets).unwrap_or(u64::MAX).min(TARGETS_PER_SECOND);
    Duration::from_nanos(targets * (1_000_000_000 / TARGETS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Duration = Duration::ZERO;

    fn moment_at(millis: u64) -> Moment {
        Moment::from_nanos(1 + millis * 1_000_000)
    }

    #[test]
    fn turns_come_in_order_and_at_the_rate() {
        let limiter = PurgeRateLimiter::default();
        let turn = |millis| limiter.reserve(100, NONE, moment_at(millis)).expect("a turn");
        for _ in 0..5 {
            assert_eq!(turn(0), moment_at(0), "a short wait is none");
        }
        for number in 5..50 {
            assert_eq!(turn(0), moment_at(10 * number));
        }
        assert_eq!(turn(60_000), moment_at(60_000), "nobody waits for what was long ago");
    }

    #[test]
    fn a_wait_has_a_bound() {
        let limiter = PurgeRateLimiter::default();
        for second in 0..=5 {
            let turn = limiter.reserve(usize::MAX, NONE, moment_at(0));
            assert_eq!(turn, Ok(moment_at(1000 * second)), "it takes a second");
        }
        assert_eq!(limiter.reserve(1, NONE, moment_at(999)), Err(RateExceeded::Total));
        assert_eq!(
            limiter.reserve(1, NONE, moment_at(1000)),
            Ok(moment_at(6000)),
            "what was refused takes none"
        );
        for _ in 0..100 {
            limiter.defer(10_000, moment_at(1000));
        }
        assert_eq!(limiter.reserve(1, NONE, moment_at(1999)), Err(RateExceeded::Total));
        assert!(limiter.reserve(1, NONE, moment_at(2001)).is_ok(), "what is deferred has a bound, too");
    }

    #[test]
    fn the_writes_of_one_address_cause_a_part_of_it() {
        let (limiter, debt) = (PurgeRateLimiter::default(), Duration::from_millis(1001));
        let refused = Err(RateExceeded::Client(Duration::from_millis(1)));
        assert_eq!(limiter.reserve(1, debt, moment_at(0)), refused);
        assert_eq!(limiter.reserve(1, Duration::from_secs(1), moment_at(0)), Ok(moment_at(0)));
    }
}
