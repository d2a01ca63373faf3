//! Checks of what is purged: a route with `ttl: none` needs a write or an event that purges it, and the tags that events
//! purge should be tags of a route.

use super::diagnostics::Diagnostics;
use super::events::ParsedSource;
use super::parsed_route::ParsedRoute;
use super::suggest::nearest;
use crate::policy::Route;
use crate::policy::route::{PurgedBy, Ttl};
use crate::policy::template::Template;

/// Checks all routes. `sources` is `None` if they have errors; then nothing is checked.
pub(super) fn check(routes: &[ParsedRoute], sources: Option<&[ParsedSource]>, diagnostics: &Diagnostics) {
    let Some(sources) = sources else { return };
    for parsed in routes {
        let route = &parsed.route;
        let never_expires = route.ttl == Ttl::UntilPurged && route.ttl_from.is_none() && route.caches();
        if never_expires && route.purged_by == PurgedBy::Rules && !is_purged(&parsed.route, routes, sources) {
            let message = match parsed.route.tags.is_empty() {
                true => "`ttl: none` without tags: nothing purges it",
                false => "`ttl: none`, and no write and no event purges one of its tags",
            };
            diagnostics.error(parsed.path_location, message).help(
                "give the route `tags`, and purge one of them by `purges` of the route that changes it or by `purge` of one of \
                 `events`; or write `purged_by: admin` if PURGE or the admin listener does it",
            );
        }
    }
    warn_unknown_tags(routes, sources, diagnostics);
}

fn is_purged(route: &Route, routes: &[ParsedRoute], sources: &[ParsedSource]) -> bool {
    let reaches = |purged: &Template| route.tags.iter().any(|tag| purged.may_reach_any(tag));
    // A write to the route itself purges its own tags too.
    let by_writes =
        routes.iter().map(|parsed| &parsed.route).any(|other| other.purge_templates().any(reaches));
    by_writes || sources.iter().any(|parsed| parsed.source.rules.can_reach(route))
}

/// Warns of a tag in `events` that no route has but that is close to one.
fn warn_unknown_tags(routes: &[ParsedRoute], sources: &[ParsedSource], diagnostics: &Diagnostics) {
    let tags = || routes.iter().flat_map(|parsed| &parsed.route.tags);
    for purged in sources.iter().flat_map(|parsed| &parsed.purge) {
        if tags().any(|tag| purged.value.may_reach_any(tag)) {
            continue;
        }
        let known: Vec<String> = tags().map(Template::shape).collect();
        if let Some(near) = nearest(&purged.value.shape(), known.iter().map(String::as_str)) {
            diagnostics
                .warning(purged.location, format!("no route has a tag like `{}`", purged.value.as_str()))
                .help(format!("did you mean `{near}`? Ignore this if responses carry the tag in a field"));
        }
    }
}
