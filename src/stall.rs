//! A clock for what must not stand still: it runs only while nothing goes on, and says when that was too long.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

pub struct Stall {
    limit: Duration,
    /// Armed only while nothing goes on, so that what never waits pays for no timer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    pub fn new(limit: Duration) -> Self {
        Self { limit, timer: None }
    }

    /// Something went on.
    pub fn over(&mut self) {
        self.timer = None;
    }

    /// Nothing goes on: ready once that has lasted for the limit.
    pub fn poll_too_long(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        self.timer.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(cx)
    }
}
