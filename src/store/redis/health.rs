//! Whether Redis can be asked: the circuit breaker in front of it.
//!
//! Closed: it answers. Open: it does not, and nothing waits for it. Half-open: a probe is under way; the confirmation
//! of the purge index is the probe. One failure opens it, because every request that waits for a reply that does not
//! come waits in vain; but a single reply that is late may be a machine's that is busy, so it takes two of these in a
//! row. One answered probe closes it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::failure::Failure;
use crate::store::remote::Breaker;

#[derive(Debug)]
pub struct Health {
    breaker: AtomicU8,
    opened: AtomicU64,
    /// The last reply did not come in time.
    was_late: AtomicBool,
    trouble: Mutex<Trouble>,
}

#[derive(Debug, Default)]
struct Trouble {
    reason: String,
    /// Why there is no connection; it says more than that a reply did not come.
    disconnected: Option<String>,
    since: Option<Instant>,
    replaced: Option<Instant>,
    /// The log says so.
    is_told: bool,
}

/// A server that has not answered for so long hangs: its connection is of no use.
const HANGS: Duration = Duration::from_millis(1500);

/// Connections are replaced no more often than this.
const BETWEEN_REPLACEMENTS: Duration = Duration::from_secs(3);

/// Nothing is known at first, so nothing is asked but by probes.
impl Default for Health {
    fn default() -> Self {
        let disconnected = Some("not connected yet".to_owned());
        Self {
            breaker: AtomicU8::new(Breaker::Open as u8),
            opened: AtomicU64::new(0),
            was_late: AtomicBool::new(false),
            trouble: Mutex::new(Trouble { disconnected, ..Trouble::default() }),
        }
    }
}

impl Health {
    pub fn is_good(&self) -> bool {
        self.breaker.load(Ordering::Acquire) == Breaker::Closed as u8
    }

    pub fn breaker(&self) -> Breaker {
        match self.breaker.load(Ordering::Acquire) {
            0 => Breaker::Closed,
            1 => Breaker::HalfOpen,
            _ => Breaker::Open,
        }
    }

    /// Whether it was opened less than `ago` ago: a probe may close it at any moment.
    pub fn is_in_trouble_since(&self, ago: Duration) -> bool {
        self.trouble().since.is_some_and(|since| since.elapsed() < ago)
    }

    /// How often it was opened.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Why it is open; `None` if it is not.
    pub fn reason(&self) -> Option<String> {
        (!self.is_good()).then(|| self.trouble().why())
    }

    /// Whether nothing has been heard of it yet, good or bad.
    pub fn is_new(&self) -> bool {
        !self.is_good() && self.trouble().since.is_none()
    }

    pub fn probing(&self) {
        let (open, half) = (Breaker::Open as u8, Breaker::HalfOpen as u8);
        // Closed stays closed.
        let _not_open = self.breaker.compare_exchange(open, half, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// A reply has come; whether it can be used matters to who asked.
    pub fn replied(&self) {
        if self.was_late.load(Ordering::Relaxed) {
            self.was_late.store(false, Ordering::Relaxed);
        }
    }

    /// Reports whether that opened it.
    pub fn command_failed(&self, failure: &Failure) -> bool {
        let is_late = *failure == Failure::TimedOut;
        if is_late && !self.was_late.swap(true, Ordering::Relaxed) && self.is_good() {
            return false;
        }
        self.open(|trouble| {
            let reason = failure.to_string();
            if trouble.reason != reason {
                trouble.reason = reason;
            }
        })
    }

    pub fn disconnected(&self, reason: &str) {
        self.open(|trouble| {
            if trouble.disconnected.as_deref() != Some(reason) {
                trouble.disconnected = Some(reason.to_owned());
            }
        });
    }

    pub fn connected(&self) {
        self.trouble().disconnected = None;
    }

    fn open(&self, say_why: impl FnOnce(&mut Trouble)) -> bool {
        let mut trouble = self.trouble();
        let before = self.breaker.swap(Breaker::Open as u8, Ordering::AcqRel);
        say_why(&mut trouble);
        trouble.since.get_or_insert_with(Instant::now);
        let was_good = before == Breaker::Closed as u8;
        if was_good {
            self.opened.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(reason = trouble.why(), "a command failed; Redis is probed");
        }
        was_good
    }

    /// A single command may fail; once the probe after it has, Redis is away. The command itself has been told to
    /// [`Health::command_failed`].
    pub fn probe_failed(&self, failure: &Failure) {
        if *failure != Failure::TimedOut {
            self.command_failed(failure);
        }
        if self.is_good() {
            return;
        }
        let mut trouble = self.trouble();
        if !std::mem::replace(&mut trouble.is_told, true) {
            tracing::warn!(reason = trouble.why(), "Redis is away");
        }
    }

    pub fn answered(&self) {
        if self.is_good() {
            return;
        }
        let mut trouble = self.trouble();
        let before = std::mem::take(&mut *trouble);
        self.was_late.store(false, Ordering::Relaxed);
        self.breaker.store(Breaker::Closed as u8, Ordering::Release);
        if before.is_told || before.since.is_none() {
            tracing::info!("Redis is there");
        }
    }

    /// Whether the server has been silent for so long that its connection had better be another one. Says so once in a
    /// while only.
    pub fn hangs(&self) -> bool {
        let mut trouble = self.trouble();
        let long_ago =
            |instant: Option<Instant>, ago| instant.is_some_and(|instant| instant.elapsed() >= ago);
        let hangs = long_ago(trouble.since, HANGS)
            && (trouble.replaced.is_none() || long_ago(trouble.replaced, BETWEEN_REPLACEMENTS));
        if hangs {
            trouble.replaced = Some(Instant::now());
        }
        hangs
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trouble {
    fn why(&self) -> String {
        self.disconnected.as_ref().unwrap_or(&self.reason).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Health {
        let health = Health::default();
        health.connected();
        health.answered();
        health
    }

    #[test]
    fn one_late_reply_opens_nothing_and_two_in_a_row_do() {
        let health = well();
        assert!(!health.command_failed(&Failure::TimedOut));
        health.probe_failed(&Failure::TimedOut);
        assert!(health.is_good());
        health.replied();
        assert!(!health.command_failed(&Failure::TimedOut));
        assert!(health.command_failed(&Failure::TimedOut));
        assert!(!health.is_good());
        assert_eq!(health.reason().as_deref(), Some("Redis did not answer in time"));
        health.answered();
        assert_eq!((health.is_good(), health.reason(), health.opened()), (true, None, 1));
    }

    #[test]
    fn any_other_failure_opens_it_at_once() {
        for failure in [Failure::Broken("reset".into()), Failure::Refused("READONLY".into())] {
            let health = well();
            assert!(health.command_failed(&failure));
            assert!(!health.is_good());
        }
        let health = well();
        health.disconnected("Connection refused");
        assert!(!health.is_good());
    }

    #[test]
    fn why_there_is_no_connection_says_more_than_that_no_reply_came() {
        let health = Health::default();
        assert_eq!(health.reason().as_deref(), Some("not connected yet"));
        health.disconnected("IO Error: Connection refused");
        health.command_failed(&Failure::TimedOut);
        health.probe_failed(&Failure::TimedOut);
        assert_eq!(health.reason().as_deref(), Some("IO Error: Connection refused"));
        health.connected();
        assert_eq!(health.reason().as_deref(), Some("Redis did not answer in time"));
    }
}
