//! How long an upstream keeps idle connections, as far as it can be observed. Few servers announce it.

use std::time::Duration;

/// A close after less idle time is no evidence: a server that stops closes connections that were just used.
const MIN_EVIDENCE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct ObservedKeepAlive(Option<Duration>);

impl ObservedKeepAlive {
    /// Records that the upstream closed a connection after this idle time.
    pub(super) fn record_close(&mut self, idle: Duration) {
        if idle >= MIN_EVIDENCE {
            self.0 = Some(self.0.map_or(idle, |shortest| shortest.min(idle)));
        }
    }

    /// Records that a connection was open after this idle time. If it is twice as long, a time-out closed no other one. A
    /// server may close some time after its time-out.
    pub(super) fn record_open(&mut self, idle: Duration) {
        self.0 = self.0.filter(|shortest| *shortest * 2 > idle);
    }

    /// The shortest idle time after which the upstream closed a connection, since one was open for twice as long.
    pub(super) fn shortest(&self) -> Option<Duration> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_was_open_for_twice_as_long_refutes_a_close() {
        let seconds = Duration::from_secs;
        let mut observed = ObservedKeepAlive::default();
        observed.record_close(Duration::from_millis(99));
        assert_eq!(observed.shortest(), None);
        observed.record_close(seconds(3));
        observed.record_close(seconds(2));
        observed.record_close(seconds(4));
        observed.record_open(Duration::from_millis(3999));
        assert_eq!(observed.shortest(), Some(seconds(2)));
        observed.record_open(seconds(4));
        assert_eq!(observed.shortest(), None);
    }
}
