//! Finds the route of a path. The most specific wins: literal segments before parameters with affixes before parameters
//! before the rest, compared from the left.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Route;
use super::path::{AffixedParameter, Segment, framework_readings};
use super::query::QueryRule;
use crate::purge::{NormalizedPath, TargetId};

/// The routes, and which of them matches a path.
#[derive(Clone, Debug)]
pub struct Routes {
    routes: Vec<Arc<Route>>,
    /// Literals as written.
    exact: TrieNode,
    /// Literals as [`NormalizedPath`] spells them.
    loose: TrieNode,
    /// A literal differs from its normalized form, so a plain path can match one route as written and another
    /// loosely.
    has_unplain_literals: bool,
    /// Some route has a `rate`.
    pub(super) has_rates: bool,
    /// Some route has a `status` for [`is_absence`].
    stores_absence: bool,
    /// Some route has `languages`.
    pub(super) has_languages: bool,
    rules: TargetId,
    query_rules: TargetId,
}

/// A node of the segment tree. Each node has one depth, so a search enters it at most once.
#[derive(Clone, Debug, Default)]
struct TrieNode {
    literals: BTreeMap<Box<str>, TrieNode>,
    /// Parameters with affixes, the longest first.
    affixed: Vec<AffixedNode>,
    parameter: Option<Box<TrieNode>>,
    /// Routes whose rest begins here.
    rest: Vec<usize>,
    /// Routes that end here. In the tree of written literals the first one counts.
    here: Vec<usize>,
}

#[derive(Clone, Debug)]
struct AffixedNode {
    prefix: Box<str>,
    suffix: Box<str>,
    node: TrieNode,
}

impl Default for Routes {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Routes {
    /// `routes` must not contain two templates for the same paths, which the configuration checks.
    pub fn new(routes: &[Arc<Route>]) -> Self {
        let rules = TargetId::hash_rules(&rules_text(routes, ""));
        let mut tree = Routes {
            routes: routes.to_vec(),
            exact: TrieNode::default(),
            loose: TrieNode::default(),
            has_unplain_literals: false,
            has_rates: routes.iter().any(|route| route.rate.is_some()),
            stores_absence: routes.iter().any(|route| route.status.keys().any(|status| is_absence(*status))),
            has_languages: routes.iter().any(|route| !route.languages.is_empty()),
            rules,
            query_rules: TargetId::hash_rules(&query_rules_text(routes)),
        };
        for (at, route) in routes.iter().enumerate() {
            let segments = route.path.segments();
            tree.exact.insert(segments, Spelling::Written, at);
            tree.loose.insert(segments, Spelling::Loose, at);
            tree.has_unplain_literals |= segments.iter().any(|segment| match segment {
                Segment::Literal(literal) => loose_literal(literal).as_deref() != Some(literal),
                Segment::Affixed(parameter) => !is_lower(&parameter.prefix) || !is_lower(&parameter.suffix),
                Segment::Parameter(_) | Segment::Rest(_) => false,
            });
        }
        // Last, so that a route with the slash in its own path comes first.
        for (at, route) in routes.iter().enumerate().filter(|(_, route)| route.path.takes_slash()) {
            let slash = Segment::Literal(String::new());
            let segments = [route.path.segments(), &[slash]].concat();
            tree.exact.insert(&segments, Spelling::Written, at);
        }
        tree
    }

    /// Takes `more` into the rules: what else the configuration says of purges.
    #[must_use]
    pub(crate) fn with_rules(mut self, more: &str) -> Self {
        self.rules = TargetId::hash_rules(&rules_text(&self.routes, more));
        self
    }

    /// The rules that render tags and purges. Configurations with the same paths, tags and purges have the same.
    pub fn rules(&self) -> TargetId {
        self.rules
    }

    /// The rules that select queries, by which a purge of a URL names what is stored.
    pub(crate) fn query_rules(&self) -> TargetId {
        self.query_rules
    }

    /// Whether a route gives responses a lifetime that say that nothing is there.
    pub(super) fn stores_absence(&self) -> bool {
        self.stores_absence
    }

    /// The routes in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    /// Matches the path as written, for reading. A trailing slash makes another path.
    pub fn find(&self, path: &str) -> Option<&Arc<Route>> {
        let found = self.exact.search(strip_root(path)?)?;
        self.routes.get(*found.first()?)
    }

