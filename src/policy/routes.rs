//! Which route a path falls under. The most specific wins: a literal segment beats a parameter, a parameter beats the
//! rest, compared from the left.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Route;
use super::path::Segment;
use crate::purge::LoosePath;

#[derive(Clone, Debug, Default)]
pub struct Routes {
    routes: Vec<Arc<Route>>,
    /// Literals as they are written.
    exact: Node,
    /// Literals as [`LoosePath`] spells them.
    loose: Node,
    /// A literal has another loose form: then a path that looks plain can fall under one route as it is written and
    /// under another loosely.
    has_unplain_literals: bool,
}

/// One place in the tree of segments. Each node lies at one depth, so a search enters it at most once.
#[derive(Clone, Debug, Default)]
struct Node {
    literals: BTreeMap<Box<str>, Node>,
    parameter: Option<Box<Node>>,
    /// Routes whose rest begins here.
    rest: Vec<usize>,
    /// Routes that end here. In the tree of written literals there is never more than one.
    here: Vec<usize>,
}

impl Routes {
    /// No two routes have templates that match the same paths; the configuration has seen to that.
    pub fn new(routes: &[Arc<Route>]) -> Self {
        let mut tree = Routes { routes: routes.to_vec(), ..Routes::default() };
        for (at, route) in routes.iter().enumerate() {
            let segments = route.path.segments();
            tree.exact.insert(segments, &|literal| Some(literal.into()), at);
            tree.loose.insert(segments, &loose_literal, at);
            tree.has_unplain_literals |= segments.iter().any(|segment| match segment {
                Segment::Literal(literal) => loose_literal(literal).as_deref() != Some(literal),
                Segment::Parameter(_) | Segment::Rest(_) => false,
            });
        }
        tree
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    /// By the path as it is written, for reading. A trailing slash is another path.
    pub fn find(&self, path: &str) -> Option<&Arc<Route>> {
        let found = self.exact.search(below_root(path)?)?;
        self.routes.get(*found.first()?)
    }

    /// By any spelling, for purging.
    pub fn find_loosely(&self, path: &LoosePath) -> Option<&Arc<Route>> {
        self.all_loosely(path).next()
    }

    /// By any spelling: more than one route if their paths differ only in what spellings differ in.
    pub fn all_loosely(&self, path: &LoosePath) -> impl Iterator<Item = &Arc<Route>> {
        let found = below_root(path.as_str()).and_then(|segments| self.loose.search(segments));
        found.unwrap_or_default().iter().filter_map(|at| self.routes.get(*at))
    }

    /// Whether a careless reader of paths could take `path` for one of another route than `found`, which it falls
    /// under as it is written: `/users/ME` for `/users/me` and not for `/users/{id}`.
    pub fn is_ambiguous(&self, path: &str, found: &Route) -> bool {
        let plain =
            !path.bytes().any(|byte| byte == b'%' || byte.is_ascii_uppercase()) && !path.ends_with('/');
        if plain && !self.has_unplain_literals {
            return false;
        }
        !self.all_loosely(&LoosePath::new(path)).any(|route| route.index == found.index)
    }
}

/// `None` below the root itself.
fn below_root(path: &str) -> Option<Option<&str>> {
    let segments = path.strip_prefix('/')?;
    Some((!segments.is_empty()).then_some(segments))
}

/// `None`: the loose form has no such segment.
fn loose_literal(literal: &str) -> Option<Box<str>> {
    let path = LoosePath::new(&format!("/{literal}"));
    let literal = path.as_str().strip_prefix('/').unwrap_or_default();
    (!literal.is_empty()).then(|| literal.into())
}

impl Node {
    fn insert(&mut self, segments: &[Segment], spelled: &dyn Fn(&str) -> Option<Box<str>>, route: usize) {
        let Some((segment, after)) = segments.split_first() else {
            self.here.push(route);
            return;
        };
        match segment {
            Segment::Literal(literal) => match spelled(literal) {
                Some(literal) => self.literals.entry(literal).or_default().insert(after, spelled, route),
                None => self.insert(after, spelled, route),
            },
            Segment::Parameter(_) => self.parameter.get_or_insert_default().insert(after, spelled, route),
            Segment::Rest(_) => self.rest.push(route),
        }
    }

    /// The routes of the most specific place that `path` reaches; `None` is its end.
    fn search(&self, path: Option<&str>) -> Option<&[usize]> {
        let Some(path) = path else {
            return (!self.here.is_empty()).then_some(&self.here);
        };
        // Segments are short: a plain loop finds their end soonest.
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
        let found = self.parameter.as_ref().and_then(|node| node.search(after));
        found.or_else(|| (!self.rest.is_empty()).then_some(&self.rest))
    }
}
