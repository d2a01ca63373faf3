//! The timer over one connection: closes it when a limit is exceeded, and releases its parser when it is idle.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

use super::activity::ConnectionActivity;
use crate::proxy::WorkerHandle;

/// How long an idle connection stays open after a shutdown began. A client that is about to send a request gets its
/// response, with `Connection: close`.
pub(super) const IDLE_SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeoutAction {
    Close,
    /// The shutdown of an HTTP/2 connection: GOAWAY loses no request.
    GracefulShutdown,
    ReleaseParser,
}

pub(super) struct ConnectionWatchdog {
    activity: Arc<ConnectionActivity>,
    workers: Arc<WorkerHandle>,
    stopping: watch::Receiver<bool>,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// The time at which the shutdown began.
    stopped: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    /// The state that the timer was set for: idle, may release its parser, has its parser.
    armed_for: Option<(bool, bool, bool)>,
}

impl ConnectionWatchdog {
    pub(super) fn new(
        activity: Arc<ConnectionActivity>,
        workers: Arc<WorkerHandle>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let mut stop = stopping.clone();
        let stop = Box::pin(async move { drop(stop.wait_for(|stop| *stop).await) });
        let timer = Box::pin(sleep_until(Instant::now()));
        Self { activity, workers, stopping, stop, stopped: None, timer, armed_for: None }
    }

    /// The time at which a limit is exceeded, and the latest time of the next check.
    fn deadlines(&self) -> (Option<Instant>, Instant) {
        let worker = self.workers.worker();
        let limits = worker.limits();
        let by_activity = self.activity.deadline(limits);
        let by_shutdown = self.stopped.filter(|_| self.activity.is_idle()).map(|at| at + IDLE_SHUTDOWN_GRACE);
        let interval = match self.stopped {
            Some(_) => IDLE_SHUTDOWN_GRACE / 10,
            None => limits.idle_timeout.min(limits.header_timeout).min(limits.body_timeout),
        };
        (by_activity.into_iter().chain(by_shutdown).min(), Instant::now() + interval)
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, has_parser: bool) -> Poll<TimeoutAction> {
        // The common case costs no clock read: the state is the one that the timer was set for, and what has begun since
        // then is not due before the timer. Only this task polls both futures, so their wakers stay valid.
        let state = Some((self.activity.is_idle(), self.activity.can_release_parser(), has_parser));
        let is_stopping = self.stopped.is_some() || self.stopping.has_changed().unwrap_or(true);
        // A timer for the release of the parser is earlier than any other deadline.
        let is_armed = self.armed_for == state || self.armed_for == Some((true, true, has_parser));
        if !is_stopping && is_armed && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        if self.armed_for.is_none() {
            self.activity.set_waker(cx.waker());
        }
        self.armed_for = state;
        if self.activity.is_evicted() {
            return Poll::Ready(TimeoutAction::Close);
        }
        if self.stopped.is_none() && self.stop.as_mut().poll(cx).is_ready() {
            self.stopped = Some(Instant::now());
        }
        if self.stopped.is_some() && self.activity.is_http2() {
            return Poll::Ready(TimeoutAction::GracefulShutdown);
        }
        loop {
            let (deadline, next_check) = self.deadlines();
            let release = self.activity.parser_release_time().filter(|_| has_parser);
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Poll::Ready(TimeoutAction::Close);
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
