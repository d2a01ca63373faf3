//! What a write purges: what its routes say, and its own URL (RFC 9111 §4.4).

use std::sync::Arc;

use http::header::{CONTENT_LOCATION, HeaderMap, HeaderName, LOCATION};

use super::{WriteEnd, WriteTargets, add, add_paths, location, readings};
use crate::policy::content::Content;
use crate::policy::groups;
use crate::policy::path::{is_normal, normal_form};
use crate::policy::routes::Routes;
use crate::policy::tags::{LISTED, MAX_TAG_BYTES, MAX_TAGS};
use crate::policy::template::{Sources, Template};
use crate::policy::{RequestHead, Route};
use crate::purge::{LoosePath, Target};

/// Some servers take the path to change from here.
static PATH_OVERRIDES: [HeaderName; 2] =
    [HeaderName::from_static("x-original-url"), HeaderName::from_static("x-rewrite-url")];

/// What is known of a write only when it is over; nothing of it, where it has no answer or the content can't be read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exchanged<'a> {
    pub request_content: Option<&'a Content>,
    pub response_headers: Option<&'a HeaderMap>,
    pub response_content: Option<&'a Content>,
}

/// How much of a write's contents must be kept for the templates of its routes; `None`: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub request: Option<u64>,
    pub response: Option<u64>,
}

pub fn kept_of_write(routes: &Routes, request: &RequestHead<'_>) -> Kept {
    let mut kept = Kept::default();
    if changes_nothing(routes, request) {
        return kept;
    }
    for matched in paths(request).iter().flat_map(|path| matches(routes, path)) {
        let limit = Some(matched.route.max_json);
        if matched.templates().any(Template::reads_request_content) {
            kept.request = kept.request.max(limit);
        }
        if matched.templates().any(Template::reads_response_content) {
            kept.response = kept.response.max(limit);
        }
    }
    kept
}

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

/// What is known only when the write is over: templates that need the content of the request, or anything of the
/// response; and RFC 9111 §4.4: `Location` and `Content-Location` of the same origin, with what their routes say by
/// values of their paths.
pub fn of_exchange(routes: &Routes, request: &RequestHead<'_>, exchanged: &Exchanged<'_>) -> WriteTargets {
    let mut purged = WriteTargets::default();
    if changes_nothing(routes, request) {
        return purged;
    }
    for path in paths(request) {
        for matched in matches(routes, &path) {
            matched.add_targets(&mut purged, request, Some(exchanged));
        }
    }
    for name in [LOCATION, CONTENT_LOCATION] {
        for reference in exchanged.response_headers.into_iter().flat_map(|headers| headers.get_all(&name)) {
            let reference = String::from_utf8_lossy(reference.as_bytes());
            if let Some(path) = location::path_of_same_origin(request, &reference) {
                add_paths(&mut purged.targets, None, &path);
                matches(routes, &path).iter().for_each(|named| named.add_own(&mut purged, request));
            }
        }
    }
    purged
}

/// A write is over: how it counts, and what it purges in all. `written`: what its request told before.
pub fn at_end(
    routes: &Routes,
    request: &RequestHead<'_>,
    mut written: WriteTargets,
    end: WriteEnd,
    exchanged: &Exchanged<'_>,
) -> (WriteEnd, WriteTargets) {
    let groups = exchanged.response_headers.map(|headers| groups::invalidated(request, headers));
    let groups = groups.unwrap_or_default();
    if end == WriteEnd::Nothing {
        // RFC 9875 §3: the upstream names what to drop, so it is dropped, and nothing else.
        let end = if groups.is_empty() { WriteEnd::Nothing } else { WriteEnd::Purge };
        return (end, WriteTargets { targets: groups, settle: written.settle, ..WriteTargets::default() });
    }
    let said = of_exchange(routes, request, exchanged);
    written.targets.extend(said.targets.into_iter().chain(groups));
    written.widened += said.widened;
    (end, written)
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
    routes: &'r Routes,
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
        None => found.push(Match { routes, route, captures: vec![captures] }),
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
    /// Adds what the route's templates stand for: those that are known late if the write is over, else the others. One
    /// that finds no value, a value that no tag can be made of, or more than a response may have is widened.
    fn add_targets(
        &self,
        purged: &mut WriteTargets,
        request: &RequestHead<'_>,
        exchanged: Option<&Exchanged<'_>>,
    ) {
        if says_nothing(self.route) {
            return;
        }
        for template in self.templates().filter(|tag| tag.is_known_late() == exchanged.is_some()) {
            let tags = self.render(template, request, exchanged.copied().unwrap_or_default());
            let is_short = |tag: &String| tag.len() <= MAX_TAG_BYTES;
            let is_whole = tags
                .as_ref()
                .is_some_and(|tags| (1..=MAX_TAGS).contains(&tags.len()) && tags.iter().all(is_short));
            for tag in tags.into_iter().flatten().filter(is_short) {
                add(&mut purged.targets, Target::tag(tag));
            }
            if !is_whole {
                purged.widened += 1;
                self.widen(purged, request, template);
            }
        }
    }

    /// What a response named by `Location` has changed: the tags that its path gives values to.
    fn add_own(&self, purged: &mut WriteTargets, request: &RequestHead<'_>) {
        let of_path = |tag: &&Template| tag.path_parameters().next().is_some();
        for template in self.route.tags.iter().filter(of_path) {
            for tag in self.render(template, request, Exchanged::default()).into_iter().flatten() {
                add(&mut purged.targets, Target::tag(tag));
            }
        }
    }

    /// `None`: there is a value that no tag can be made of.
    fn render(
        &self,
        template: &Template,
        request: &RequestHead<'_>,
        Exchanged { request_content, response_headers, response_content }: Exchanged<'_>,
    ) -> Option<Vec<String>> {
        let mut tags = Vec::new();
        for captures in &self.captures {
            let request = *request;
            let sources = Sources { request, captures, request_content, response_headers, response_content };
            tags.extend(template.render(&sources).ok()?);
        }
        Some(tags)
    }

    /// To the route's literal tags. Where it has none, or has said that a write there changes what it can't name now: to
    /// the paths of each route that has tags like this one, and to all responses whose own fields list tags.
    fn widen(&self, purged: &mut WriteTargets, request: &RequestHead<'_>, template: &Template) {
        let literal: Vec<String> = self
            .templates()
            .filter(|tag| tag.is_literal())
            .filter_map(|tag| self.render(tag, request, Exchanged::default()))
            .flatten()
            .collect();
        let mut add_paths_of = |route: &Route| {
            add(&mut purged.targets, Target::Prefix { host: None, path: route.path.literal_prefix() });
        };
        if literal.is_empty() {
            add_paths_of(self.route);
        }
        if literal.is_empty() || self.route.purges.iter().flatten().any(|purges| purges == template) {
            let is_like = |route: &&Arc<Route>| route.tags.iter().any(|tag| are_alike(tag, template));
            self.routes.iter().filter(is_like).for_each(|route| add_paths_of(route));
            add(&mut purged.targets, Target::tag(LISTED));
        }
        for tag in literal {
            add(&mut purged.targets, Target::tag(tag));
        }
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        self.route.tags.iter().chain(self.route.purges.iter().flatten())
    }
}

/// Whether both could make the same tag, by what they begin with.
fn are_alike(one: &Template, other: &Template) -> bool {
    let (one, other) = (one.beginning().to_ascii_lowercase(), other.beginning().to_ascii_lowercase());
    one.starts_with(&other) || other.starts_with(&one)
}
