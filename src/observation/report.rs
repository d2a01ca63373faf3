//! The sketch as JSON, for the admin listener and `larder suggest`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::dimensions::DimensionEvidence;
use super::links::{PairCounts, PossibleCause, ReadValue};
use super::paths::parameter_name;
use super::templates::TemplateSketch;
use super::{COMPARED_FIELDS, SketchState};
use crate::clock::Timestamp;

/// The traffic that a sketch has seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedTraffic {
    /// The URLs of the observed API, from the configuration of the larder that observes it.
    #[serde(default)]
    pub upstream: Vec<String>,
    /// Length of the observation, in seconds.
    pub seconds: u64,
    /// Reads on routes in `mode: observe`, and those that were compared.
    pub seen: u64,
    pub(crate) sampled: u64,
    /// Reads that were left out because there are too many paths.
    pub(crate) left_out: u64,
    /// Memory of the sketch.
    pub memory_bytes: usize,
    /// The templates of reads.
    pub routes: Vec<ObservedRoute>,
    /// The kinds of writes: `POST /api/courses/{id}/enroll`.
    pub writes: Vec<String>,
}

/// Reads of one template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedRoute {
    /// The template of the path.
    pub path: String,
    /// Reads that were compared.
    pub reads: u64,
    /// Bytes of the responses' contents.
    pub bytes: u64,
    /// Time that the upstream took, in milliseconds.
    pub millis: u64,
    /// Intervals between two reads of the same request.
    pub(crate) unchanged: u64,
    /// Intervals with a different response at their end.
    pub changed: u64,
    /// Those without a write, and their length.
    pub(crate) changed_alone: u64,
    pub(crate) unchanged_alone: u64,
    pub(crate) quiet_millis: u64,
    /// Evidence for each query parameter.
    pub parameters: BTreeMap<String, DimensionEvidence>,
    /// Evidence for each request field.
    pub fields: BTreeMap<String, DimensionEvidence>,
    /// Evidence for the caller.
    pub caller: DimensionEvidence,
    /// Different contents in which two callers agreed, at most 4.
    pub(crate) agreed_contents: usize,
    /// Callers with credentials that were told apart, the names of these, and reads without any.
    pub callers: usize,
    /// The names of their credentials.
    pub credentials: Vec<String>,
    /// Reads without a credential.
    pub anonymous: u64,
    /// Reads with a token that has a `sub`.
    pub(crate) with_subject: u64,
    /// With the key and the purges that the evidence asks for, by the lifetimes.
    pub hits: Vec<u64>,
    /// The kinds of writes that precede changes.
    pub links: Vec<WriteLink>,
    /// Changes with several possible causes.
    pub changes: Vec<SharedChange>,
}

/// A kind of write, and the intervals in which the read changed after it, or did not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteLink {
    /// The kind of write: `POST /api/courses/{id}/enroll`.
    pub write: String,
    /// A value that both have.
    pub shared: Option<SharedValue>,
    /// Both are by the same `{jwt.sub}`.
    pub(crate) is_own: bool,
    pub(crate) alone_changed: u64,
    pub(crate) alone_same: u64,
    pub(crate) among_changed: u64,
    pub(crate) among_same: u64,
}

/// The same value as templates of the read and of the write have it: `{query.course}` and `{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedValue {
    /// The template of the read.
    pub read: String,
    /// The template of the write.
    pub write: String,
}

/// Changes after which any of these links may be the cause, by their places in the list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedChange {
    /// Indexes into the links.
    pub links: Vec<usize>,
    /// The number of changes.
    pub times: u64,
}

pub(super) fn describe(state: &SketchState, now: Timestamp) -> ObservedTraffic {
    let names = state.links.names();
    let mut writes: Vec<String> = names.values().map(|name| (*name).to_owned()).collect();
    writes.sort_unstable();
    let all_causes = state.links.causes();
    let route = |(path, sketch): (&str, &TemplateSketch)| {
        let causes = all_causes.get(&sketch.number).into_iter().flatten();
        let causes = causes.filter_map(|(cause, counts)| Some((*cause, *counts, *names.get(&cause.write)?)));
        let causes: Vec<(PossibleCause, PairCounts, &str)> = causes.collect();
        describe_route(state, (path, sketch), &causes)
    };
    let mut routes: Vec<ObservedRoute> = state.templates.iter().map(route).collect();
    routes.sort_unstable_by(|one, other| other.reads.cmp(&one.reads).then_with(|| one.path.cmp(&other.path)));
    ObservedTraffic {
        upstream: Vec::new(),
        seconds: now.since(state.since).as_secs(),
        seen: state.seen,
        sampled: state.sampled,
        left_out: state.templates.left_out,
        memory_bytes: state.memory_bytes(),
        routes,
        writes,
    }
}

fn describe_route(
    state: &SketchState,
    (path, sketch): (&str, &TemplateSketch),
    causes: &[(PossibleCause, PairCounts, &str)],
) -> ObservedRoute {
    let link = |(cause, counts, name): &(PossibleCause, PairCounts, &str)| WriteLink {
        write: (*name).to_owned(),
        shared: cause.shared.and_then(|shared| describe_shared(state, sketch, shared)),
        is_own: cause.is_own,
        alone_changed: counts.alone_changed,
        alone_same: counts.alone_same,
        among_changed: counts.among_changed,
        among_same: counts.among_same,
    };
    let place = |cause: &PossibleCause| causes.iter().position(|(known, ..)| known == cause);
    let change = |(causes, times): (&BTreeSet<PossibleCause>, &u64)| SharedChange {
        links: causes.iter().filter_map(place).collect(),
        times: *times,
    };
    ObservedRoute {
        path: path.to_owned(),
        reads: sketch.reads,
        bytes: sketch.bytes,
        millis: sketch.micros / 1_000,
        unchanged: sketch.unchanged,
        changed: sketch.changed,
        changed_alone: sketch.changed_alone,
        unchanged_alone: sketch.unchanged_alone,
        quiet_millis: sketch.quiet_micros / 1_000,
        parameters: sketch.parameters.clone(),
        fields: COMPARED_FIELDS.iter().map(|name| name.as_str().to_owned()).zip(sketch.fields).collect(),
        caller: sketch.caller,
        agreed_contents: sketch.agreed_contents.len(),
        callers: sketch.callers.len(),
        credentials: sketch.credentials.clone(),
        anonymous: sketch.anonymous,
        with_subject: sketch.with_subject,
        hits: sketch.hits.to_vec(),
        links: causes.iter().map(link).collect(),
        changes: sketch.changes.iter().map(change).collect(),
    }
}

fn describe_shared(
    state: &SketchState,
    sketch: &TemplateSketch,
    (read, write): (ReadValue, usize),
) -> Option<SharedValue> {
    let read = match read {
        ReadValue::Path(at) => parameter_name(at + 1),
        ReadValue::Parameter(name) => {
            let mut known = sketch.parameters.keys();
            let known = known.find(|known| state.samples.name_fingerprint(known) == name)?;
            format!("{{query.{known}}}")
        }
    };
    Some(SharedValue { read, write: parameter_name(write + 1) })
}

impl SketchState {
    pub(super) fn memory_bytes(&self) -> usize {
        self.shapes.memory_bytes()
            + self.templates.memory_bytes()
            + self.samples.memory_bytes()
            + self.links.memory_bytes()
    }
}
