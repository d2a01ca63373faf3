//! The upstream: items with versions, written one by one and read together.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::sleep;

use crate::dice::Dice;
use crate::process::{Process, millis, trace};

/// Items; there is one resource for each, and one that lists them all.
pub const ITEMS: usize = 3;
pub const RESOURCES: usize = ITEMS + 1;

/// An exchange that takes longer is given up by larder; the write takes effect within as long again, or never.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_millis(100);

/// The items that a resource is made of.
pub fn list_items(resource: usize) -> std::ops::Range<usize> {
    if resource == ITEMS { 0..ITEMS } else { resource..resource + 1 }
}

pub struct Upstream {
    state: Mutex<State>,
}

struct State {
    dice: Dice,
    mood: Mood,
    /// How long ago the copies are from that reads may go to, at most, in milliseconds.
    lag: u64,
    /// When each item got its versions, which count from zero, and by which write.
    applied: Vec<Vec<(u64, u64)>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Well,
    Slow,
    /// Writes are cut off, before they take effect or after it.
    Cuts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteEnd {
    Done { version: u64 },
    Unknown,
}

impl Upstream {
    pub fn new(dice: Dice, lag: u64) -> Arc<Self> {
        let applied = vec![vec![(0, 0)]; ITEMS];
        Arc::new(Self { state: Mutex::new(State { dice, mood: Mood::Well, lag, applied }) })
    }

    pub fn set_mood(&self, mood: Mood) {
        self.state.lock().mood = mood;
    }

    /// The versions of a resource's items, `None` if it takes too long.
    pub async fn read(&self, resource: usize) -> Option<Vec<u64>> {
        let (there, back) = self.delays();
        sleep(there).await;
        let versions = {
            let mut state = self.state.lock();
            let most = state.lag + 1;
            let until = millis().saturating_sub(state.dice.between(0, most));
            let latest = |item: usize| state.applied[item].partition_point(|(at, _)| *at <= until).max(1) - 1;
            list_items(resource).map(|item| latest(item) as u64).collect()
        };
        sleep(back).await;
        (there + back < RESPONSE_TIMEOUT).then_some(versions)
    }

    /// Makes a connection. A process that is to be paused before it sends is paused meanwhile.
    pub async fn connect(&self, process: &Process) {
        let (there, back) = self.delays();
        process.pause_if_asked();
        sleep(there + back).await;
    }

    /// Writes an item. The write goes on if nobody waits for it. `id` is its own.
    pub async fn write(self: Arc<Self>, item: usize, id: u64) -> WriteEnd {
        let (mut there, back) = self.delays();
        let (is_cut, is_applied) = {
            let mut state = self.state.lock();
            let is_cut = state.mood == Mood::Cuts;
            if is_cut {
                let most = u64::try_from(RESPONSE_TIMEOUT.as_millis()).expect("a short time");
                there = back + state.dice.millis(0, most);
            }
            (is_cut, !state.dice.one_in(3))
        };
        let upstream = self.clone();
        let applying = tokio::spawn(async move {
            sleep(there.min(RESPONSE_TIMEOUT * 2 - Duration::from_millis(1))).await;
            (is_applied || !is_cut).then(|| upstream.apply(item, id))
        });
        if is_cut || there + back >= RESPONSE_TIMEOUT {
            sleep(if is_cut { back.min(RESPONSE_TIMEOUT) } else { RESPONSE_TIMEOUT }).await;
            return WriteEnd::Unknown;
        }
        let version = applying.await.ok().flatten();
        sleep(back).await;
        version.map_or(WriteEnd::Unknown, |version| WriteEnd::Done { version })
    }

    /// Changes an item at once; `id` is zero if somebody else does. Returns its version.
    pub fn apply(&self, item: usize, id: u64) -> u64 {
        let mut state = self.state.lock();
        state.applied[item].push((millis(), id));
        let version = state.applied[item].len() as u64 - 1;
        trace(version << 8 | item as u64);
        version
    }

    /// The version that a write has made, if it has taken effect.
    pub fn find_version(&self, item: usize, id: u64) -> Option<u64> {
        self.state.lock().applied[item].iter().position(|(_, by)| *by == id).map(|version| version as u64)
    }

    /// The time from the head of a response to the end of its body.
    pub fn draw_body_delay(&self) -> Duration {
        self.state.lock().dice.millis(0, 30)
    }

    fn delays(&self) -> (Duration, Duration) {
        let mut state = self.state.lock();
        let most = if state.mood == Mood::Slow { 90 } else { 12 };
        (state.dice.millis(0, most), state.dice.millis(0, most))
    }
}