    /// Matches any spelling, for purging.
    pub(crate) fn find_loosely(&self, path: &NormalizedPath) -> Option<&Arc<Route>> {
        self.find_all_loosely(path).next()
    }

    /// Matches any spelling; several routes if their paths differ only by spelling.
    pub(crate) fn find_all_loosely<'r>(
        &'r self,
        path: &NormalizedPath,
    ) -> impl Iterator<Item = &'r Arc<Route>> + use<'r> {
        let found = strip_root(path.as_str()).and_then(|segments| self.loose.search(segments));
        found.unwrap_or_default().iter().filter_map(|at| self.routes.get(*at))
    }

    /// Whether responses to paths below `path` may be stored, in any spelling.
    pub(super) fn caches_below(&self, path: &NormalizedPath) -> bool {
        let caches = |at: &usize| self.routes.get(*at).is_some_and(|route| route.caches());
        strip_root(path.as_str()).is_some_and(|segments| self.loose.has_below(segments, &caches))
    }

    /// The same for its members: the paths in which a parameter or the rest follows `path`.
    pub(super) fn caches_members(&self, path: &NormalizedPath) -> bool {
        let caches = |at: &usize| self.routes.get(*at).is_some_and(|route| route.caches());
        strip_root(path.as_str()).is_some_and(|segments| self.loose.has_members(segments, &caches))
    }

    /// Whether a route is of the members of `path` alone, so that it is known to be a collection.
    pub(super) fn is_collection(&self, path: &NormalizedPath) -> bool {
        let names = |at: &usize| self.routes.get(*at).is_some_and(|route| !route.path.has_rest());
        strip_root(path.as_str()).is_some_and(|segments| self.loose.has_members(segments, &names))
    }

    /// Whether a lenient parser or a framework could match `path` to another route than `found`, its exact match:
    /// `/users/ME` or `/users/me.json` to `/users/me` instead of `/users/{id}`. A route that spells out its whole path, as
    /// `/users/me.json`, is meant.
    pub(crate) fn is_ambiguous(&self, path: &str, found: &Route) -> bool {
        if is_plain(path) && !self.has_unplain_literals {
            return false;
        }
        let is_spelled_out = found.path.as_str() == path && !path.contains('{');
        let path = NormalizedPath::new(path);
        let is_other = |reading: &NormalizedPath| {
            let mut all = self.find_all_loosely(reading).peekable();
            all.peek().is_some() && all.all(|route| route.index != found.index)
        };
        self.find_all_loosely(&path).all(|route| route.index != found.index)
            || !is_spelled_out && framework_readings(&path).iter().any(is_other)
    }

    /// A route that a lenient parser or a framework could match to a path that matches none as it is written.
    pub(crate) fn find_by_reading(&self, path: &str) -> Option<&Arc<Route>> {
        if is_plain(path) && !self.has_unplain_literals {
            return None;
        }
        let path = NormalizedPath::new(path);
        let readings = framework_readings(&path);
        std::iter::once(&path).chain(&readings).find_map(|reading| self.find_loosely(reading))
    }
}

/// Whether a path has only one reading.
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    let is_other = |(at, byte): (usize, &u8)| match BYTE_READINGS[usize::from(*byte)] {
        Reading::One => false,
        Reading::Several => true,
        // Padding or a radix: a zero at the beginning of a segment, before another digit or a letter of `0x7`.
        Reading::Zero => at > 0 && bytes[at - 1] == b'/' && bytes.get(at + 1).is_some_and(follows_zero),
    };
    bytes.last() != Some(&b'/') && !bytes.iter().enumerate().any(is_other)
}

fn follows_zero(byte: &u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'x' | b'o' | b'b')
}

/// The readings of a path that has a byte.
#[derive(Clone, Copy)]
enum Reading {
    One,
    Several,
    Zero,
}

const BYTE_READINGS: [Reading; 256] = {
    let (mut readings, mut byte) = ([Reading::One; 256], 0);
    while byte < 256 {
        readings[byte] = match byte as u8 {
            b'0' => Reading::Zero,
            b'%' | b'.' | b'+' | b'A'..=b'Z' | 0x80.. => Reading::Several,
            _ => Reading::One,
        };
        byte += 1;
    }
    readings
};

/// How tags are compared: releases that differ in it purge what the other one stored.
const TAG_COMPARISON: &str = "5";

