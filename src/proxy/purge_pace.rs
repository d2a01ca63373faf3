//! The pace of purges by writes of senders that send many at once, or are beyond their budget. Such a write waits for its
//! turn before it purges, so that no sender can keep Redis, and every replica that hears of its purges, from working for
//! the others.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// For all such senders of this process together. Redis takes some hundred thousand targets in a second.
const TARGETS_PER_SECOND: u32 = 10_000;

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
    /// Waits until it is the turn of a write that purges this many targets.
    pub(super) async fn wait(&self, targets: usize) {
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

    /// Larger than any write; so is what it costs.
    #[tokio::test(start_paused = true)]
    async fn a_number_beyond_all_bounds_costs_a_second() {
        let (pace, began) = (PurgePace::default(), Instant::now());
        pace.wait(usize::MAX).await;
        pace.wait(1).await;
        assert_eq!(began.elapsed(), Duration::from_secs(1));
    }
}
