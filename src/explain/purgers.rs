//! Which writes could purge what carries some tags, and what could carry a tag: as far as templates tell.

use crate::policy::Route;
use crate::policy::routes::Routes;
use crate::policy::template::Template;

/// A route whose writes purge a tag like that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purger {
    pub route: String,
    /// What it says.
    pub template: String,
    /// What that can reach.
    pub tag: String,
}

/// `unread`: tags of which only the templates are known.
pub(super) fn of(routes: &Routes, tags: &[String], unread: &[Template]) -> Vec<Purger> {
    let mut found = Vec::new();
    for route in routes.iter() {
        for template in purged(route) {
            let known = tags.iter().find(|tag| template.may_reach(tag)).map(String::as_str);
            let late = unread.iter().find(|tag| template.may_reach_some_of(tag)).map(Template::as_str);
            let purger = |tag: &str| Purger {
                route: route.path.as_str().to_owned(),
                template: template.as_str().to_owned(),
                tag: tag.to_owned(),
            };
            found.extend(known.or(late).map(purger).filter(|purger| !found.contains(purger)));
        }
    }
    found
}

/// The paths of the routes whose responses could carry what a purge of `tag` reaches.
pub fn carriers(routes: &Routes, tag: &str) -> Vec<String> {
    let carry = |route: &Route| route.caches() && route.tags.iter().any(|own| own.may_be_reached_by(tag));
    routes.iter().filter(|route| carry(route)).map(|route| route.path.as_str().to_owned()).collect()
}

/// What a write to the route purges by tag.
fn purged(route: &Route) -> impl Iterator<Item = &Template> {
    let changes_nothing = route.purges.as_ref().is_some_and(Vec::is_empty);
    let tags = if changes_nothing { &[][..] } else { &route.tags[..] };
    tags.iter().chain(route.purges.iter().flatten())
}
