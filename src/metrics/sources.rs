//! State and counters of each source of change events.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::exposition::MetricFamily;
use super::{Counter, Metrics};
use crate::clock::{Moment, Timestamp, saturating_micros};
use crate::policy::event::EventOutcome;
use crate::store::remote_status::{CONNECTING, FailureReason};

/// Reason for refusing a webhook request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WebhookRefusal {
    /// The signature or timestamp is missing or malformed.
    Unsigned,
    WrongSignature,
    /// The timestamp is outside the accepted window.
    Untimely,
    Replayed,
    TooLarge,
    /// The store rejected the purge.
    NotPurged,
}

impl WebhookRefusal {
    const ALL: [WebhookRefusal; 6] = [
        WebhookRefusal::Unsigned,
        WebhookRefusal::WrongSignature,
        WebhookRefusal::Untimely,
        WebhookRefusal::Replayed,
        WebhookRefusal::TooLarge,
        WebhookRefusal::NotPurged,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            WebhookRefusal::Unsigned => "unsigned",
            WebhookRefusal::WrongSignature => "wrong-signature",
            WebhookRefusal::Untimely => "untimely",
            WebhookRefusal::Replayed => "replayed",
            WebhookRefusal::TooLarge => "too-large",
            WebhookRefusal::NotPurged => "not-purged",
        }
    }
}

/// Tolerated silence of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SilenceLimit {
    pub after: Duration,
    /// Only events count, not mere contact.
    pub for_events: bool,
}

/// Counters and state of one source.
#[derive(Debug)]
pub(crate) struct SourceMetrics {
    pub name: String,
    /// `stream`, `pubsub` or `webhook`.
    pub kind: &'static str,
    patience: Option<SilenceLimit>,
    by_meaning: [Counter; EventOutcome::ALL.len()],
    not_taken: [Counter; WebhookRefusal::ALL.len()],
    missed: Counter,
    /// Nanoseconds of a `Moment`; negative before this process began.
    contact: AtomicI64,
    event: AtomicI64,
    lag_micros: AtomicU64,
    state: Mutex<SourceHealth>,
}

#[derive(Clone, Debug, Default)]
struct SourceHealth {
    trouble: Option<FailureReason>,
    /// Another replica reads the source.
    stands_by: bool,
    position: Option<String>,
    last_event: Option<Timestamp>,
}

/// State of a source at one time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SourceStatus {
    pub name: String,
    pub kind: &'static str,
    pub status: &'static str,
    pub trouble: Option<FailureReason>,
    pub position: Option<String>,
    pub last_event: Option<Timestamp>,
    pub contact_ago: Duration,
    pub(super) event_ago: Duration,
    pub(super) is_silent: bool,
    pub lag: Duration,
    pub(super) by_outcome: [u64; EventOutcome::ALL.len()],
    pub(super) refused: [u64; WebhookRefusal::ALL.len()],
    pub missed: u64,
}

impl SourceStatus {
    /// Number of events.
    pub(crate) fn events(&self) -> u64 {
        self.by_outcome.iter().sum()
    }
}

impl Metrics {
    /// Registers a source.
    pub(crate) fn register_source(
        &self,
        name: &str,
        kind: &'static str,
        patience: Option<SilenceLimit>,
    ) -> Arc<SourceMetrics> {
        let figures = Arc::new(SourceMetrics::new(name, kind, patience));
        self.lock_sources().push(figures.clone());
        figures
    }

    pub(crate) fn source_statuses(&self) -> Vec<SourceStatus> {
        self.lock_sources().iter().map(|source| source.status()).collect()
    }

    fn lock_sources(&self) -> MutexGuard<'_, Vec<Arc<SourceMetrics>>> {
        self.process.sources.lock()
    }
}

pub(super) fn families(sources: &[SourceStatus]) -> Vec<MetricFamily> {
    let mut up = MetricFamily::gauge("larder_event_source_up", "1 if the source is available.");
    let mut silent = MetricFamily::gauge(
        "larder_event_source_silent",
        "1 if the source has been silent for longer than `stale_after`, so that `fallback_ttl` applies.",
    );
    let mut events = MetricFamily::counter("larder_events", "Change events by outcome.");
    let mut missed = MetricFamily::counter(
        "larder_events_missed",
        "Possible event gaps, each of which purged everything the source covers.",
    );
    let mut refused =
        MetricFamily::counter("larder_webhooks_refused", "Webhook requests refused, by reason.");
    let mut lag =
        MetricFamily::gauge("larder_event_lag_seconds", "Age of the last event when its purge was done.");
    let mut age = MetricFamily::gauge(
        "larder_event_age_seconds",
        "Seconds since the last event, or since startup if there was none.",
    );
    for source in sources {
        let labels = || vec![("source", source.name.clone()), ("kind", source.kind.to_owned())];
        let with = |name, value: &str| [labels(), vec![(name, value.to_owned())]].concat();
        up.push(labels(), f64::from(u8::from(source.trouble.is_none())));
        silent.push(labels(), f64::from(u8::from(source.is_silent)));
        for (outcome, count) in EventOutcome::ALL.iter().zip(source.by_outcome) {
            events.push(with("meaning", outcome.as_str()), count as f64);
        }
        missed.push(labels(), source.missed as f64);
        for (reason, count) in WebhookRefusal::ALL.iter().zip(source.refused) {
            refused.push_if_any(with("reason", reason.as_str()), count);
        }
        lag.push(labels(), source.lag.as_secs_f64());
        age.push(labels(), source.event_ago.as_secs_f64());
    }
    vec![up, silent, events, missed, refused, lag, age]
}

