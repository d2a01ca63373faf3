//! What a write purges: what its routes say, and its own URL (RFC 9111 §4.4).

use std::sync::Arc;

use http::header::{CONTENT_LOCATION, HeaderMap, HeaderName, LOCATION};

use super::{WriteTargets, add, add_paths, location, readings};
use crate::policy::path::{is_normal, normal_form};
use crate::policy::routes::Routes;
use crate::policy::template::{Sources, Template};
use crate::policy::{RequestHead, Route};
use crate::purge::{LoosePath, Target};

/// Some servers take the path to change from here.
static PATH_OVERRIDES: [HeaderName; 2] =
    [HeaderName::from_static("x-original-url"), HeaderName::from_static("x-rewrite-url")];

/// `parents`: a write that no route matches also purges the cached paths it lies under.
pub fn of_write(routes: &Routes, request: &RequestHead<'_>, parents: bool) -> WriteTargets {
    let mut purged = WriteTargets::default();
    if changes_nothing(routes, request) {
        return purged;
    }
    for path in paths(request) {
        add_paths(&mut purged.targets, None, &path);
        let matches = matches(routes, &path);
        if matches.is_empty() && parents {
            add_parents(&mut purged.targets, routes, &path);
        }
        for matched in matches {
            purged.settle = purged.settle.max(matched.route.settle);
            matched.add_targets(&mut purged, request, None);
        }
    }
    purged
}

/// What only the response of the write tells: templates that need one of its fields, and RFC 9111 §4.4: `Location`
/// and `Content-Location` of the same origin.
pub fn of_write_response(
    routes: &Routes,
    request: &RequestHead<'_>,
    response_headers: &HeaderMap,
) -> WriteTargets {
    let mut purged = WriteTargets::default();
    if changes_nothing(routes, request) {
        return purged;
    }
    for path in paths(request) {
        for matched in matches(routes, &path) {
            matched.add_targets(&mut purged, request, Some(response_headers));
        }
    }
    for name in [LOCATION, CONTENT_LOCATION] {
        for reference in response_headers.get_all(name) {
            let reference = String::from_utf8_lossy(reference.as_bytes());
            if let Some(path) = location::path_of_same_origin(request, &reference) {
                add_paths(&mut purged.targets, None, &path);
            }
        }
    }
    purged
}

/// `purges: []`. Believed only of a path that can be read in one way.
fn changes_nothing(routes: &Routes, request: &RequestHead<'_>) -> bool {
    let path = request.path;
    is_normal(path)
        && !PATH_OVERRIDES.iter().any(|name| request.headers.contains_key(name))
        && routes.find(path).is_some_and(|route| says_nothing(route) && !routes.is_ambiguous(path, route))
}

fn says_nothing(route: &Route) -> bool {
    route.purges.as_ref().is_some_and(Vec::is_empty)
}

/// The path that the request is for, and those that it may be taken to be for.
fn paths(request: &RequestHead<'_>) -> Vec<String> {
    let mut paths = vec![request.path.to_owned()];
    for value in PATH_OVERRIDES.iter().flat_map(|name| request.headers.get_all(name)) {
        paths.push(location::path_of(request, &String::from_utf8_lossy(value.as_bytes())));
    }
    paths
}

fn add_parents(targets: &mut Vec<Target>, routes: &Routes, path: &str) {
    for reading in readings(path) {
        for parent in reading.prefixes().map(LoosePath::new) {
            if routes.all_loosely(&parent).any(|route| route.caches()) {
                add(targets, Target::Path { host: None, path: parent });
            }
        }
    }
}

/// A route that a path falls under in one or more readings.
struct Match<'r> {
    route: &'r Arc<Route>,
    /// The values of its path's parameters, in each of the readings.
    captures: Vec<Vec<(&'r str, String)>>,
}

fn matches<'r>(routes: &'r Routes, path: &str) -> Vec<Match<'r>> {
    let normal = normal_form(path);
    let mut found: Vec<Match<'r>> = Vec::new();
    let mut add = |route: &'r Arc<Route>, captures| match found
        .iter_mut()
        .find(|matched| Arc::ptr_eq(matched.route, route))
    {
        Some(matched) => matched.captures.push(captures),
        None => found.push(Match { route, captures: vec![captures] }),
    };
    if let Some(route) = routes.find(&normal) {
        add(route, route.path.captures(&normal));
    }
    for reading in readings(path) {
        for route in routes.all_loosely(&reading) {
            add(route, route.path.captures_loosely(&reading));
        }
    }
    found
}

impl Match<'_> {
    /// Adds what the route's templates stand for: those that need the response if it is there, else the others. One
    /// that finds no value is widened.
    fn add_targets(
        &self,
        purged: &mut WriteTargets,
        request: &RequestHead<'_>,
        response_headers: Option<&HeaderMap>,
    ) {
        if says_nothing(self.route) {
            return;
        }
        let mut widened = 0;
        for template in self.templates().filter(|tag| tag.needs_response() == response_headers.is_some()) {
            let tags: Vec<String> = self
                .captures
                .iter()
                .flat_map(|captures| {
                    template.render(&Sources { request: *request, captures, response_headers })
                })
                .collect();
            widened += usize::from(tags.is_empty());
            for tag in tags {
                add(&mut purged.targets, Target::tag(tag));
            }
        }
        if widened > 0 {
            self.widen(purged, request);
        }
        purged.widened += widened;
    }

    /// To the route's literal tags; to the paths that it stands for where it has none.
    fn widen(&self, purged: &mut WriteTargets, request: &RequestHead<'_>) {
        let sources = Sources { request: *request, captures: &[], response_headers: None };
        let literal: Vec<String> =
            self.templates().filter(|tag| tag.is_literal()).flat_map(|tag| tag.render(&sources)).collect();
        if literal.is_empty() {
            add(&mut purged.targets, Target::Prefix { host: None, path: self.route.path.literal_prefix() });
        }
        for tag in literal {
            add(&mut purged.targets, Target::tag(tag));
        }
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        self.route.tags.iter().chain(self.route.purges.iter().flatten())
    }
}
