//! A route as it was read, for the checks that need its locations.

use super::diagnostics::Location;
use super::fields::Located;
use super::route_fields::RouteFields;
use crate::policy::Route;
use crate::policy::template::Template;

/// A route with the locations that later checks need.
pub(super) struct ParsedRoute {
    pub route: Route,
    pub path_location: Location,
    pub tags: Vec<Located<Template>>,
    /// The tags that it purges besides its own.
    pub purges: Vec<Located<Template>>,
    /// The values of its own block.
    pub own: RouteFields,
}
