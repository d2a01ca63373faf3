//! The last reads of each path, with which a new one is compared.
//!
//! Two reads that differ in one dimension alone, at nearly the same time and without a write between, show whether that
//! dimension changes the answer. Two equal reads show whether the answer changed meanwhile.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::FIELD_COUNT;
use super::dimensions::{DimensionEvidence, Dimensions, LIFETIMES};
use super::links::{ChangeInterval, ReadValue, WriteLinks};
use super::paths::ObservedPath;
use super::templates::TemplateSketch;
use crate::clock::{Timestamp, saturating_micros};

/// Most paths whose reads are kept; the one that came first goes. Most reads of one.
const MAX_PATHS: usize = 4_096;
const MAX_SAMPLES: usize = 6;

/// Most different requests whose hits are estimated.
const MAX_REQUESTS: usize = 32_768;

/// Longest time between two reads that are compared in one dimension.
const SAME_TIME: Duration = Duration::from_secs(10);

/// A read with a 200.
#[derive(Clone, Debug)]
pub(super) struct ReadSample {
    pub dimensions: Dimensions,
    pub content: u64,
    /// The content coding; contents of two codings are not compared.
    pub coding: u64,
    pub bytes: usize,
    pub began: Timestamp,
    pub answered: Timestamp,
}

/// A sample as it is kept.
struct KeptSample {
    /// Fingerprints of the names and of the values, sorted.
    parameters: Box<[(u64, u64)]>,
    fields: [u64; FIELD_COUNT],
    caller: Option<u64>,
    content: u64,
    coding: u64,
    began: Timestamp,
    answered: Timestamp,
}

/// The only dimension in which two requests differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnlyDifference {
    None,
    /// By the fingerprint of its name.
    Parameter(u64),
    Field(usize),
    Caller,
}

#[derive(Default)]
pub(super) struct Samples {
    key: RandomState,
    by_path: HashMap<u64, VecDeque<KeptSample>>,
    /// The paths in the order in which they came.
    order: VecDeque<u64>,
    fetched: HashMap<u64, AssumedFetch>,
}

/// A response that a cache with such a key would have stored.
#[derive(Clone, Copy)]
struct AssumedFetch {
    content: u64,
    /// When the request was last fetched, for each lifetime.
    at: [Timestamp; LIFETIMES.len()],
}

impl Samples {
    /// Compares a sample with those before it, and keeps it.
    pub(super) fn add(
        &mut self,
        path: &ObservedPath,
        sample: &ReadSample,
        sketch: &mut TemplateSketch,
        links: &mut WriteLinks,
    ) {
        sketch.reads += 1;
        sketch.bytes += sample.bytes as u64;
        sketch.micros += saturating_micros(sample.answered.since(sample.began));
        sketch.add_caller(&sample.dimensions);
        for (name, _) in &sample.dimensions.parameters {
            _ = sketch.parameter(name);
        }
        let (kept, subject) = (self.keep(sample), sample.dimensions.subject);
        let values = self.values(path, &sample.dimensions);
        let (from, to) = (Timestamp::default(), sample.began);
        let before_it = ChangeInterval { read: sketch.number, values: &values, subject, from, to };
        self.count_hits(path, sample, sketch, links.last_cause(&before_it));
        if !self.by_path.contains_key(&path.fingerprint) {
            self.make_room();
            self.order.push_back(path.fingerprint);
        }
        let before = self.by_path.entry(path.fingerprint).or_default();
        let (mut is_same_seen, mut is_newest) = (false, true);
        for earlier in before.iter().rev().filter(|earlier| earlier.coding == kept.coding) {
            let Some(difference) = earlier.compare(&kept) else { continue };
            // A slow read ends after others that began later than it.
            let (from, to) = (earlier.began.min(kept.began), earlier.answered.max(kept.answered));
            if difference == OnlyDifference::None {
                // The latest one alone: an interval is judged once.
                if !is_same_seen {
                    let interval = ChangeInterval { read: sketch.number, values: &values, subject, from, to };
                    judge_interval(sketch, links, &interval, (earlier, &kept));
                }
                is_same_seen = true;
                is_newest &= earlier.began <= kept.began;
                continue;
            }
            if to.since(from) < SAME_TIME && links.is_quiet(from, to) {
                record_dimension(sketch, &self.key, difference, (earlier.content, kept.content));
            }
        }
        if !is_newest {
            return;
        }
        if is_same_seen {
            before.retain(|earlier| earlier.compare(&kept) != Some(OnlyDifference::None));
        }
        if before.len() >= MAX_SAMPLES {
            before.pop_front();
        }
        before.push_back(kept);
    }

    fn keep(&self, sample: &ReadSample) -> KeptSample {
        let ReadSample { dimensions, content, coding, began, answered, .. } = sample;
        let parameters = dimensions.parameters.iter();
        let mut parameters: Vec<_> =
            parameters.map(|(name, value)| (self.name_fingerprint(name), *value)).collect();
        parameters.sort_unstable();
        KeptSample {
            parameters: parameters.into(),
            fields: dimensions.fields,
            caller: dimensions.caller,
            content: *content,
            coding: *coding,
            began: *began,
            answered: *answered,
        }
    }

    /// The values that a write's path may have, too.
    fn values(&self, path: &ObservedPath, dimensions: &Dimensions) -> Vec<(ReadValue, u64)> {
        let in_path = path.values.iter().enumerate().map(|(at, value)| (ReadValue::Path(at), *value));
        let parameters = dimensions.parameters.iter();
        let in_query =
            parameters.map(|(name, value)| (ReadValue::Parameter(self.name_fingerprint(name)), *value));
        in_path.chain(in_query).collect()
    }

