//! How far the view is believed: `max_lag` and `on_store_loss`. Pure: moments are arguments.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Moment;
use crate::config::OnStoreLoss;

pub struct Trust {
    /// Zero: strict.
    max_lag: Duration,
    /// The first tier goes on for so long after the last confirmation.
    serve: Duration,
    /// The last [`Moment`] at which somebody waited for a confirmation in vain.
    doubted: AtomicU64,
}

impl Trust {
    pub fn new(max_lag: Duration, on_store_loss: OnStoreLoss) -> Self {
        let serve = match on_store_loss {
            OnStoreLoss::Bypass => Duration::ZERO,
            OnStoreLoss::Serve(serve) => serve,
        };
        Self { max_lag, serve, doubted: AtomicU64::new(0) }
    }

    pub fn max_lag(&self) -> Duration {
        self.max_lag
    }

    pub fn is_strict(&self) -> bool {
        self.max_lag.is_zero()
    }

    /// Whether a view that was confirmed at `proved` may answer at `now`.
    pub fn holds(&self, proved: Option<Moment>, now: Moment) -> bool {
        within(self.max_lag, proved, now)
    }

    /// As [`Trust::holds`], while Redis is away.
    pub fn goes_on(&self, proved: Option<Moment>, now: Moment) -> bool {
        within(self.serve, proved, now)
    }

    /// The view must have been confirmed at this moment or later to answer a request that arrived at `arrived`.
    pub fn proved_by(&self, arrived: Moment) -> Moment {
        arrived.minus(self.max_lag)
    }

    /// Somebody waited until `now`, in vain.
    pub fn doubt(&self, now: Moment) {
        self.doubted.fetch_max(now.as_nanos(), Ordering::AcqRel);
    }

    /// For a question that does not say when its request arrived: every request that got so far has waited for its
    /// own proof. In strict mode that one holds unless somebody has waited in vain since.
    pub fn vouches(&self, proved: Option<Moment>, now: Moment) -> bool {
        if !self.is_strict() {
            return self.holds(proved, now);
        }
        let doubted = Moment::from_nanos(self.doubted.load(Ordering::Acquire));
        proved.is_some_and(|proved| proved > doubted)
    }
}

fn within(lag: Duration, proved: Option<Moment>, now: Moment) -> bool {
    !lag.is_zero() && proved.is_some_and(|proved| now.since(proved) <= lag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn bounded_it_holds_for_max_lag_and_goes_on_for_as_long_as_it_may() {
        let trust = Trust::new(SECOND, OnStoreLoss::Serve(30 * SECOND));
        let proved = Moment::now();
        let holds = |after| trust.holds(Some(proved), proved.plus(after));
        assert_eq!((holds(SECOND), holds(2 * SECOND)), (true, false));
        let goes_on = |after| trust.goes_on(Some(proved), proved.plus(after));
        assert_eq!((goes_on(30 * SECOND), goes_on(31 * SECOND)), (true, false));
        assert!(!trust.holds(None, proved) && !trust.goes_on(None, proved));
        let bypass = Trust::new(SECOND, OnStoreLoss::Bypass);
        assert!(!bypass.goes_on(Some(proved), proved));
    }

    #[test]
    fn strict_it_vouches_until_somebody_waited_in_vain() {
        let trust = Trust::new(Duration::ZERO, OnStoreLoss::Bypass);
        let proved = Moment::now().plus(SECOND);
        assert!(!trust.holds(Some(proved), proved));
        assert!(trust.vouches(Some(proved), proved.plus(SECOND)));
        trust.doubt(proved.plus(SECOND));
        assert!(!trust.vouches(Some(proved), proved.plus(SECOND)));
        assert!(!trust.vouches(Some(proved.plus(SECOND)), proved.plus(2 * SECOND)));
        assert!(trust.vouches(Some(proved.plus(2 * SECOND)), proved.plus(3 * SECOND)));
    }
}
