//! Paths with parameters in the place of values.
//!
//! A segment that looks like a value is never kept. A word is kept until its prefix has too many children: then they are
//! values, too.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

const MAX_SEGMENTS: usize = 12;

/// Children of one prefix beyond which they are values, and most prefixes whose children are counted.
pub(super) const MAX_LITERAL_CHILDREN: usize = 64;
const MAX_PREFIXES: usize = 1_024;

/// A path as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObservedPath {
    pub template: String,
    pub fingerprint: u64,
    /// The fingerprints of its values, in their order.
    pub values: Vec<u64>,
}

/// The prefixes of templates, by their fingerprints.
#[derive(Default)]
pub(super) struct PathShapes {
    children: HashMap<u64, Children>,
}

enum Children {
    Words(Vec<u64>),
    Values,
}

impl PathShapes {
    /// `None`: the path is too deep, or has an empty segment.
    pub(super) fn describe(&self, path: &str, key: &RandomState) -> Option<ObservedPath> {
        let (mut template, mut values) = (String::new(), Vec::new());
        for (depth, segment) in path.split('/').skip(1).enumerate() {
            if depth >= MAX_SEGMENTS || segment.is_empty() && path.len() > 1 {
                return None;
            }
            let is_value = is_value_segment(segment)
                || (!segment.is_empty() && !is_plain_word(segment))
                || self.has_values_below(&template, key);
            template.push('/');
            if is_value {
                values.push(key.hash_one(segment));
                template.push_str(&parameter_name(values.len()));
            } else {
                template.push_str(segment);
            }
        }
        Some(ObservedPath { template, fingerprint: key.hash_one(path), values })
    }

    fn has_values_below(&self, prefix: &str, key: &RandomState) -> bool {
        matches!(self.children.get(&key.hash_one(prefix)), Some(Children::Values))
    }

    /// Counts the words of a template. Returns the prefix below which words turn out to be values.
    pub(super) fn learn<'t>(&mut self, template: &'t str, key: &RandomState) -> Option<&'t str> {
        // The first segment is never a value: too much would be one template.
        let starts = template.match_indices('/').map(|(at, _)| at).skip(1);
        for start in starts {
            let (prefix, rest) = template.split_at(start);
            let segment = rest[1..].split('/').next().unwrap_or_default();
            if !segment.starts_with('{') && self.add_child(key.hash_one(prefix), key.hash_one(segment)) {
                return Some(prefix);
            }
        }
        None
    }

    /// Returns whether the children have become values.
    fn add_child(&mut self, prefix: u64, child: u64) -> bool {
        if self.children.len() >= MAX_PREFIXES && !self.children.contains_key(&prefix) {
            return false;
        }
        let children = self.children.entry(prefix).or_insert_with(|| Children::Words(Vec::new()));
        let Children::Words(words) = children else { return false };
        if words.contains(&child) {
            return false;
        }
        words.push(child);
        let is_wide = words.len() > MAX_LITERAL_CHILDREN;
        if is_wide {
            *children = Children::Values;
        }
        is_wide
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let of_children = |children: &Children| match children {
            Children::Words(words) => 8 * words.capacity(),
            Children::Values => 0,
        };
        self.children.values().map(of_children).sum::<usize>()
            + super::map_bytes::<(u64, Children)>(self.children.capacity())
    }
}

/// The parameter at this place, counted from one. Two parameters of a path have two names.
pub(crate) fn parameter_name(place: usize) -> String {
    if place == 1 { "{id}".to_owned() } else { format!("{{id{place}}}") }
}

/// Whether a segment of a path looks like a value: a number, an id, or something long.
pub(crate) fn is_value_segment(segment: &str) -> bool {
    let is_version = segment.len() < 4 && segment.starts_with('v');
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let is_hex = segment.len() >= 16 && segment.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let has = |is_such: fn(&u8) -> bool| segment.as_bytes().iter().any(is_such);
    let is_random =
        segment.len() >= 10 && digits > 0 && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
    !is_version && (segment.len() > 40 || is_hex || is_random || digits > 0 && digits * 2 >= segment.len())
}

/// Whether a word can stand in a template or a list as it is.
pub(crate) fn is_plain_word(word: &str) -> bool {
    !matches!(word, "" | "." | "..")
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
}
