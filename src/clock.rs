//! Wall clock and monotonic time. Nothing else calls `SystemTime::now`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use tokio::sync::Notify;

/// A point in time, in microseconds since 1970-01-01T00:00:00Z. Arithmetic saturates, so a clock that steps back
/// never makes an age negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// A time from microseconds since 1970.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// A time from seconds since 1970.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since 1970.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Time elapsed since `earlier`, or zero.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The time `duration` later, saturating.
    pub fn plus(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(saturating_micros(duration)))
    }

    /// The time `duration` earlier, not before 1970.
    pub fn minus(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(saturating_micros(duration)))
    }

    /// Converts a UTC date and the seconds since its midnight; times before 1970 become 1970. `None` if there is no such
    /// date.
    pub(crate) fn from_civil(year: u64, month: u64, day: u64, seconds: u64) -> Option<Timestamp> {
        let day = Date::new(year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?).ok()?;
        let days = i64::from((day - date(1970, 1, 1)).get_days());
        let seconds = (days * 86_400).saturating_add_unsigned(seconds);
        Some(Timestamp::from_secs(seconds.try_into().unwrap_or_default()))
    }

    /// Formats as RFC 3339 in UTC, with this many decimals.
    pub(crate) fn to_rfc3339(self, decimals: usize) -> String {
        format!("{:.decimals$}", self.to_jiff())
    }

    /// Formats in UTC, by the directives of `strftime`.
    pub fn format(self, directives: &str) -> String {
        self.to_jiff().strftime(directives).to_string()
    }

    /// The year in UTC.
    pub(crate) fn year(self) -> u64 {
        u64::try_from(self.to_jiff().to_zoned(TimeZone::UTC).year()).unwrap_or_default()
    }

    /// The latest representable time for those after the year 9999.
    fn to_jiff(self) -> jiff::Timestamp {
        let micros = i64::try_from(self.0).unwrap_or(i64::MAX);
        jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX)
    }
}

/// Duration in microseconds, saturating at `u64::MAX`.
pub(crate) fn saturating_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A point on the boot-time clock, which never steps back, in nanoseconds since the first call in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// Never `Moment(0)`, which means "never" to some callers.
    pub fn now() -> Self {
        let clock = MONOTONIC.get_or_init(|| MonotonicClock::starting_now(nanos_since_boot));
        Moment((clock.nanos)().saturating_sub(clock.first).saturating_add(1))
    }

    /// The time since then, zero if it lies ahead.
    pub fn elapsed(self) -> Duration {
        Moment::now().since(self)
    }

    /// A moment from nanoseconds.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the first call in this process.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    const fn as_micros(self) -> u64 {
        self.0 / 1000
    }

    /// Time elapsed since `earlier`, or zero.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `duration` later, saturating.
    pub fn plus(self, duration: Duration) -> Moment {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Moment(self.0.saturating_add(nanos))
    }

    /// The moment `duration` earlier, saturating.
    pub fn minus(self, duration: Duration) -> Moment {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Moment(self.0.saturating_sub(nanos))
    }
}

/// The source of all [`Moment`]s.
struct MonotonicClock {
    nanos: fn() -> u64,
    first: u64,
}

static MONOTONIC: OnceLock<MonotonicClock> = OnceLock::new();

impl MonotonicClock {
    fn starting_now(nanos: fn() -> u64) -> Self {
        Self { nanos, first: nanos() }
    }
}

/// Replaces the boot-time clock for this whole process by that of a simulation, unless it was read before.
pub fn simulate_time(nanos: fn() -> u64) {
    MONOTONIC.get_or_init(|| MonotonicClock { nanos, first: 0 });
}

/// The clock that also runs while the machine is suspended: what was confirmed before is old afterwards.
fn nanos_since_boot() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let nanos = time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec);
    u64::try_from(nanos).unwrap_or_default()
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Timestamp(0).plus(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

/// The system's clock, or a manual one for tests.
#[derive(Clone, Debug, Default)]
pub struct Clock(ClockSource);

#[derive(Clone, Debug, Default)]
enum ClockSource {
    #[default]
    System,
    Manual(Arc<SetTime>),
    /// Its lead over [`Moment`]s, in microseconds.
    Running(Arc<SetTime>),
}

/// The time of a clock that is moved by hand.
#[derive(Debug, Default)]
struct SetTime {
    micros: AtomicU64,
    /// By how much it was ever moved forward, in microseconds.
    forward: AtomicU64,
    moved: Notify,
}

impl SetTime {
    fn load(&self) -> u64 {
        self.micros.load(Ordering::SeqCst)
    }
}

impl Clock {
    /// The system's clock, or the simulated one.
    pub fn system() -> Self {
        Self(ClockSource::System)
    }

    /// A clock that stands still until it is moved. Clones share it.
    pub fn manual(start: Timestamp) -> Self {
        Self(ClockSource::Manual(Arc::new(SetTime { micros: AtomicU64::new(start.0), ..SetTime::default() })))
    }

    /// A clock that runs with [`Moment`]s and can be set. Clones share it.
    pub fn running(start: Timestamp) -> Self {
        let clock = Self(ClockSource::Running(Arc::default()));
        clock.set(start);
        clock
    }

    /// The time now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            ClockSource::System => SystemTime::now().into(),
            ClockSource::Manual(time) => Timestamp(time.load()),
            ClockSource::Running(lead) => Timestamp(lead.load().wrapping_add(Moment::now().as_micros())),
        }
    }

    /// Moves a manual clock forward; no effect on the system's clock.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().plus(by));
    }

    /// Sets a manual or running clock, also backwards; no effect on the system's clock.
    pub fn set(&self, to: Timestamp) {
        let forward = saturating_micros(to.since(self.now()));
        let (time, micros) = match &self.0 {
            ClockSource::System => return,
            ClockSource::Manual(time) => (time, to.0),
            ClockSource::Running(lead) => (lead, to.0.wrapping_sub(Moment::now().as_micros())),
        };
        time.micros.store(micros, Ordering::SeqCst);
        time.forward.fetch_add(forward, Ordering::SeqCst);
        time.moved.notify_waiters();
    }

    /// A moment that never steps back. Those of a clock that is moved by hand move forward with it; those of a manual one
    /// otherwise stand still.
    pub(crate) fn moment(&self) -> Moment {
        let forward = |time: &SetTime| Duration::from_micros(time.forward.load(Ordering::SeqCst));
        match &self.0 {
            ClockSource::System => Moment::now(),
            ClockSource::Manual(time) => Moment(1).plus(forward(time)),
            ClockSource::Running(time) => Moment::now().plus(forward(time)),
        }
    }

    /// Waits until [`Clock::moment`] has reached `due`.
    pub(crate) async fn sleep_until(&self, due: Moment) {
        loop {
            let left = || due.since(self.moment());
            match &self.0 {
                ClockSource::System => return tokio::time::sleep(left()).await,
                ClockSource::Manual(time) | ClockSource::Running(time) => {
                    let moved = time.moved.notified();
                    if left().is_zero() {
                        return;
                    }
                    let runs = matches!(self.0, ClockSource::Running(_));
                    tokio::select! {
                        () = moved => {}
                        () = tokio::time::sleep(left()), if runs => {}
                    }
                }
            }
        }
    }
}
