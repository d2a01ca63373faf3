//! A bounded sketch of the traffic on routes in `mode: observe`: what changes an answer, and which writes are followed by
//! changes of which reads. `larder suggest --observed` makes a configuration of it.
//!
//! Contents, credentials and values are kept only as fingerprints under a random key, which nobody learns. Words of paths
//! and names of parameters and fields are kept as they are. Memory and work are bounded: see the constants.

mod budget;
mod dimensions;
mod links;
mod paths;
mod recorder;
mod report;
mod samples;
mod templates;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use http::header::{ACCEPT, ACCEPT_LANGUAGE};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use parking_lot::Mutex;

pub use self::dimensions::DimensionEvidence;
pub(crate) use self::dimensions::LIFETIMES;
pub(crate) use self::paths::{is_plain_word, is_value_segment, parameter_name};
pub use self::recorder::{ReadRecorder, WriteRecorder};
pub use self::report::{ObservedRoute, ObservedTraffic, SharedChange, SharedValue, WriteLink};

use self::budget::{ContentBudget, ObservationBudget};
use self::dimensions::Dimensions;
use self::links::WriteLinks;
use self::paths::PathShapes;
use self::samples::{ReadSample, Samples};
use self::templates::TemplateSketches;
use crate::clock::Timestamp;
use crate::policy::{CallerFields, jwt, selecting_fields};

/// Largest content that is fingerprinted.
const MAX_CONTENT_BYTES: usize = 1 << 20;

/// Longest path and query that are observed.
const MAX_TARGET_BYTES: usize = 1_024;

/// Longest name of a parameter or a field that is kept; in the place of others stands [`OTHER_NAME`].
const MAX_NAME_BYTES: usize = 64;
const OTHER_NAME: &str = "(other)";

/// Most parameters of a request; beyond it the request is not compared.
const MAX_PARAMETERS: usize = 12;

/// The request fields that may select a response, besides credentials and fields that are a part of every key.
const COMPARED_FIELDS: [HeaderName; FIELD_COUNT] = [ACCEPT, ACCEPT_LANGUAGE];
const FIELD_COUNT: usize = 2;

/// The sketch of one process.
pub struct TrafficSketch {
    key: RandomState,
    credentials: CallerFields,
    content: ContentBudget,
    state: Mutex<SketchState>,
}

struct SketchState {
    since: Timestamp,
    seen: u64,
    sampled: u64,
    budget: ObservationBudget,
    shapes: PathShapes,
    templates: TemplateSketches,
    samples: Samples,
    links: WriteLinks,
}

impl TrafficSketch {
    /// An empty sketch that began at `now`.
    pub fn new(credentials: &CallerFields, now: Timestamp) -> Self {
        let state = SketchState {
            since: now,
            seen: 0,
            sampled: 0,
            budget: ObservationBudget::default(),
            shapes: PathShapes::default(),
            templates: TemplateSketches::default(),
            samples: Samples::default(),
            links: WriteLinks::default(),
        };
        Self {
            key: RandomState::new(),
            credentials: credentials.clone(),
            content: ContentBudget::default(),
            state: Mutex::new(state),
        }
    }

