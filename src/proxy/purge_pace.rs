//! The pace of purges by writes of senders that are beyond their budget. Such a write waits for its turn before it purges,
//! so that no sender can keep Redis, and every replica that hears of its purges, from working for the others. It waits for
//! a bounded time: a purge is never left out, and its client gets its answer. Those for whom the pace has no turn in time
//! are as many as they have connections, and wait in the queue of the purge index, which few of them leave at a time.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

/// For all such senders of this process together. Redis takes some hundred thousand targets in a second.
const TARGETS_PER_SECOND: u32 = 10_000;

/// The longest wait for a turn. Below it are all waits while fewer than 50,000 targets wait: 780 writes of 64 targets.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// A queue: turns come in the order in which they were asked for.
#[derive(Debug)]
pub(super) struct PurgePace {
    next_turn: Mutex<Instant>,
}

impl Default for PurgePace {
    fn default() -> Self {
        Self { next_turn: Mutex::new(Instant::now()) }
    }
}

impl PurgePace {
    /// Waits until it is the turn of a write that purges this many targets, or until it has waited for [`MAX_WAIT`].
    pub(super) async fn wait(&self, targets: usize) {
        // One that has waited for too long delays nobody behind it.
        _ = timeout(MAX_WAIT, self.take_turn(targets)).await;
    }

    async fn take_turn(&self, targets: usize) {
        let mut next_turn = self.next_turn.lock().await;
        sleep_until(*next_turn).await;
        let targets = u32::try_from(targets).unwrap_or(TARGETS_PER_SECOND);
        *next_turn = Instant::now() + Duration::from_secs(1) * targets / TARGETS_PER_SECOND;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_come_in_order_and_at_the_pace() {
        let (pace, began) = (Arc::new(PurgePace::default()), Instant::now());
        let turn = |number: u64| {
            let pace = pace.clone();
            async move {
                pace.wait(100).await;
                assert_eq!(began.elapsed().as_millis(), u128::from(10 * number), "{number}");
            }
        };
        let turns: Vec<_> = (0..50).map(|number| tokio::spawn(turn(number))).collect();
        for turn in turns {
            turn.await.unwrap();
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        pace.wait(1).await;
        assert_eq!(began.elapsed().as_millis(), 490 + 60_000, "nobody waits for what was long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_longer_than_the_longest_wait() {
        let (pace, began) = (Arc::new(PurgePace::default()), Instant::now());
        let turn = |_| {
            let pace = pace.clone();
            async move {
                pace.wait(8000).await;
                began.elapsed().as_millis()
            }
        };
        let turns: Vec<_> = (0..20).map(turn).map(tokio::spawn).collect();
        let mut waits = Vec::new();
        for turn in turns {
            waits.push(turn.await.unwrap());
        }
        assert_eq!(waits, [&[0, 800, 1600, 2400, 3200, 4000, 4800][..], &[5000; 13]].concat());
        pace.wait(1).await;
        assert_eq!(began.elapsed().as_millis(), 5600, "those that have left take no turn");
    }

    /// Larger than any write; so is what it costs.
    #[tokio::test(start_paused = true)]
    async fn a_number_beyond_all_bounds_costs_a_second() {
        let (pace, began) = (PurgePace::default(), Instant::now());
        pace.wait(usize::MAX).await;
        pace.wait(1).await;
        assert_eq!(began.elapsed(), Duration::from_secs(1));
    }
}