/// All that decides which tags a response gets, and which targets a write purges. A route without tags and purges counts
/// only where it takes paths from one that has some.
fn rules_text(routes: &[Arc<Route>], more: &str) -> String {
    let has_rules = |route: &Route| !route.tags.is_empty() || route.purges.is_some();
    let with_rules: Vec<_> = routes.iter().filter(|route| has_rules(route)).collect();
    let counts = |route: &&Arc<Route>| {
        has_rules(route)
            || with_rules.iter().any(|other| overlap(route.path.segments(), other.path.segments()))
    };
    let text = |route: &Arc<Route>| {
        let Route { path, tags, purges, mode, max_json, max_targets, purge_on, unclear, own_url, .. } =
            &**route;
        let ends = format!("{max_targets:?} {purge_on:?} {unclear:?} {own_url:?}");
        format!("{} {tags:?} {purges:?} {mode:?} {max_json} {ends}\n", path.as_str())
    };
    let mut texts: Vec<String> = routes.iter().filter(counts).map(text).collect();
    texts.sort_unstable();
    format!("{TAG_COMPARISON} {more}\n{}", texts.concat())
}

/// Whether a response with this status says that nothing is there, which a write elsewhere may change.
pub(super) fn is_absence(status: u16) -> bool {
    matches!(status, 404 | 410)
}

/// All that decides which query is the one of a stored response.
fn query_rules_text(routes: &[Arc<Route>]) -> String {
    if routes.iter().all(|route| route.query == QueryRule::All) {
        return "all queries, raw bytes encoded".to_owned();
    }
    let text = |route: &Arc<Route>| format!("{} {:?}\n", route.path.as_str(), route.query);
    let mut texts: Vec<String> = routes.iter().map(text).collect();
    texts.sort_unstable();
    format!("queries, raw bytes encoded, of\n{}", texts.concat())
}

/// Whether some path matches both.
fn overlap(one: &[Segment], other: &[Segment]) -> bool {
    match (one, other) {
        ([Segment::Rest(_), ..], _) | (_, [Segment::Rest(_), ..]) | ([], []) => true,
        ([Segment::Literal(one), ..], [Segment::Literal(other), ..])
            if loose_literal(one) != loose_literal(other) =>
        {
            false
        }
        ([_, one @ ..], [_, other @ ..]) => overlap(one, other),
        ([], _) | (_, []) => false,
    }
}

/// `None` within the result: the root itself.
fn strip_root(path: &str) -> Option<Option<&str>> {
    let segments = path.strip_prefix('/')?;
    Some((!segments.is_empty()).then_some(segments))
}

/// `None`: the normalized form drops the segment.
fn loose_literal(literal: &str) -> Option<Box<str>> {
    let path = NormalizedPath::new(&format!("/{literal}"));
    let literal = path.as_str().strip_prefix('/').unwrap_or_default();
    (!literal.is_empty()).then(|| literal.into())
}

