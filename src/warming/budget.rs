//! How much of the upstream goes to what no client has asked for: requests in a second, requests at once, and none while
//! clients need the connections.

use std::sync::Mutex;
use std::time::Duration;

use super::locked;
use crate::clock::Moment;
use crate::config::BackgroundSettings;
use crate::proxy::{Desk, Live};

/// Between two looks whether there is room.
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Default)]
pub struct Budget(Mutex<State>);

#[derive(Debug)]
struct State {
    under_way: usize,
    tokens: f64,
    counted_at: Option<Moment>,
}

impl Default for State {
    fn default() -> Self {
        Self { under_way: 0, tokens: 0.0, counted_at: None }
    }
}

/// Leave to send one request; given back when it is dropped.
pub struct Turn<'b> {
    budget: &'b Budget,
    was_free: bool,
}

/// The upstream's connections at this moment.
#[derive(Clone, Copy, Debug)]
struct Room {
    free: usize,
    of: usize,
}

impl Budget {
    /// Waits for it.
    pub async fn turn(&self, desk: &Desk, live: &Live) -> Turn<'_> {
        loop {
            let (free, of) = desk.worker().upstream_room();
            let admitted =
                locked(&self.0).admit(&live.load().config.background, Room { free, of }, Moment::now());
            match admitted {
                Ok(()) => return Turn { budget: self, was_free: false },
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }
}

impl Turn<'_> {
    /// The upstream was not asked.
    pub fn cost_nothing(&mut self) {
        self.was_free = true;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = locked(&self.budget.0);
        state.under_way = state.under_way.saturating_sub(1);
        if self.was_free {
            state.tokens += 1.0;
        }
    }
}

impl State {
    /// Or how long to wait before asking again.
    fn admit(&mut self, settings: &BackgroundSettings, room: Room, now: Moment) -> Result<(), Duration> {
        let share = (room.of * settings.share / 100).max(1);
        // What is under way here is no client's.
        let without_ours = room.free + self.under_way;
        if self.under_way >= settings.concurrency.min(share) || room.free == 0 || without_ours * 2 < room.of {
            return Err(PAUSE);
        }
        let rate = settings.rate as f64;
        // A tenth of a second's worth may go at once.
        let most = (rate / 10.0).max(1.0);
        let passed = self.counted_at.map_or(Duration::MAX, |before| now.since(before)).as_secs_f64();
        self.tokens = (self.tokens + passed * rate).min(most);
        self.counted_at = Some(now);
        if self.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.tokens) / rate).max(Duration::from_millis(1)));
        }
        self.tokens -= 1.0;
        self.under_way += 1;
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

    const IDLE: Room = Room { free: 100, of: 100 };

    #[test]
    fn so_many_go_in_a_second_and_what_was_free_does_not_count() {
        let budget = Budget::default();
        let mut now = Moment::from_nanos(1);
        let mut sent = 0;
        for _ in 0..1_000 {
            if locked(&budget.0).admit(&settings(20, 1, 100), IDLE, now).is_ok() {
                drop(Turn { budget: &budget, was_free: false });
                sent += 1;
            }
            now = now.plus(Duration::from_millis(1));
        }
        assert!((20..=22).contains(&sent), "{sent}");
        for _ in 0..100 {
            now = now.plus(Duration::from_millis(50));
            assert!(locked(&budget.0).admit(&settings(20, 1, 100), IDLE, now).is_ok());
            drop(Turn { budget: &budget, was_free: true });
            assert!(locked(&budget.0).admit(&settings(20, 1, 100), IDLE, now).is_ok());
            drop(Turn { budget: &budget, was_free: false });
        }
    }

    #[test]
    fn so_many_go_at_once_and_never_more_than_their_share() {
        for (concurrency, share, of, at_once) in
            [(4, 100, 100, 4), (50, 10, 100, 10), (50, 25, 512, 50), (4, 25, 2, 1), (1, 1, 1, 1)]
        {
            let (mut state, settings) = (State::default(), settings(1_000_000, concurrency, share));
            let admitted = (0..200).filter(|at| {
                let room = Room { free: of - state.under_way, of };
                state.admit(&settings, room, Moment::from_nanos(1).plus(Duration::from_secs(*at))).is_ok()
            });
            assert_eq!(admitted.count(), at_once, "{concurrency} {share} {of}");
        }
    }

    #[test]
    fn none_begins_while_clients_use_more_than_half() {
        for (free, begins) in [(100, true), (50, true), (49, false), (1, false), (0, false)] {
            let admitted =
                State::default().admit(&settings(20, 4, 100), Room { free, of: 100 }, Moment::from_nanos(1));
            assert_eq!(admitted.is_ok(), begins, "{free}");
        }
    }
}
