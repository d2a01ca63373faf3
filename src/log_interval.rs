//! Bounds log lines whose number clients decide: the first is written at once, and then one a minute, with a count.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Moment;

const MINUTE_NANOS: u64 = 60_000_000_000;

/// Events since the last line in the log.
#[derive(Debug, Default)]
pub(crate) struct LogInterval {
    events: AtomicU64,
    /// The [`Moment`] of the next line.
    due: AtomicU64,
}

impl LogInterval {
    /// Counts an event. Returns the number of them since the last line, if one is due.
    pub(crate) fn record(&self, now: Moment) -> Option<u64> {
        self.events.fetch_add(1, Ordering::Relaxed);
        self.take_due(now)
    }

    /// The number of events that no line has told of, if one is due.
    pub(crate) fn take_due(&self, now: Moment) -> Option<u64> {
        if self.events.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let (now, due) = (now.as_nanos(), self.due.load(Ordering::Relaxed));
        let next = now.saturating_add(MINUTE_NANOS);
        let is_mine =
            now >= due && self.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        is_mine.then(|| self.events.swap(0, Ordering::Relaxed)).filter(|events| *events > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment_at(seconds: u64) -> Moment {
        Moment::from_nanos(1 + seconds * 1_000_000_000)
    }

    #[test]
    fn events_are_logged_once_a_minute_with_their_number() {
        let log = LogInterval::default();
        assert_eq!(log.take_due(moment_at(0)), None);
        assert_eq!(log.record(moment_at(1)), Some(1));
        assert_eq!((log.record(moment_at(2)), log.record(moment_at(60))), (None, None));
        assert_eq!(log.record(moment_at(61)), Some(3));
        assert_eq!((log.record(moment_at(62)), log.take_due(moment_at(62))), (None, None));
        assert_eq!((log.take_due(moment_at(121)), log.take_due(moment_at(300))), (Some(1), None));
    }
}