    /// Counts a read of a host's URI, and returns its recorder, if the budget allows one.
    pub fn begin_read(
        self: &Arc<Self>,
        (host, target): (&str, &http::Uri),
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Option<ReadRecorder> {
        let is_admitted = {
            let mut state = self.state.lock();
            state.seen += 1;
            state.budget.admits_sample(now, &self.content)
        };
        let (path, query) = (target.path(), target.query().unwrap_or_default());
        if !is_admitted || path.len() + query.len() > MAX_TARGET_BYTES {
            return None;
        }
        let dimensions =
            Dimensions { selection: self.selection(host, headers), ..self.dimensions(query, headers)? };
        self.content.begin_read().then(|| ReadRecorder::new(self.clone(), path, dimensions, now))
    }

    /// Remembers a write that is sent now; `None` if it is not kept.
    fn begin_write(&self, head: &Parts, now: Timestamp) -> Option<u64> {
        let (method, path) = (&head.method, head.uri.path());
        let mut state = self.state.lock();
        let SketchState { budget, shapes, links, .. } = &mut *state;
        let is_admitted = budget.admits_write(now, &self.content) && path.len() <= MAX_TARGET_BYTES;
        let path = is_admitted.then(|| shapes.describe(path, &self.key)).flatten();
        match path {
            Some(path) => {
                let name = format!("{method} {}", path.template);
                links.begin(name, (path, self.subject(&head.headers)), now)
            }
            None => links.begin_unknown(),
        }
    }

    /// The traffic seen until `now`.
    pub fn report(&self, now: Timestamp) -> ObservedTraffic {
        let state = self.state.lock();
        report::describe(&state, now)
    }

    /// `None`: the request has too many parameters to be compared.
    fn dimensions(&self, query: &str, headers: &HeaderMap) -> Option<Dimensions> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let mut parameters: Vec<(String, u64)> =
            pairs.take(MAX_PARAMETERS + 1).map(|pair| self.parameter(pair)).collect();
        if parameters.len() > MAX_PARAMETERS {
            return None;
        }
        parameters.sort_unstable();
        let fields = COMPARED_FIELDS
            .map(|name| headers.get(name).map_or(0, |value| self.fingerprint(value.as_bytes())));
        let mut named: Vec<&HeaderName> = self.credentials.find_in(headers).collect();
        named.sort_unstable_by_key(|name| name.as_str());
        let values = |name: &HeaderName| {
            let values = headers.get_all(name).iter().map(|value| value.as_bytes().to_vec());
            (name.as_str().to_owned(), values.collect::<Vec<_>>())
        };
        let caller = (!named.is_empty())
            .then(|| self.fingerprint(named.iter().map(|name| values(name)).collect::<Vec<_>>()));
        let credentials = named.iter().map(|name| kept_name(name.as_str()).to_owned()).collect();
        let (selection, subject) = (0, self.subject(headers));
        Some(Dimensions { selection, parameters, fields, caller, subject, credentials })
    }

    /// The parts of every key beside the path: requests that differ in them are never compared.
    fn selection(&self, host: &str, headers: &HeaderMap) -> u64 {
        let is_plain = |name: &&HeaderName| !self.credentials.identify(name);
        let value = |name: &'static HeaderName| {
            let values = headers.get_all(name).iter().map(|value| value.as_bytes());
            (name.as_str(), values.collect::<Vec<_>>())
        };
        let fields: Vec<_> = selecting_fields::names_in(headers).filter(is_plain).map(value).collect();
        self.fingerprint((host, fields))
    }

    /// The subject of the bearer's token: what `{jwt.sub}` is in tags.
    fn subject(&self, headers: &HeaderMap) -> Option<u64> {
        jwt::read_claim(headers, "sub").map(|subject| self.fingerprint(subject))
    }

    /// A name that is not kept is a part of its value.
    fn parameter(&self, pair: &str) -> (String, u64) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match kept_name(name) {
            OTHER_NAME => (OTHER_NAME.to_owned(), self.fingerprint(pair)),
            name => (name.to_owned(), self.fingerprint(value)),
        }
    }

    fn fingerprint(&self, value: impl Hash) -> u64 {
        self.key.hash_one(value)
    }

    /// Takes in a read whose content has been sent.
    fn record_read(&self, path: &str, sample: &ReadSample) {
        let mut state = self.state.lock();
        let SketchState { shapes, templates, samples, links, sampled, .. } = &mut *state;
        let Some(mut path_seen) = shapes.describe(path, &self.key) else { return };
        if let Some(prefix) = shapes.learn(&path_seen.template, &self.key) {
            let forgotten = templates.forget_below(prefix);
            links.forget_below(prefix, &forgotten);
            let Some(described) = shapes.describe(path, &self.key) else { return };
            path_seen = described;
        }
        path_seen.fingerprint = self.fingerprint((path_seen.fingerprint, sample.dimensions.selection));
        let Some(sketch) = templates.find(&path_seen.template) else { return };
        *sampled += 1;
        samples.add(&path_seen, sample, sketch, links);
    }
}

/// The name of a parameter or a field as it is kept.
fn kept_name(name: &str) -> &str {
    let is_kept = name.len() <= MAX_NAME_BYTES && is_plain_word(name) && !is_value_segment(name);
    if is_kept { name } else { OTHER_NAME }
}

/// The memory of a hash map, of which an eighth stays free.
fn map_bytes<T>(capacity: usize) -> usize {
    (size_of::<T>() + 1) * (capacity * 8 / 7)
}
