//! The purges that wait to be sent: few targets are on their way at a time, and purges that wait are joined to one script.
//!
//! Redis runs one script at a time, so the purges on their way are what every other command of every replica waits for.
//! And each reply tells the records that its replica had missed when the purge was sent: many purges at a time repeat
//! them. Waiting here is no failure of Redis. A command's deadline begins when the command is sent.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::purge_call::PurgeCall;
use crate::purge::PurgeVersion;
use crate::store::redis::error::RedisError;

/// A script with this many targets, and telling them to the other replicas, takes Redis some milliseconds.
pub(super) const MAX_TARGETS_IN_FLIGHT: usize = 256;

/// How many waiting purges are looked at for one script.
const MAX_JOINED: usize = 64;

#[derive(Default)]
pub(super) struct PurgeQueue(Mutex<QueueState>);

#[derive(Default)]
struct QueueState {
    /// Targets on their way.
    in_flight: usize,
    /// There was no room for the first that wait. They go once all that is on its way is done: many by one script, not
    /// each by its own as soon as there is room for it.
    is_full: bool,
    waiting: VecDeque<WaitingCall>,
}

struct WaitingCall {
    call: PurgeCall,
    turn: oneshot::Sender<Turn>,
}

/// The end of a call's wait.
pub(super) enum Turn {
    /// The caller sends it, with the calls that were joined to it.
    Send(JoinedCall),
    /// Another caller has sent it.
    Sent(Result<PurgeVersion, RedisError>),
}

/// A call and those that were joined to it. Dropping it makes room for the next one.
pub(super) struct JoinedCall {
    pub call: PurgeCall,
    joined: Vec<oneshot::Sender<Turn>>,
    room: usize,
    queue: Arc<PurgeQueue>,
}

impl PurgeQueue {
    /// Waits for room, or until another caller has sent this call. `None`: that one has gone.
    pub(super) async fn wait(self: &Arc<Self>, call: PurgeCall) -> Option<Turn> {
        let (turn, hears) = oneshot::channel();
        self.state().waiting.push_back(WaitingCall { call, turn });
        self.start();
        hears.await.ok()
    }

    /// Has the first that wait sent, as far as there is room.
    fn start(self: &Arc<Self>) {
        while let Some((turn, call)) = self.take() {
            // If its caller has gone, the call is dropped, and makes room again.
            drop(turn.send(Turn::Send(call)));
        }
    }

    fn take(self: &Arc<Self>) -> Option<(oneshot::Sender<Turn>, JoinedCall)> {
        let mut state = self.state();
        while state.waiting.front().is_some_and(|first| first.turn.is_closed()) {
            state.waiting.pop_front();
        }
        let size = state.waiting.front()?.call.size();
        let free = MAX_TARGETS_IN_FLIGHT.saturating_sub(state.in_flight);
        state.is_full = state.in_flight > 0 && (state.is_full || size > free);
        if state.is_full {
            return None;
        }
        let WaitingCall { mut call, turn } = state.waiting.pop_front()?;
        let joined = state.join_waiting(&mut call, free);
        let room = call.size();
        state.in_flight += room;
        Some((turn, JoinedCall { call, joined, room, queue: self.clone() }))
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.0.lock()
    }
}

impl QueueState {
    /// Joins to `call` what waits behind it and fits.
    fn join_waiting(&mut self, call: &mut PurgeCall, free: usize) -> Vec<oneshot::Sender<Turn>> {
        let (mut joined, mut at) = (Vec::new(), 0);
        for _ in 0..self.waiting.len().min(MAX_JOINED) {
            let next = &self.waiting[at];
            let fits = call.can_join(&next.call) && call.size() + next.call.size() <= free;
            if !fits {
                at += 1;
            } else if let Some(next) = self.waiting.remove(at)
                && !next.turn.is_closed()
            {
                call.join(next.call);
                joined.push(next.turn);
            }
        }
        joined
    }
}

impl JoinedCall {
    /// Tells the callers of the joined calls.
    pub(super) fn finish(mut self, result: &Result<PurgeVersion, RedisError>) {
        for turn in self.joined.drain(..) {
            // A caller that has gone is not told.
            drop(turn.send(Turn::Sent(result.clone())));
        }
    }
}

impl Drop for JoinedCall {
    fn drop(&mut self) {
        self.queue.state().in_flight -= self.room;
        self.queue.start();
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
