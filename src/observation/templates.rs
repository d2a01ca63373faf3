//! The evidence about the reads of each template.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::dimensions::{DimensionEvidence, Dimensions, LIFETIMES};
use super::links::PossibleCause;

/// Most templates of reads; requests beyond it are not observed.
pub(super) const MAX_TEMPLATES: usize = 256;

/// Most names of parameters and of credentials of one template, and most callers that are told apart.
const MAX_NAMES: usize = 16;
const MAX_CREDENTIALS: usize = 4;
const MAX_CALLERS: usize = 32;

/// Most sets of possible causes, and most causes in one.
const MAX_CHANGES: usize = 32;
const MAX_CAUSES: usize = 6;

/// Most contents in which callers agreed that are told apart.
const MAX_AGREED_CONTENTS: usize = 4;

/// The evidence about one template.
#[derive(Debug, Default)]
pub(super) struct TemplateSketch {
    pub number: usize,
    pub reads: u64,
    pub bytes: u64,
    pub micros: u64,
    /// The same request, compared with the time before.
    pub unchanged: u64,
    pub changed: u64,
    /// Intervals without any write, and their length.
    pub changed_alone: u64,
    pub unchanged_alone: u64,
    pub quiet_micros: u64,
    pub parameters: BTreeMap<String, DimensionEvidence>,
    pub fields: [DimensionEvidence; super::FIELD_COUNT],
    pub caller: DimensionEvidence,
    /// Different contents in which two callers agreed.
    pub agreed_contents: Vec<u64>,
    pub callers: Vec<u64>,
    pub credentials: Vec<String>,
    pub anonymous: u64,
    /// Reads with a token that has a `sub`.
    pub with_subject: u64,
    /// Changes with several possible causes: how often each set of them was there.
    pub changes: BTreeMap<BTreeSet<PossibleCause>, u64>,
    pub hits: [u64; LIFETIMES.len()],
}

#[derive(Default)]
pub(super) struct TemplateSketches {
    by_name: HashMap<String, TemplateSketch>,
    /// Templates so far, forgotten ones included.
    next_number: usize,
    /// Reads that were not compared because there were too many templates.
    pub(super) left_out: u64,
}

impl TemplateSketches {
    /// The sketch of a template; `None` if there are too many.
    pub(super) fn find(&mut self, template: &str) -> Option<&mut TemplateSketch> {
        if !self.by_name.contains_key(template) {
            if self.by_name.len() >= MAX_TEMPLATES {
                self.left_out += 1;
                return None;
            }
            self.next_number += 1;
            let sketch = TemplateSketch { number: self.next_number, ..TemplateSketch::default() };
            self.by_name.insert(template.to_owned(), sketch);
        }
        self.by_name.get_mut(template)
    }

    /// Forgets the templates below a prefix, and returns their numbers.
    pub(super) fn forget_below(&mut self, prefix: &str) -> Vec<usize> {
        let mut forgotten = Vec::new();
        self.by_name.retain(|name, sketch| {
            let is_below = name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
            forgotten.extend(is_below.then_some(sketch.number));
            !is_below
        });
        forgotten
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &TemplateSketch)> {
        self.by_name.iter().map(|(name, sketch)| (name.as_str(), sketch))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let of_sketch = |sketch: &TemplateSketch| {
            let names = sketch.parameters.keys().map(|name| name.len() + 64);
            let credentials = sketch.credentials.iter().map(|name| name.len() + 32);
            // A tree's node has room for eleven.
            let changes = sketch.changes.len()
                * (size_of::<BTreeSet<PossibleCause>>() + 11 * size_of::<PossibleCause>() + 64);
            size_of::<TemplateSketch>()
                + changes
                + names.chain(credentials).sum::<usize>()
                + 8 * (sketch.callers.capacity() + sketch.agreed_contents.capacity())
        };
        let names = self.by_name.keys().map(|name| 64 + name.len());
        names.sum::<usize>() + self.by_name.values().map(of_sketch).sum::<usize>()
    }
}

impl TemplateSketch {
    /// The evidence of a parameter; `None` if there are too many.
    pub(super) fn parameter(&mut self, name: &str) -> Option<&mut DimensionEvidence> {
        if !self.parameters.contains_key(name) {
            if self.parameters.len() >= MAX_NAMES {
                return None;
            }
            self.parameters.insert(name.to_owned(), DimensionEvidence::default());
        }
        self.parameters.get_mut(name)
    }

    pub(super) fn add_caller(&mut self, dimensions: &Dimensions) {
        let Dimensions { caller, subject, credentials, .. } = dimensions;
        self.with_subject += u64::from(subject.is_some());
        match *caller {
            None => self.anonymous += 1,
            Some(caller) if self.callers.len() < MAX_CALLERS && !self.callers.contains(&caller) => {
                self.callers.push(caller);
            }
            Some(_) => {}
        }
        for name in credentials {
            // Clients choose some names; these two always have room.
            let has_room = self.credentials.len() < MAX_CREDENTIALS
                || matches!(name.as_str(), "authorization" | "cookie");
            if has_room && !self.credentials.contains(name) {
                self.credentials.push(name.clone());
            }
        }
    }

    /// The caller as a part of the key that the evidence asks for. `None`: such a request passes.
    pub(super) fn caller_in_key(&self, caller: Option<u64>) -> Option<Option<u64>> {
        if self.caller.makes_shared(self.callers.len(), self.agreed_contents.len()) {
            return Some(None);
        }
        let has_name = self.credentials.iter().any(|name| name != "cookie");
        match caller {
            None if has_name => None,
            Some(_) if !has_name => None,
            caller => Some(caller),
        }
    }

    /// Counts a change after these writes. One cause alone is counted elsewhere, and very many say nothing.
    pub(super) fn add_change(&mut self, causes: Option<BTreeSet<PossibleCause>>) {
        let Some(causes) = causes.filter(|causes| (2..=MAX_CAUSES).contains(&causes.len())) else { return };
        if self.changes.len() < MAX_CHANGES || self.changes.contains_key(&causes) {
            *self.changes.entry(causes).or_default() += 1;
        }
    }

    /// Counts two reads that differ in the caller alone.
    pub(super) fn add_callers(&mut self, one: u64, other: u64) {
        self.caller.add(one != other);
        let is_new = one == other && !self.agreed_contents.contains(&one);
        if is_new && self.agreed_contents.len() < MAX_AGREED_CONTENTS {
            self.agreed_contents.push(one);
        }
    }
}
