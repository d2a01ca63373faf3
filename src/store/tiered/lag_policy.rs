//! How far the view is believed: `max_lag` and `on_store_loss`. Pure: moments are arguments.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Moment;
use crate::config::OnStoreLoss;

pub(super) struct LagPolicy {
    /// Zero: strict.
    max_lag: Duration,
    /// The first tier goes on for so long after the last confirmation.
    serve: Duration,
    /// The last [`Moment`] at which a wait for a confirmation failed.
    last_timeout: AtomicU64,
}

impl LagPolicy {
    pub(super) fn new(max_lag: Duration, on_store_loss: OnStoreLoss) -> Self {
        let serve = match on_store_loss {
            OnStoreLoss::Bypass => Duration::ZERO,
            OnStoreLoss::Serve(serve) => serve,
        };
        Self { max_lag, serve, last_timeout: AtomicU64::new(0) }
    }

    pub(super) fn max_lag(&self) -> Duration {
        self.max_lag
    }

    pub(super) fn is_strict(&self) -> bool {
        self.max_lag.is_zero()
    }

    /// Whether a view that was confirmed at `proved` may answer at `now`.
    pub(super) fn is_within_lag(&self, proved: Option<Moment>, now: Moment) -> bool {
        is_fresh(self.max_lag, proved, now)
    }

    /// Like [`Trust::holds`], while Redis is unavailable.
    pub(super) fn is_within_store_loss(&self, proved: Option<Moment>, now: Moment) -> bool {
        is_fresh(self.serve, proved, now)
    }

    /// The view must have been confirmed at this moment or later to answer a request that arrived at `arrived`.
    pub(super) fn required_confirmation(&self, arrived: Moment) -> Moment {
        arrived.minus(self.max_lag)
    }

    /// Records that a wait failed at `now`.
    pub(super) fn record_timeout(&self, now: Moment) {
        self.last_timeout.fetch_max(now.as_nanos(), Ordering::AcqRel);
    }

    /// For a question that does not say when its request arrived: every request that got so far has waited for its
    /// own proof. In strict mode that one holds unless a wait has failed since.
    pub(super) fn is_view_trusted(&self, proved: Option<Moment>, now: Moment) -> bool {
        if !self.is_strict() {
            return self.is_within_lag(proved, now);
        }
        let doubted = Moment::from_nanos(self.last_timeout.load(Ordering::Acquire));
        proved.is_some_and(|proved| proved > doubted)
    }
}

fn is_fresh(lag: Duration, proved: Option<Moment>, now: Moment) -> bool {
    !lag.is_zero() && proved.is_some_and(|proved| now.since(proved) <= lag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn bounded_trust_holds_for_max_lag() {
        let trust = LagPolicy::new(SECOND, OnStoreLoss::Serve(30 * SECOND));
        let proved = Moment::now();
        let holds = |after| trust.is_within_lag(Some(proved), proved.plus(after));
        assert_eq!((holds(SECOND), holds(2 * SECOND)), (true, false));
        let goes_on = |after| trust.is_within_store_loss(Some(proved), proved.plus(after));
        assert_eq!((goes_on(30 * SECOND), goes_on(31 * SECOND)), (true, false));
        assert!(!trust.is_within_lag(None, proved) && !trust.is_within_store_loss(None, proved));
        let bypass = LagPolicy::new(SECOND, OnStoreLoss::Bypass);
        assert!(!bypass.is_within_store_loss(Some(proved), proved));
    }

    #[test]
    fn strict_it_vouches_until_somebody_waited_in_vain() {
        let trust = LagPolicy::new(Duration::ZERO, OnStoreLoss::Bypass);
        let proved = Moment::now().plus(SECOND);
        assert!(!trust.is_within_lag(Some(proved), proved));
        assert!(trust.is_view_trusted(Some(proved), proved.plus(SECOND)));
        trust.record_timeout(proved.plus(SECOND));
        assert!(!trust.is_view_trusted(Some(proved), proved.plus(SECOND)));
        assert!(!trust.is_view_trusted(Some(proved.plus(SECOND)), proved.plus(2 * SECOND)));
        assert!(trust.is_view_trusted(Some(proved.plus(2 * SECOND)), proved.plus(3 * SECOND)));
    }
}
