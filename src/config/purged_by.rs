//! What ends a `ttl: none`: something has to, or it is never asked for again before its safety expiry. And whether the
//! tags that events purge are tags that a route has.

use super::events::CheckedSource;
use super::problem::Problems;
use super::routes::Checked;
use super::scalars::word;
use super::suggest::nearest;
use super::tree::Node;
use crate::policy::Route;
use crate::policy::route::Ttl;
use crate::policy::template::Template;

/// The word of an operator on that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PurgedBy {
    /// A write or an event, which can be looked for.
    Rules,
    /// PURGE, the admin listener, or tags in responses' fields: nobody can tell from here.
    Admin,
}

pub fn read(node: &Node, problems: &Problems) -> Option<PurgedBy> {
    word(node, &[("rules", PurgedBy::Rules), ("admin", PurgedBy::Admin)], problems)
}

/// `sources`: `None` where they could not be read, so that nothing is known.
pub fn check(routes: &[Checked], sources: Option<&[CheckedSource]>, problems: &Problems) {
    let Some(sources) = sources else { return };
    for checked in routes {
        let route = &checked.route;
        // Or it ends by itself.
        let is_kept = route.ttl == Ttl::UntilPurged && route.ttl_from.is_none() && route.caches();
        if is_kept && checked.purged_by == PurgedBy::Rules && !is_purged(&checked.route, routes, sources) {
            let message = match checked.route.tags.is_empty() {
                true => "`ttl: none` without tags: nothing purges it",
                false => "`ttl: none`, and no write and no event purges one of its tags",
            };
            problems.error(checked.path_place, message).help(
                "give the route `tags`, and name one in `purges` of the route of what changes it or in `purge` of one of \
                 `events`; or say `purged_by: admin` if PURGE or the admin listener does it",
            );
        }
    }
    warn_of_unknown_tags(routes, sources, problems);
}

fn is_purged(route: &Route, routes: &[Checked], sources: &[CheckedSource]) -> bool {
    let reaches = |purged: &Template| route.tags.iter().any(|tag| purged.may_reach_some_of(tag));
    // A write to the route itself purges its own tags.
    let by_writes = routes
        .iter()
        .map(|checked| &checked.route)
        .filter(|other| !says_nothing(other))
        .any(|other| other.tags.iter().chain(other.purges.iter().flatten()).any(reaches));
    by_writes || sources.iter().any(|checked| checked.source.rule.reaches(route))
}

/// `purges: []`.
fn says_nothing(route: &Route) -> bool {
    route.purges.as_ref().is_some_and(Vec::is_empty)
}

/// As for `purges` of routes: a misspelt tag purges nothing.
fn warn_of_unknown_tags(routes: &[Checked], sources: &[CheckedSource], problems: &Problems) {
    let tags = || routes.iter().flat_map(|checked| &checked.route.tags);
    for purged in sources.iter().flat_map(|checked| &checked.purge) {
        if tags().any(|tag| purged.value.may_reach_some_of(tag)) {
            continue;
        }
        let known: Vec<String> = tags().map(Template::shape).collect();
        if let Some(near) = nearest(&purged.value.shape(), known.iter().map(String::as_str)) {
            problems
                .warning(purged.place, format!("no route has a tag like `{}`", purged.value.as_str()))
                .help(format!("did you mean `{near}`? It is right if responses carry it in a field"));
        }
    }
}