impl SourceMetrics {
    fn new(name: &str, kind: &'static str, patience: Option<SilenceLimit>) -> Self {
        let connecting = || FailureReason::new(CONNECTING, "not connected yet");
        let trouble = (kind != "webhook").then(connecting);
        let started = nanos_at(Moment::now(), Duration::ZERO);
        Self {
            name: name.to_owned(),
            kind,
            patience,
            by_meaning: Default::default(),
            not_taken: Default::default(),
            missed: Counter::default(),
            // Silence counts from the start, unless other replicas heard the source before.
            contact: started.into(),
            event: started.into(),
            lag_micros: AtomicU64::default(),
            state: Mutex::new(SourceHealth { trouble, ..SourceHealth::default() }),
        }
    }

    /// Records that the source answered.
    pub(crate) fn record_contact(&self) {
        self.record_heard(Some(Duration::ZERO), None);
        self.lock_state().trouble = None;
    }

    /// Records contacts and events of any replica.
    pub(crate) fn record_heard(&self, contact_ago: Option<Duration>, event_ago: Option<Duration>) {
        let now = Moment::now();
        for (at, ago) in [(&self.contact, contact_ago), (&self.event, event_ago)] {
            if let Some(ago) = ago {
                at.fetch_max(nanos_at(now, ago), Ordering::AcqRel);
            }
        }
    }

    /// Restores what was recorded before this process started, in place of its start time.
    pub(crate) fn restore_heard(&self, contact_ago: Option<Duration>, event_ago: Option<Duration>) {
        let now = Moment::now();
        for (at, ago) in [(&self.contact, contact_ago), (&self.event, event_ago)] {
            if let Some(ago) = ago {
                at.store(nanos_at(now, ago), Ordering::Release);
            }
        }
    }

    /// Sets whether another replica reads the source; that replica then reports its errors.
    pub(crate) fn set_standby(&self, stands_by: bool) {
        let mut state = self.lock_state();
        state.stands_by = stands_by;
        if stands_by {
            state.trouble = None;
        }
    }

    /// Records why the source is unavailable. Returns whether the reason is new.
    pub(crate) fn set_error(&self, reason: &FailureReason) -> bool {
        let mut state = self.lock_state();
        let is_news = state.trouble.as_ref() != Some(reason);
        state.trouble = Some(reason.clone());
        is_news
    }

    /// Counts an applied event, by which the source is heard. `lag` is its age, if known.
    pub(crate) fn record_event(&self, meaning: EventOutcome, at: Timestamp, lag: Option<Duration>) {
        self.count_event(meaning, at, lag);
        self.record_heard(Some(Duration::ZERO), Some(Duration::ZERO));
    }

    /// Counts an applied event that may lie far behind what the source says now.
    pub(crate) fn count_event(&self, meaning: EventOutcome, at: Timestamp, lag: Option<Duration>) {
        self.by_meaning[meaning as usize].add(1);
        if let Some(lag) = lag {
            self.lag_micros.store(saturating_micros(lag), Ordering::Relaxed);
        }
        self.lock_state().last_event = Some(at);
    }

    pub(crate) fn set_position(&self, position: String) {
        self.lock_state().position = Some(position);
    }

    pub(crate) fn record_missed(&self) {
        self.missed.add(1);
    }

    pub(crate) fn record_refusal(&self, reason: WebhookRefusal) {
        self.not_taken[reason as usize].add(1);
    }

    /// Whether the source has been silent for longer than tolerated.
    pub(crate) fn is_silent(&self, now: Moment) -> bool {
        let Some(SilenceLimit { after: lasts, for_events }) = self.patience else { return false };
        elapsed_since(if for_events { &self.event } else { &self.contact }, now) > lasts
    }

    fn lag(&self) -> Duration {
        Duration::from_micros(self.lag_micros.load(Ordering::Relaxed))
    }

    fn status(&self) -> SourceStatus {
        let SourceHealth { trouble, stands_by, position, last_event } = self.lock_state().clone();
        let now = Moment::now();
        let is_silent = self.is_silent(now);
        SourceStatus {
            name: self.name.clone(),
            kind: self.kind,
            status: match (&trouble, is_silent) {
                (Some(_), _) => "away",
                (None, true) => "silent",
                (None, false) if stands_by => "standby",
                (None, false) => "ok",
            },
            trouble,
            position,
            last_event,
            contact_ago: elapsed_since(&self.contact, now),
            event_ago: elapsed_since(&self.event, now),
            is_silent,
            lag: self.lag(),
            by_outcome: self.by_meaning.each_ref().map(Counter::get),
            refused: self.not_taken.each_ref().map(Counter::get),
            missed: self.missed.get(),
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, SourceHealth> {
        self.state.lock()
    }
}

/// `ago` before `now`, which may be long before this process began.
fn nanos_at(now: Moment, ago: Duration) -> i64 {
    let nanos = |nanos| i64::try_from(nanos).unwrap_or(i64::MAX);
    nanos(u128::from(now.as_nanos())).saturating_sub(nanos(ago.as_nanos()))
}

fn elapsed_since(at: &AtomicI64, now: Moment) -> Duration {
    let elapsed = nanos_at(now, Duration::ZERO).saturating_sub(at.load(Ordering::Acquire));
    Duration::from_nanos(u64::try_from(elapsed).unwrap_or_default())
}
