//! Paths that another cache names by a pattern, and the routes that have some of them too.
//!
//! A route caches nothing by itself (`mode: observe`) if the other cache may treat one of its paths more carefully.

use super::{CATCH_ALL, Import, ask, duration_seconds, plain_pattern, push_route, route_path};
use crate::draft::{DraftRoute, Setting};

/// The paths of a pattern.
#[derive(Clone, Debug)]
pub(super) struct PathSet {
    /// The beginning of all these paths, in any case of letters.
    prefix: String,
    /// The path of a route for them; `None` if no path says it.
    pub route: Option<String>,
    /// The route has all of them: none begins with the same name, as `/ab` does with `/a`.
    is_covered: bool,
}

impl PathSet {
    /// Paths that can't be told.
    pub(super) fn unknown() -> Self {
        Self { prefix: String::new(), route: None, is_covered: false }
    }

    pub(super) fn everything() -> Self {
        Self { prefix: "/".into(), route: Some(CATCH_ALL.into()), is_covered: true }
    }

    /// The one path, or all that begin with it.
    pub(super) fn from_path(path: &str, is_prefix: bool) -> Self {
        let route = Some(route_path(path, is_prefix));
        Self { prefix: path.to_owned(), route, is_covered: !is_prefix || path.ends_with('/') }
    }

    /// The paths that a regular expression matches.
    pub(super) fn from_pattern(pattern: &str) -> Self {
        let Some(inner) = pattern.strip_prefix('^') else { return Self::unknown() };
        let route = plain_pattern(pattern);
        let body = inner.strip_suffix(".*").or_else(|| inner.strip_suffix(".+")).unwrap_or(inner);
        let is_covered = route.is_some() && body.ends_with(['/', '$']);
        let prefix = if has_alternatives(inner) { String::new() } else { literal_prefix(inner) };
        Self { prefix, route, is_covered }
    }

    pub(super) fn ignoring_case(self) -> Self {
        Self { is_covered: false, ..self }
    }

    /// Whether all paths of the route are among these, as far as the beginning tells.
    pub(super) fn may_contain(&self, route: &str) -> bool {
        split_literal(route).0.starts_with(&self.prefix.to_ascii_lowercase())
    }

    /// Whether the route may have some of these paths, and others.
    fn may_be_within(&self, route: &str) -> bool {
        let (literal, is_one_path) = split_literal(route);
        !is_one_path && self.prefix.to_ascii_lowercase().starts_with(&literal)
    }
}

/// The text of a route's path before its first parameter, and whether that is the whole path.
fn split_literal(route: &str) -> (String, bool) {
    let literal = route.split('{').next().unwrap_or(route);
    (literal.to_ascii_lowercase(), literal.len() == route.len())
}

/// Whether the whole pattern is a choice, so that matches may begin in different ways.
fn has_alternatives(pattern: &str) -> bool {
    let mut depth = 0;
    pattern.chars().any(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == '|' && depth == 0
    })
}

/// The text with which all matches of a pattern begin.
fn literal_prefix(pattern: &str) -> String {
    let mut prefix = String::new();
    let mut rest = pattern.chars().peekable();
    while let Some(next) = rest.next() {
        let literal = match next {
            '\\' => rest.next().filter(|escaped| !escaped.is_ascii_alphanumeric()),
            next => Some(next).filter(|next| next.is_ascii_alphanumeric() || "/_-~%=&,:;@!".contains(*next)),
        };
        let Some(literal) = literal else { break };
        if matches!(rest.peek(), Some('*' | '?' | '{')) {
            break;
        }
        prefix.push(literal);
    }
    prefix
}

/// Paths, and what the other cache does with them.
pub(super) struct Region {
    pub paths: PathSet,
    /// The settings of a route for them; `None` if they are not cached.
    pub settings: Option<Vec<Setting>>,
    /// The statement.
    pub about: String,
    /// It holds for longer paths that have routes of their own as well.
    pub is_stronger: bool,
}

/// Lets routes only observe that have paths which the other cache treats more carefully.
pub(super) fn restrain(routes: &mut [DraftRoute], regions: &[Region]) {
    for route in routes.iter_mut().filter(|route| !has_mode(route)) {
        let concerns = |region: &&Region| {
            let paths = &region.paths;
            paths.route.as_ref() != Some(&route.path)
                && (region.is_stronger && paths.may_contain(&route.path)
                    || !paths.is_covered && paths.may_be_within(&route.path))
                && region.settings.as_ref().is_none_or(|settings| caches_more(&route.settings, settings))
        };
        if let Some(region) = regions.iter().find(concerns) {
            let why = format!("{} may be about some of its paths; remove this if not", region.about);
            route.settings.push(Setting::new("mode", "observe", why));
        }
    }
}

/// Whether the route is off or observes already.
fn has_mode(route: &DraftRoute) -> bool {
    route.settings.iter().any(|setting| setting.key == "mode")
}

/// Whether a route with `settings` may store what one with `others` would not, or for longer.
pub(super) fn caches_more(settings: &[Setting], others: &[Setting]) -> bool {
    fn find<'s>(settings: &'s [Setting], key: &str) -> Option<&'s str> {
        settings.iter().rev().find(|setting| setting.key == key).map(|setting| setting.value.as_str())
    }
    let [ttl, other_ttl] = [settings, others].map(|settings| find(settings, "ttl").unwrap_or_default());
    let is_longer = ttl != other_ttl
        && match (duration_seconds(ttl), duration_seconds(other_ttl)) {
            (Some(ttl), Some(other)) => ttl > other,
            _ => true,
        };
    let is_other = |key: &&str| find(settings, key) != find(others, key);
    let is_added = |key: &&str| find(settings, key).is_some() && is_other(key);
    find(others, "mode").is_some()
        || is_longer
        || ["query", "headers", "cookies", "per"].iter().any(is_other)
        || ["override", "status", "stale_while_revalidate", "stale_if_error"].iter().any(is_added)
}

/// Adds a route that caches nothing. Without a path that says it, everything that has no route of its own is not cached.
pub(super) fn exclude(import: &mut Import, paths: PathSet, about: &str, why: &str) {
    if paths.route.is_none() {
        ask(
            import,
            format!(
                "{about}: no path says this exactly, so `{CATCH_ALL}` is not cached. Which paths are these?"
            ),
        );
    }
    let settings = vec![Setting::new("mode", "off", why)];
    let path = paths.route.clone().unwrap_or_else(|| CATCH_ALL.to_owned());
    push_route(import, DraftRoute { path, about: vec![about.to_owned()], settings });
    import.regions.push(Region { paths, settings: None, about: about.to_owned(), is_stronger: true });
}