    /// The fingerprint that stands for the name of a parameter.
    pub(super) fn name_fingerprint(&self, name: &str) -> u64 {
        self.key.hash_one(name)
    }

    fn make_room(&mut self) {
        if self.by_path.len() >= MAX_PATHS
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_path.remove(&oldest);
        }
    }

    /// Counts a read as a hit for each lifetime within which the same was fetched, unless it was purged or has changed
    /// meanwhile. The key is the one that the evidence asks for so far.
    fn count_hits(
        &mut self,
        path: &ObservedPath,
        sample: &ReadSample,
        sketch: &mut TemplateSketch,
        purged: Option<Timestamp>,
    ) {
        let Dimensions { parameters, fields, caller, .. } = &sample.dimensions;
        let Some(caller) = sketch.caller_in_key(*caller) else { return };
        let has_effect =
            |(name, _): &&(String, u64)| sketch.parameters.get(name).is_none_or(|it| !it.is_without_effect());
        let parameters: Vec<_> = parameters.iter().filter(has_effect).collect();
        let selects = |(_, evidence): &(&u64, &DimensionEvidence)| evidence.different > 0;
        let fields: Vec<_> =
            fields.iter().zip(&sketch.fields).filter(selects).map(|(value, _)| value).collect();
        let request = self.key.hash_one((path.fingerprint, sample.coding, parameters, fields, caller));
        if self.fetched.len() >= MAX_REQUESTS && !self.fetched.contains_key(&request) {
            // The estimate errs towards fewer hits.
            self.fetched.clear();
        }
        let (now, content) = (sample.began, sample.content);
        let new = AssumedFetch { content, at: [Timestamp::default(); LIFETIMES.len()] };
        let known = self.fetched.entry(request).or_insert(new);
        let is_changed = known.content != content;
        known.content = content;
        for ((last, (lifetime, _)), hits) in known.at.iter_mut().zip(LIFETIMES).zip(&mut sketch.hits) {
            let is_fetched =
                *last != Timestamp::default() && now.since(*last) < Duration::from_secs(lifetime);
            let is_purged = is_changed || purged.is_some_and(|purged| purged >= *last);
            match is_fetched && !is_purged {
                true => *hits += 1,
                false => *last = now,
            }
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let of_sample = |sample: &KeptSample| size_of::<KeptSample>() + size_of_val(&*sample.parameters);
        let of_path = |samples: &VecDeque<KeptSample>| {
            // The queue's reserve counts, too.
            size_of::<KeptSample>() * (samples.capacity() - samples.len())
                + samples.iter().map(of_sample).sum::<usize>()
        };
        self.by_path.values().map(of_path).sum::<usize>()
            + super::map_bytes::<(u64, VecDeque<KeptSample>)>(self.by_path.capacity())
            + super::map_bytes::<(u64, AssumedFetch)>(self.fetched.capacity())
            + 8 * self.order.capacity()
    }
}

/// Counts whether the answer to the same request changed, and after which writes.
fn judge_interval(
    sketch: &mut TemplateSketch,
    links: &mut WriteLinks,
    interval: &ChangeInterval<'_>,
    (earlier, later): (&KeptSample, &KeptSample),
) {
    let is_changed = earlier.content != later.content;
    match is_changed {
        true => sketch.changed += 1,
        false => sketch.unchanged += 1,
    }
    if links.is_quiet(interval.from, interval.to) {
        sketch.changed_alone += u64::from(is_changed);
        sketch.unchanged_alone += u64::from(!is_changed);
        sketch.quiet_micros += saturating_micros(later.began.since(earlier.began));
    } else {
        let causes = links.record(interval, is_changed);
        if is_changed {
            sketch.add_change(causes);
        }
    }
}

fn record_dimension(
    sketch: &mut TemplateSketch,
    key: &RandomState,
    difference: OnlyDifference,
    (one, other): (u64, u64),
) {
    match difference {
        OnlyDifference::None => {}
        OnlyDifference::Field(at) => sketch.fields[at].add(one != other),
        OnlyDifference::Caller => sketch.add_callers(one, other),
        OnlyDifference::Parameter(name) => {
            let known = sketch.parameters.iter_mut().find(|(known, _)| key.hash_one(known) == name);
            if let Some((_, evidence)) = known {
                evidence.add(one != other);
            }
        }
    }
}

impl KeptSample {
    /// The only dimension in which the requests differ; `None` if there are several.
    fn compare(&self, other: &Self) -> Option<OnlyDifference> {
        let mut only = OnlyDifference::None;
        let mut add = |difference: OnlyDifference| {
            let is_first = only == OnlyDifference::None || only == difference;
            only = difference;
            is_first.then_some(())
        };
        if self.caller != other.caller {
            add(OnlyDifference::Caller)?;
        }
        for (at, (one, two)) in self.fields.iter().zip(&other.fields).enumerate() {
            if one != two {
                add(OnlyDifference::Field(at))?;
            }
        }
        let is_missing = |pair: &&(u64, u64), others: &[(u64, u64)]| others.binary_search(pair).is_err();
        let gone = self.parameters.iter().filter(|pair| is_missing(pair, &other.parameters));
        let new = other.parameters.iter().filter(|pair| is_missing(pair, &self.parameters));
        for (name, _) in gone.chain(new) {
            add(OnlyDifference::Parameter(*name))?;
        }
        Some(only)
    }
}
