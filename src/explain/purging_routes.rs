//! Relates tags to routes by their templates: the routes whose writes purge a tag, and those whose responses carry it.

use serde::Serialize;

use crate::policy::Route;
use crate::policy::routes::Routes;
use crate::policy::template::Template;

/// A route whose writes can purge one of the tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PurgingRoute {
    /// The path of the route.
    pub route: String,
    /// The template in the route's `tags` or `purges`.
    pub template: String,
    /// The tag that the template can produce.
    pub tag: String,
    /// The route says `purges: []`: writes to other routes purge the tag, if their responses name a path of this one
    /// (`Location`, `Content-Location`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub by_location: bool,
}

/// Finds the routes whose writes can purge one of `tags`, or a tag of the templates in `unread`.
pub(crate) fn find_purging_routes(
    routes: &Routes,
    tags: &[String],
    unread: &[Template],
) -> Vec<PurgingRoute> {
    let mut found = Vec::new();
    for route in routes.iter() {
        let own = route.purge_templates().map(|template| (template, false));
        for (template, by_location) in own.chain(location_templates(route).map(|template| (template, true))) {
            let known = tags.iter().find(|tag| template.may_reach(tag)).map(String::as_str);
            let late = unread.iter().find(|tag| template.may_reach_any(tag)).map(Template::as_str);
            let purger = |tag: &str| PurgingRoute {
                route: route.path.as_str().to_owned(),
                template: template.as_str().to_owned(),
                tag: tag.to_owned(),
                by_location,
            };
            found.extend(known.or(late).map(purger).filter(|purger| !found.contains(purger)));
        }
    }
    found
}

/// The templates of a route with `purges: []` that writes to other routes purge, if their responses name a path of it.
fn location_templates(route: &Route) -> impl Iterator<Item = &Template> {
    let tags = if route.has_empty_purges() { &route.tags[..] } else { &[] };
    tags.iter().filter(|tag| tag.path_parameters().next().is_some())
}

/// The paths of the routes whose responses can carry `tag` or a tag below it.
pub(crate) fn routes_with_tag(routes: &Routes, tag: &str) -> Vec<String> {
    let carry = |route: &Route| route.caches() && route.tags.iter().any(|own| own.may_be_reached_by(tag));
    routes.iter().filter(|route| carry(route)).map(|route| route.path.as_str().to_owned()).collect()
}
