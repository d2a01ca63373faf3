//! What is known of each source of change events: whether it can be heard, what it said, and when.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::exposition::Family;
use super::{Count, Metrics};
use crate::clock::{Moment, Timestamp, micros};
use crate::policy::event::Meaning;

/// Why a webhook's request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// Without a signature, or with one that can't be read.
    Unsigned,
    WrongSignature,
    /// Signed too long ago, or for a time to come.
    Untimely,
    Replayed,
    TooLarge,
    /// The store did not take its purge.
    NotPurged,
}

impl NotTaken {
    const ALL: [NotTaken; 6] = [
        NotTaken::Unsigned,
        NotTaken::WrongSignature,
        NotTaken::Untimely,
        NotTaken::Replayed,
        NotTaken::TooLarge,
        NotTaken::NotPurged,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            NotTaken::Unsigned => "unsigned",
            NotTaken::WrongSignature => "wrong-signature",
            NotTaken::Untimely => "untimely",
            NotTaken::Replayed => "replayed",
            NotTaken::TooLarge => "too-large",
            NotTaken::NotPurged => "not-purged",
        }
    }
}

/// When silence means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    pub lasts: Duration,
    /// Contact alone is not enough.
    pub for_events: bool,
}

/// One source, as everybody may look at it.
#[derive(Debug)]
pub struct SourceFigures {
    pub name: String,
    /// `stream`, `pubsub`, `webhook`.
    pub kind: &'static str,
    patience: Option<Patience>,
    by_meaning: [Count; Meaning::ALL.len()],
    not_taken: [Count; NotTaken::ALL.len()],
    missed: Count,
    /// In the nanoseconds of a `Moment`; zero: never.
    contact: AtomicU64,
    event: AtomicU64,
    lag_micros: AtomicU64,
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    trouble: Option<String>,
    /// Another replica reads it.
    stands_by: bool,
    position: Option<String>,
    last_event: Option<Timestamp>,
}

/// What a source is like now.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceNow {
    pub name: String,
    pub kind: &'static str,
    pub status: &'static str,
    pub trouble: Option<String>,
    pub position: Option<String>,
    pub last_event: Option<Timestamp>,
    pub contact_ago: Option<Duration>,
    pub lag: Duration,
    pub events: u64,
    pub missed: u64,
}

impl Metrics {
    /// A source is there from now on.
    pub fn watch_source(
        &self,
        name: &str,
        kind: &'static str,
        patience: Option<Patience>,
    ) -> Arc<SourceFigures> {
        let figures = Arc::new(SourceFigures::new(name, kind, patience));
        self.sources().push(figures.clone());
        figures
    }

    pub fn event_sources(&self) -> Vec<SourceNow> {
        self.sources().iter().map(|source| source.now()).collect()
    }

    /// Whether one of them can't be heard, or is silent for too long.
    pub fn misses_a_source(&self) -> bool {
        self.sources().iter().any(|source| !source.is_well())
    }

    fn sources(&self) -> MutexGuard<'_, Vec<Arc<SourceFigures>>> {
        self.all.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of_sources(&self) -> Vec<Family> {
        let mut up = Family::gauge("larder_event_source_up", "1 if the source can be heard.");
        let mut silent = Family::gauge(
            "larder_event_source_silent",
            "1 if it is silent for longer than `stale_after`: `fallback_ttl` holds.",
        );
        let mut events = Family::counter("larder_events", "Change events, by what came of them.");
        let mut missed = Family::counter(
            "larder_events_missed",
            "How often events may have been missed, so that all they could name was purged.",
        );
        let mut not_taken = Family::counter("larder_webhooks_refused", "Requests of webhooks not taken.");
        let mut lag =
            Family::gauge("larder_event_lag_seconds", "How old the last event was when it had purged.");
        let mut age = Family::gauge(
            "larder_event_age_seconds",
            "Since the last event; if there was none, since the start.",
        );
        for source in self.sources().iter() {
            let labels = || vec![("source", source.name.clone()), ("kind", source.kind.to_owned())];
            let with = |name, value: &str| [labels(), vec![(name, value.to_owned())]].concat();
            up.push(labels(), f64::from(u8::from(source.state().trouble.is_none())));
            silent.push(labels(), f64::from(u8::from(source.is_silent(Moment::now()))));
            for meaning in Meaning::ALL {
                let count = source.by_meaning[meaning as usize].get();
                events.push(with("meaning", meaning.as_str()), count as f64);
            }
            missed.push(labels(), source.missed.get() as f64);
            for reason in NotTaken::ALL {
                let count = source.not_taken[reason as usize].get();
                not_taken.push_if_any(with("reason", reason.as_str()), count);
            }
            lag.push(labels(), source.lag().as_secs_f64());
            age.push(labels(), since(&source.event, Moment::now()).unwrap_or_default().as_secs_f64());
        }
        vec![up, silent, events, missed, not_taken, lag, age]
    }
}

