//! The routes that a purge reaches, for counters and for the answers to purges. Tags that only response fields name
//! belong to no route here.

use super::Route;
use super::invalidation::ROUTE_TAG_PREFIX;
use super::routes::Routes;
use super::template::Template;
use crate::purge::{NormalizedPath, Target, fold_case, normalize_tag};

/// Targets beyond this number are not looked at, which bounds the work per purge.
const MAX_TARGETS: usize = 1000;

/// Returns the caching routes that `targets` may reach.
pub(crate) fn reached_routes<'r>(routes: &'r Routes, targets: &[Target]) -> Vec<&'r Route> {
    let targets = &targets[..targets.len().min(MAX_TARGETS)];
    let is_reached = |route: &&Route| targets.iter().any(|target| reaches(routes, target, route));
    routes.iter().map(|route| &**route).filter(|route| route.caches()).filter(is_reached).collect()
}

/// The tags of all caching routes, as their templates write them.
pub(crate) fn route_tags(routes: &Routes) -> Vec<String> {
    let caching = routes.iter().filter(|route| route.caches());
    let mut tags: Vec<String> = caching.flat_map(|route| route.tags.iter().map(Template::shape)).collect();
    tags.sort_unstable();
    tags.dedup();
    tags
}

fn reaches(routes: &Routes, target: &Target, route: &Route) -> bool {
    let is_route = |found: &Route| found.index == route.index;
    match target {
        Target::Everything => true,
        Target::Tag(tag) if tag.strip_prefix(ROUTE_TAG_PREFIX) == Some(route.path.as_str()) => true,
        Target::Tag(tag) => {
            let tag = normalize_tag(tag);
            route.tags.iter().any(|template| may_render(template, &tag))
        }
        Target::Path { path, .. } | Target::Url { path, .. } | Target::Equivalents { path, .. } => {
            routes.find_all_loosely(path).any(|found| is_route(found))
        }
        Target::Prefix { path, .. } => {
            let literal = route.path.literal_prefix();
            let has_parameters = literal != NormalizedPath::new(route.path.as_str());
            is_at_or_below(literal.as_str(), path.as_str())
                || (has_parameters && is_at_or_below(path.as_str(), literal.as_str()))
        }
    }
}

/// Whether the template can render `tag`, or a tag below it.
fn may_render(template: &Template, tag: &str) -> bool {
    let literal = fold_case(template.literal_prefix());
    is_at_or_below(&literal, tag) || (!template.is_literal() && tag.starts_with(&literal))
}

fn is_at_or_below(path: &str, prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixtures;

    fn reached(target: Target) -> Vec<String> {
        let route = |path: &str, tags: &[&str]| Route {
            tags: tags.iter().map(|tag| Template::parse(tag).unwrap()).collect(),
            ..fixtures::route(path)
        };
        let routes = fixtures::routes([
            route("/courses", &["courses"]),
            route("/courses/{id}", &["courses", "course:{id}", "course:{id}/page"]),
            route("/guilds/{guild}/members", &["guild:{guild}/members"]),
        ]);
        reached_routes(&routes, &[target]).into_iter().map(|route| route.path.as_str().to_owned()).collect()
    }

    #[test]
    fn a_purge_reaches_the_routes_that_its_targets_name() {
        let prefix = |path: &str| Target::Prefix { host: None, path: NormalizedPath::new(path) };
        let path = |path: &str| Target::Path { host: None, path: NormalizedPath::new(path) };
        let (list, one, members) = ("/courses", "/courses/{id}", "/guilds/{guild}/members");
        for (target, expected) in [
            (Target::Everything, vec![list, one, members]),
            (Target::tag("Courses"), vec![list, one]),
            (Target::tag("course:7"), vec![one]),
            (Target::tag("course:7/page"), vec![one]),
            (Target::tag("guild:3"), vec![members]),
            (Target::tag("course"), vec![]),
            (Target::tag("elsewhere"), vec![]),
            (path("/courses/7"), vec![one]),
            (path("/other"), vec![]),
            (prefix("/"), vec![list, one, members]),
            (prefix("/courses"), vec![list, one]),
            (prefix("/courses/7"), vec![one]),
            (prefix("/guilds/3"), vec![members]),
            (prefix("/cours"), vec![]),
        ] {
            assert_eq!(reached(target.clone()), expected, "{target}");
        }
    }
}
