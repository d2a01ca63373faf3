//! Spans of requests for an OpenTelemetry collector, in builds with the feature `otel`: which requests get them, and
//! what they say. They are sent by a thread of their own.

#[cfg(feature = "otel")]
mod export;
#[cfg(not(feature = "otel"))]
mod none;
#[cfg(feature = "otel")]
mod post;

#[cfg(feature = "otel")]
use export::Exporter;
#[cfg(not(feature = "otel"))]
use none::Exporter;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::clock::Timestamp;
use crate::config::TracingSettings;

pub struct Telemetry {
    /// Of 2^32.
    sample: u64,
    exporter: Exporter,
}

/// A span that has ended.
pub struct Ended {
    pub place: Place,
    pub kind: Kind,
    pub name: String,
    pub begun: Timestamp,
    pub ended: Timestamp,
    pub facts: Vec<(&'static str, Fact)>,
    /// What went wrong on larder's side of it.
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A client's request.
    Server,
    /// larder's own, to the upstream.
    Client,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    Text(String),
    Number(i64),
    Flag(bool),
}

/// Where a span stands in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub trace: u128,
    pub own: u64,
    pub parent: Option<u64>,
    /// The parent is somebody else's.
    pub is_remote: bool,
}

/// What a client says of its own trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    pub trace: u128,
    pub parent: u64,
    pub is_sampled: bool,
}

/// A span that goes on.
pub struct Span {
    telemetry: Arc<Telemetry>,
    pub place: Place,
    kind: Kind,
    begun: Timestamp,
    since: Instant,
}

impl Telemetry {
    pub fn start(settings: &TracingSettings) -> io::Result<Arc<Self>> {
        let sample = (settings.sample.as_f64() * 4_294_967_296.0) as u64;
        Ok(Arc::new(Self { sample, exporter: Exporter::start(settings)? }))
    }

    /// `None`: this request gets no span. Who sends a trace decides; else it is a matter of chance.
    pub fn begin(self: &Arc<Self>, remote: Option<Remote>, now: Timestamp) -> Option<Span> {
        let is_sampled = remote.map_or_else(|| random() >> 32 < self.sample, |remote| remote.is_sampled);
        let place = || Place {
            trace: remote.map_or_else(random_id, |remote| remote.trace),
            own: random().max(1),
            parent: remote.map(|remote| remote.parent),
            is_remote: remote.is_some(),
        };
        is_sampled.then(|| self.span(place(), Kind::Server, now))
    }

    fn span(self: &Arc<Self>, place: Place, kind: Kind, begun: Timestamp) -> Span {
        Span { telemetry: self.clone(), place, kind, begun, since: Instant::now() }
    }

    /// Sends what waits, but does not wait for long: before the process ends.
    pub fn flush(&self) {
        self.exporter.flush();
    }
}

impl Span {
    /// What is done within it.
    pub fn child(&self, now: Timestamp) -> Span {
        let Place { trace, own, .. } = self.place;
        let place = Place { trace, own: random().max(1), parent: Some(own), is_remote: false };
        self.telemetry.span(place, Kind::Client, now)
    }

    pub fn end(&self, name: String, facts: Vec<(&'static str, Fact)>, error: Option<String>) {
        let ended = self.begun.plus(self.since.elapsed());
        let Span { place, kind, begun, .. } = *self;
        self.telemetry.exporter.export(Ended { place, kind, name, begun, ended, facts, error });
    }
}

/// For what nobody else is called: as [`random`], of 128 bits.
pub fn random_id() -> u128 {
    u128::from(random()) << 64 | u128::from(random())
}

/// Each time another number, that cannot be guessed from those before.
pub fn random() -> u64 {
    // Its keys are the system's randomness, and no two are alike.
    RandomState::new().hash_one(0)
}