impl SourceFigures {
    fn new(name: &str, kind: &'static str, patience: Option<Patience>) -> Self {
        let trouble = (kind != "webhook").then(|| "not connected yet".to_owned());
        let started = Moment::now().as_nanos();
        Self {
            name: name.to_owned(),
            kind,
            patience,
            by_meaning: Default::default(),
            not_taken: Default::default(),
            missed: Count::default(),
            // Silence counts from the start, unless other replicas know better.
            contact: started.into(),
            event: started.into(),
            lag_micros: AtomicU64::default(),
            state: Mutex::new(State { trouble, ..State::default() }),
        }
    }

    /// The source answered.
    pub fn contact(&self) {
        self.heard_at(Some(Duration::ZERO), None);
        self.state().trouble = None;
    }

    /// Any replica heard of it so long ago.
    pub fn heard_at(&self, contact_ago: Option<Duration>, event_ago: Option<Duration>) {
        let now = Moment::now();
        for (at, ago) in [(&self.contact, contact_ago), (&self.event, event_ago)] {
            if let Some(ago) = ago {
                at.fetch_max(now.minus(ago).as_nanos().max(1), Ordering::AcqRel);
            }
        }
    }

    /// As [`SourceFigures::heard_at`], from before this process: its start was no word.
    pub fn heard_before(&self, contact_ago: Option<Duration>, event_ago: Option<Duration>) {
        let now = Moment::now();
        for (at, ago) in [(&self.contact, contact_ago), (&self.event, event_ago)] {
            if let Some(ago) = ago {
                at.store(now.minus(ago).as_nanos().max(1), Ordering::Release);
            }
        }
    }

    /// Whether this replica reads it itself; if not, what is wrong with it is another's to say.
    pub fn stands_by(&self, stands_by: bool) {
        let mut state = self.state();
        state.stands_by = stands_by;
        if stands_by {
            state.trouble = None;
        }
    }

    /// It can't be heard. Reports whether that is news.
    pub fn trouble(&self, reason: &str) -> bool {
        let mut state = self.state();
        let is_news = state.trouble.as_deref() != Some(reason);
        state.trouble = Some(reason.to_owned());
        is_news
    }

    /// An event came, and what it named is purged. `lag`: how old it is, where that is known.
    pub fn event(&self, meaning: Meaning, at: Timestamp, lag: Option<Duration>) {
        self.by_meaning[meaning as usize].add(1);
        self.heard_at(Some(Duration::ZERO), Some(Duration::ZERO));
        if let Some(lag) = lag {
            self.lag_micros.store(micros(lag), Ordering::Relaxed);
        }
        self.state().last_event = Some(at);
    }

    pub fn read_up_to(&self, position: String) {
        self.state().position = Some(position);
    }

    pub fn missed(&self) {
        self.missed.add(1);
    }

    pub fn not_taken(&self, reason: NotTaken) {
        self.not_taken[reason as usize].add(1);
    }

    /// Whether it is so for longer than is tolerated.
    pub fn is_silent(&self, now: Moment) -> bool {
        let Some(Patience { lasts, for_events }) = self.patience else { return false };
        let ago = if for_events { since(&self.event, now) } else { since(&self.contact, now) };
        ago.is_none_or(|ago| ago > lasts)
    }

    fn is_well(&self) -> bool {
        self.state().trouble.is_none() && !self.is_silent(Moment::now())
    }

    fn lag(&self) -> Duration {
        Duration::from_micros(self.lag_micros.load(Ordering::Relaxed))
    }

    fn now(&self) -> SourceNow {
        let State { trouble, stands_by, position, last_event } = self.state().clone();
        let now = Moment::now();
        SourceNow {
            name: self.name.clone(),
            kind: self.kind,
            status: match (&trouble, self.is_silent(now)) {
                (Some(_), _) => "away",
                (None, true) => "silent",
                (None, false) if stands_by => "standby",
                (None, false) => "ok",
            },
            trouble,
            position,
            last_event,
            contact_ago: since(&self.contact, now),
            lag: self.lag(),
            events: self.by_meaning.iter().map(Count::get).sum(),
            missed: self.missed.get(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn since(at: &AtomicU64, now: Moment) -> Option<Duration> {
    match at.load(Ordering::Acquire) {
        0 => None,
        nanos => Some(now.since(Moment::from_nanos(nanos))),
    }
}
