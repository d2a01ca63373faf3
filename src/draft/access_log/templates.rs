//! Finds which segments of the paths in a log are values: those that look so, and those with too many siblings.

use std::collections::{HashMap, HashSet};

use crate::observation::is_value_segment;
use crate::policy::path::is_caller_segment;

/// Children of one prefix beyond which they are values.
const MAX_LITERAL_CHILDREN: usize = 20;

/// Most prefixes that are watched, and deepest path.
const MAX_PREFIXES: usize = 5_000;
const MAX_DEPTH: usize = 12;

/// The name of every parameter.
const PARAMETER: &str = "{id}";

#[derive(Default)]
pub(super) struct Templates {
    children: HashMap<String, HashSet<String>>,
    /// Prefixes whose children are values.
    wide: HashSet<String>,
}

impl Templates {
    /// Learns from a path. Returns whether another prefix has become wide, so that what lies below has to be learned again.
    pub(super) fn learn(&mut self, path: &str) -> bool {
        let mut has_changed = false;
        let mut prefix = String::new();
        for segment in path.split('/').skip(1).take(MAX_DEPTH) {
            if !is_value_segment(segment) && !is_caller_segment(segment) && !self.wide.contains(&prefix) {
                has_changed |= self.add_child(&prefix, segment);
            }
            self.extend(&mut prefix, segment);
        }
        has_changed
    }

    fn add_child(&mut self, prefix: &str, segment: &str) -> bool {
        if self.children.len() >= MAX_PREFIXES && !self.children.contains_key(prefix) {
            return false;
        }
        let children = self.children.entry(prefix.to_owned()).or_default();
        children.insert(segment.to_owned());
        if children.len() <= MAX_LITERAL_CHILDREN {
            return false;
        }
        self.children.remove(prefix);
        self.wide.insert(prefix.to_owned())
    }

    /// The path with a parameter for each value.
    pub(super) fn apply(&self, path: &str) -> String {
        let mut prefix = String::new();
        for segment in path.split('/').skip(1).take(MAX_DEPTH) {
            self.extend(&mut prefix, segment);
        }
        prefix
    }

    fn extend(&self, prefix: &mut String, segment: &str) {
        let is_value =
            !is_caller_segment(segment) && (is_value_segment(segment) || self.wide.contains(prefix.as_str()));
        prefix.push('/');
        prefix.push_str(if is_value { PARAMETER } else { segment });
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.children.len(), self.children.values().map(HashSet::len).max().unwrap_or_default())
    }
}