fn is_lower(text: &str) -> bool {
    !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// How a tree spells literals.
#[derive(Clone, Copy)]
enum Spelling {
    Written,
    /// The spelling of [`NormalizedPath`].
    Loose,
}

impl Spelling {
    /// `None`: paths do not have the segment.
    fn spell(self, literal: &str) -> Option<Box<str>> {
        match self {
            Spelling::Written => Some(literal.into()),
            Spelling::Loose => loose_literal(literal),
        }
    }

    fn spell_affix(self, affix: &str) -> Box<str> {
        match self {
            Spelling::Written => affix.into(),
            Spelling::Loose => affix.to_ascii_lowercase().into(),
        }
    }
}

impl AffixedNode {
    fn matches(&self, segment: &str) -> bool {
        segment.len() > self.length()
            && segment.starts_with(&*self.prefix)
            && segment.ends_with(&*self.suffix)
    }

    fn length(&self) -> usize {
        self.prefix.len() + self.suffix.len()
    }
}

impl TrieNode {
    fn insert(&mut self, segments: &[Segment], spelling: Spelling, route: usize) {
        let Some((segment, after)) = segments.split_first() else {
            self.here.push(route);
            return;
        };
        match segment {
            Segment::Literal(literal) => match spelling.spell(literal) {
                Some(literal) => self.literals.entry(literal).or_default().insert(after, spelling, route),
                None => self.insert(after, spelling, route),
            },
            Segment::Affixed(parameter) => {
                self.affixed_node(parameter, spelling).insert(after, spelling, route)
            }
            Segment::Parameter(_) => self.parameter.get_or_insert_default().insert(after, spelling, route),
            Segment::Rest(_) => self.rest.push(route),
        }
    }

    fn affixed_node(&mut self, parameter: &AffixedParameter, spelling: Spelling) -> &mut TrieNode {
        let [prefix, suffix] =
            [&parameter.prefix, &parameter.suffix].map(|affix| spelling.spell_affix(affix));
        let is_same = |node: &AffixedNode| node.prefix == prefix && node.suffix == suffix;
        let at = self.affixed.iter().position(is_same).unwrap_or_else(|| {
            // The order does not depend on that of the routes.
            let rank =
                |node: &AffixedNode| (usize::MAX - node.length(), node.prefix.clone(), node.suffix.clone());
            let new = AffixedNode { prefix, suffix, node: TrieNode::default() };
            let at = self.affixed.partition_point(|node| rank(node) < rank(&new));
            self.affixed.insert(at, new);
            at
        });
        &mut self.affixed[at].node
    }

    /// The routes of the most specific match for `path`; `None` is the end of the path.
    fn search(&self, path: Option<&str>) -> Option<&[usize]> {
        let Some(path) = path else {
            return (!self.here.is_empty()).then_some(&self.here);
        };
        // Segments are short: a plain loop finds their end fastest.
        let (segment, after) = match path.bytes().position(|byte| byte == b'/') {
            Some(end) => (&path[..end], Some(&path[end + 1..])),
            None => (path, None),
        };
        if let Some(found) = self.literals.get(segment).and_then(|node| node.search(after)) {
            return Some(found);
        }
        if segment.is_empty() {
            return None;
        }
        if !self.affixed.is_empty()
            && let Some(found) = self.search_affixed(segment, after)
        {
            return Some(found);
        }
        let found = self.parameter.as_ref().and_then(|node| node.search(after));
        found.or_else(|| (!self.rest.is_empty()).then_some(&self.rest))
    }
    #[cold]
    fn search_affixed(&self, segment: &str, after: Option<&str>) -> Option<&[usize]> {
        self.affixed.iter().filter(|node| node.matches(segment)).find_map(|node| node.node.search(after))
    }

    /// Whether some path longer than `path` has a route that `is_meant`.
    fn has_below(&self, path: Option<&str>, is_meant: &dyn Fn(&usize) -> bool) -> bool {
        self.rest.iter().any(is_meant)
            || match path {
                Some(_) => self.nodes_on(path).any(|(node, after)| node.has_below(after, is_meant)),
                None => self.all_nodes().any(|node| node.has_any(is_meant)),
            }
    }

    /// The same where a parameter or the rest comes next.
    fn has_members(&self, path: Option<&str>, is_meant: &dyn Fn(&usize) -> bool) -> bool {
        match path {
            Some(_) => self.nodes_on(path).any(|(node, after)| node.has_members(after, is_meant)),
            None => {
                let affixed = self.affixed.iter().map(|node| &node.node);
                self.rest.iter().any(is_meant)
                    || affixed.chain(self.parameter.as_deref()).any(|node| node.has_any(is_meant))
            }
        }
    }

    fn has_any(&self, is_meant: &dyn Fn(&usize) -> bool) -> bool {
        self.here.iter().chain(&self.rest).any(is_meant)
            || self.all_nodes().any(|node| node.has_any(is_meant))
    }

    fn all_nodes(&self) -> impl Iterator<Item = &TrieNode> {
        let affixed = self.affixed.iter().map(|node| &node.node);
        self.literals.values().chain(affixed).chain(self.parameter.as_deref())
    }

    /// The nodes that the first segment of `path` leads to, with the segments after it.
    fn nodes_on<'t, 'p>(
        &'t self,
        path: Option<&'p str>,
    ) -> impl Iterator<Item = (&'t TrieNode, Option<&'p str>)> + use<'t, 'p> {
        let (segment, after) = match path.and_then(|path| path.split_once('/')) {
            Some((segment, after)) => (Some(segment), Some(after)),
            None => (path, None),
        };
        let literal = segment.and_then(|segment| self.literals.get(segment));
        let is_matched = move |node: &&AffixedNode| segment.is_some_and(|segment| node.matches(segment));
        let affixed = self.affixed.iter().filter(is_matched).map(|node| &node.node);
        let nodes = literal.into_iter().chain(affixed).chain(self.parameter.as_deref());
        nodes.map(move |node| (node, after))
    }
}
