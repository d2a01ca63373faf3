//! Budget of background requests: rate, concurrency, and no start while clients need the upstream connections.

use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Moment;
use crate::config::BackgroundSettings;
use crate::proxy::{SharedProxy, WorkerHandle};

/// Interval between checks for free capacity.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

#[derive(Default)]
pub(super) struct Budget(Mutex<BudgetState>);

#[derive(Debug)]
struct BudgetState {
    in_flight: usize,
    tokens: f64,
    counted_at: Option<Moment>,
}

impl Default for BudgetState {
    fn default() -> Self {
        Self { in_flight: 0, tokens: 0.0, counted_at: None }
    }
}

/// Permission to send one request; released on drop.
pub(super) struct BudgetPermit<'b> {
    budget: &'b Budget,
    is_refunded: bool,
}

/// The upstream connections of one worker.
#[derive(Clone, Copy, Debug)]
struct UpstreamCapacity {
    free: usize,
    total: usize,
}

impl Budget {
    /// Waits for a permit.
    pub(super) async fn acquire(&self, handle: &WorkerHandle, live: &SharedProxy) -> BudgetPermit<'_> {
        loop {
            let (free, total) = handle.worker().upstream_capacity();
            let admitted = self.0.lock().try_admit(
                &live.load().config.background,
                UpstreamCapacity { free, total },
                Moment::now(),
            );
            match admitted {
                Ok(()) => return BudgetPermit { budget: self, is_refunded: false },
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }
}

impl BudgetPermit<'_> {
    /// Returns the token of a request that did not reach the upstream.
    pub(super) fn refund(&mut self) {
        self.is_refunded = true;
    }
}

impl Drop for BudgetPermit<'_> {
    fn drop(&mut self) {
        let mut state = self.budget.0.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        if self.is_refunded {
            state.tokens += 1.0;
        }
    }
}

impl BudgetState {
    /// Admits a request, or returns how long to wait.
    fn try_admit(
        &mut self,
        settings: &BackgroundSettings,
        room: UpstreamCapacity,
        now: Moment,
    ) -> Result<(), Duration> {
        let share = (room.total * settings.share / 100).max(1);
        // Connections used by background requests are not clients'.
        let without_ours = room.free + self.in_flight;
        if self.in_flight >= settings.concurrency.min(share)
            || room.free == 0
            || without_ours * 2 < room.total
        {
            return Err(POLL_INTERVAL);
        }
        let rate = settings.rate as f64;
        // Bursts are limited to a tenth of a second's rate.
        let most = (rate / 10.0).max(1.0);
        let passed = self.counted_at.map_or(Duration::MAX, |before| now.since(before)).as_secs_f64();
        self.tokens = (self.tokens + passed * rate).min(most);
        self.counted_at = Some(now);
        if self.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.tokens) / rate).max(Duration::from_millis(1)));
        }
        self.tokens -= 1.0;
        self.in_flight += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(rate: usize, concurrency: usize, share: usize) -> BackgroundSettings {
        let (host, headers) = Default::default();
        BackgroundSettings { rate, concurrency, share, host, headers }
    }

    const IDLE: UpstreamCapacity = UpstreamCapacity { free: 100, total: 100 };

    #[test]
    fn so_many_go_in_a_second_and_what_was_free_does_not_count() {
        let budget = Budget::default();
        let mut now = Moment::from_nanos(1);
        let mut sent = 0;
        for _ in 0..1_000 {
            if budget.0.lock().try_admit(&settings(20, 1, 100), IDLE, now).is_ok() {
                drop(BudgetPermit { budget: &budget, is_refunded: false });
                sent += 1;
            }
            now = now.plus(Duration::from_millis(1));
        }
        assert!((20..=22).contains(&sent), "{sent}");
        for _ in 0..100 {
            now = now.plus(Duration::from_millis(50));
            assert!(budget.0.lock().try_admit(&settings(20, 1, 100), IDLE, now).is_ok());
            drop(BudgetPermit { budget: &budget, is_refunded: true });
            assert!(budget.0.lock().try_admit(&settings(20, 1, 100), IDLE, now).is_ok());
            drop(BudgetPermit { budget: &budget, is_refunded: false });
        }
    }

    #[test]
    fn so_many_go_at_once_and_never_more_than_their_share() {
        for (concurrency, share, total, at_once) in
            [(4, 100, 100, 4), (50, 10, 100, 10), (50, 25, 512, 50), (4, 25, 2, 1), (1, 1, 1, 1)]
        {
            let (mut state, settings) = (BudgetState::default(), settings(1_000_000, concurrency, share));
            let admitted = (0..200).filter(|at| {
                let room = UpstreamCapacity { free: total - state.in_flight, total };
                state.try_admit(&settings, room, Moment::from_nanos(1).plus(Duration::from_secs(*at))).is_ok()
            });
            assert_eq!(admitted.count(), at_once, "{concurrency} {share} {total}");
        }
    }

    #[test]
    fn none_begins_while_clients_use_more_than_half() {
        for (free, begins) in [(100, true), (50, true), (49, false), (1, false), (0, false)] {
            let admitted = BudgetState::default().try_admit(
                &settings(20, 4, 100),
                UpstreamCapacity { free, total: 100 },
                Moment::from_nanos(1),
            );
            assert_eq!(admitted.is_ok(), begins, "{free}");
        }
    }
}
