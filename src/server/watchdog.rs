//! The timer over one connection: closes it when a limit is exceeded (slowloris), and releases its idle parser.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::ConnectionActivity;
use crate::phase::{Phase, PhaseReceiver};
use crate::proxy::WorkerHandle;

/// How long an idle connection stays open while the process drains. A client that is about to send a request gets its
/// response, with `Connection: close`.
pub(super) const IDLE_DRAIN_GRACE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeoutAction {
    Close,
    /// Tells an HTTP/2 client to use another connection; no request is lost.
    Goaway,
    ReleaseParser,
}

pub(super) struct ConnectionWatchdog {
    activity: Arc<ConnectionActivity>,
    workers: Arc<WorkerHandle>,
    phase: PhaseReceiver,
    drain: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The time at which the drain began.
    closing_since: Option<Instant>,
    has_sent_goaway: bool,
    timer: Pin<Box<Sleep>>,
    /// The state that the timer was set for: idle, may release its parser, has its parser.
    armed_for: Option<(bool, bool, bool)>,
}

impl ConnectionWatchdog {
    pub(super) fn new(
        activity: Arc<ConnectionActivity>,
        workers: Arc<WorkerHandle>,
        phase: PhaseReceiver,
    ) -> Self {
        let mut observer = phase.clone();
        let drain = Box::pin(async move { observer.reached(Phase::Draining).await });
        let timer = Box::pin(sleep_until(Instant::now()));
        let (closing_since, has_sent_goaway) = (None, false);
        Self { activity, workers, phase, drain, closing_since, has_sent_goaway, timer, armed_for: None }
    }

    /// The time at which a limit is exceeded, and the latest time of the next check.
    fn deadlines(&self) -> (Option<Instant>, Instant) {
        let worker = self.workers.worker();
        let limits = worker.limits();
        let by_activity = self.activity.deadline(limits);
        // After its GOAWAY an HTTP/2 connection closes by itself: the end of a response may wait for the client's window.
        let closing_since = self.closing_since.filter(|_| !self.has_sent_goaway);
        let by_drain = closing_since.zip(self.activity.quiet_since());
        let by_drain = by_drain.map(|(closing, quiet)| closing.max(quiet) + IDLE_DRAIN_GRACE);
        let interval = match self.closing_since {
            Some(_) => IDLE_DRAIN_GRACE,
            None => limits.idle_timeout.min(limits.header_timeout).min(limits.body_timeout),
        };
        (by_activity.into_iter().chain(by_drain).min(), Instant::now() + interval)
    }

    /// Returns whether the parser is to send a GOAWAY now, the only one. A GOAWAY loses a connection whose first request
    /// has not begun, which may be within the handshake, so that one gets it in place of being closed.
    fn take_goaway(&mut self, is_expired: bool) -> bool {
        let is_due = self.closing_since.is_some()
            && !self.has_sent_goaway
            && self.activity.is_http2()
            && (is_expired || !self.activity.is_new());
        self.has_sent_goaway |= is_due;
        is_due
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, has_parser: bool) -> Poll<TimeoutAction> {
        // The common case costs no clock read: the state is the one that the timer was set for, and what has begun since
        // then is not due before the timer. Only this task polls both futures, so their wakers stay valid.
        let state = Some((self.activity.is_idle(), self.activity.can_release_parser(), has_parser));
        let is_draining = self.closing_since.is_some() || self.phase.has_changed();
        // A timer for the release of the parser is earlier than any other deadline.
        let is_armed = self.armed_for == state || self.armed_for == Some((true, true, has_parser));
        let is_ended = is_draining || self.activity.is_evicted();
        if !is_ended && is_armed && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        if self.armed_for.is_none() {
            self.activity.set_waker(cx.waker());
        }
        self.armed_for = state;
        if self.activity.is_evicted() {
            return Poll::Ready(TimeoutAction::Close);
        }
        if self.closing_since.is_none() && self.drain.as_mut().poll(cx).is_ready() {
            self.closing_since = Some(Instant::now());
        }
        if self.take_goaway(false) {
            return Poll::Ready(TimeoutAction::Goaway);
        }
        loop {
            let (deadline, next_check) = self.deadlines();
            let release = self.activity.parser_release_time().filter(|_| has_parser);
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                let goes_away = self.take_goaway(true);
                return Poll::Ready(if goes_away { TimeoutAction::Goaway } else { TimeoutAction::Close });
            }
            if release.is_some_and(|release| release <= now) {
                return Poll::Ready(TimeoutAction::ReleaseParser);
            }
            let next_check = deadline.into_iter().chain(release).fold(next_check, Instant::min);
            // A timer that fires too early is cheaper than one that is set anew.
            if next_check < self.timer.deadline() || self.timer.is_elapsed() {
                self.timer.as_mut().reset(next_check);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
