//! The targets that a request invalidates: by route rules, by RFC 9111 §4.4, and by PURGE.
//!
//! A path counts in every way it could be read; in doubt, more is purged. A write names a bounded number of targets, and
//! what it does not name is widened to its own routes only.

mod candidate_path;
#[cfg(test)]
mod hostile_paths;
mod location;
mod matched_rules;
mod purge_dialects;
mod purge_request;
mod related_paths;
mod tag_pattern;
#[cfg(test)]
mod tests;
mod write;
mod write_exchange;

pub(crate) use purge_dialects::is_purge_method;
pub(crate) use purge_request::{parse_purge_request, purge_url_targets};
pub use related_paths::RelatedPaths;
pub(crate) use write::{BufferedContent, purges_nothing};
pub use write::{WritePlan, WriteTargets};
pub use write_exchange::WriteExchange;

use std::borrow::Cow;
use std::sync::Arc;

use super::path::{framework_readings, normalize};
use super::routes::Routes;
use super::{Route, credential};
use crate::purge::{NormalizedPath, Target};

/// The beginning of a route's own tag. A space keeps it apart from the tags of templates and fields.
pub(crate) const ROUTE_TAG_PREFIX: &str = "(route) ";

/// The target of everything that a route has stored.
pub fn route_target(route: &Route) -> Target {
    Target::tag(format!("{ROUTE_TAG_PREFIX}{}", route.path.as_str()))
}

/// The target of all responses of one path that were stored for one caller of a `per` route.
pub(crate) fn caller_target(credential: &[u8], path: &NormalizedPath) -> Target {
    Target::tag(format!("(caller) {} {}", credential::hash(credential), path.as_str()))
}

/// The target of the responses to `path` and all below it that say that nothing is there.
pub(crate) fn absence_target(path: &str) -> Target {
    Target::tag(format!("(absent) {path}"))
}

/// Every route that `path` may mean: in normal form, and in each of its readings.
pub(super) fn possible_routes<'r>(
    routes: &'r Routes,
    path: &str,
) -> impl Iterator<Item = &'r Arc<Route>> + use<'r> {
    let loosely = possible_paths(path).into_iter().flat_map(|reading| routes.find_all_loosely(&reading));
    routes.find(&normalize(path)).into_iter().chain(loosely)
}

/// Every path that `path` could be read as: by RFC 3986, leniently, by frameworks, and cut where a decoded `?`, `#` or NUL
/// ends it for a careless reader.
fn possible_paths(path: &str) -> Vec<NormalizedPath> {
    let mut found = Vec::with_capacity(1);
    let mut add = |reading: &str| {
        let loose = NormalizedPath::new(reading);
        let cut = loose.as_str().find(['?', '#', '\0']).map(|at| NormalizedPath::new(&loose.as_str()[..at]));
        for reading in cut.into_iter().chain([loose]) {
            if !found.contains(&reading) {
                found.push(reading);
            }
        }
    };
    add(path);
    if let Cow::Owned(normal) = normalize(path) {
        add(&normal);
    }
    let others: Vec<_> =
        found.iter().flat_map(framework_readings).filter(|other| !found.contains(other)).collect();
    found.extend(others);
    found
}
