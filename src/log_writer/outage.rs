//! When to say that a sink fails, and that it works again.

use std::time::{Duration, Instant};

/// A sink that fails and works by turns is named once in this time.
const MIN_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct OutageReport {
    /// A failure was reported, and no recovery since.
    is_reported: bool,
    /// No failure is reported before.
    quiet_until: Option<Instant>,
}

impl OutageReport {
    /// Takes note of a batch. Whether its outcome is a change to report.
    pub(super) fn record(&mut self, has_failed: bool, now: Instant) -> bool {
        let is_quiet = has_failed && self.quiet_until.is_some_and(|end| now < end);
        if has_failed == self.is_reported || is_quiet {
            return false;
        }
        if has_failed {
            self.quiet_until = Some(now + MIN_INTERVAL);
        }
        self.is_reported = has_failed;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_reported_once_and_one_pair_a_minute() {
        let (mut outage, start) = (OutageReport::default(), Instant::now());
        let mut report =
            |has_failed, seconds| outage.record(has_failed, start + Duration::from_secs(seconds));
        assert!(!report(false, 0));
        assert!(report(true, 1) && !report(true, 2) && report(false, 3) && !report(false, 4));
        assert!(!report(true, 5) && !report(false, 6) && !report(true, 60), "by turns");
        assert!(report(true, 61) && report(false, 61));
    }
}
