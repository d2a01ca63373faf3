//! Checks of `rate` that need the whole route, or other routes.

use std::collections::HashMap;

use super::diagnostics::{Diagnostics, Location};
use super::parsed_route::ParsedRoute;
use super::route_fields::RouteFields;
use crate::policy::Route;
use crate::policy::rate_limit::{RateKey, RateLimit};

/// The place of a route's `rate`: its own, or the route, which takes that of `defaults`.
pub(super) fn location(own: &RouteFields, path: Location) -> Location {
    own.rate.as_ref().map_or(path, |rate| rate.location)
}

/// Refuses routes that have one budget under different limits: a request to one would exceed the other for long.
pub(super) fn refuse_different_limits(routes: &[ParsedRoute], diagnostics: &Diagnostics) {
    let terms =
        |limit: &RateLimit| (limit.requests, limit.period, limit.burst, limit.by.clone(), limit.is_shared);
    let mut seen: HashMap<&str, (&ParsedRoute, &RateLimit)> = HashMap::new();
    for parsed in routes {
        let Some(limit) = &parsed.route.rate else { continue };
        let name = limit.name(&parsed.route);
        let (first, firsts) = *seen.entry(name).or_insert((parsed, limit));
        if terms(limit) == terms(firsts) {
            continue;
        }
        let (one, two) = (first.route.path.as_str(), parsed.route.path.as_str());
        diagnostics
            .error(
                location(&parsed.own, parsed.path_location),
                format!("`{one}` and `{two}` have the budget `{name}` under different limits"),
            )
            .note(location(&first.own, first.path_location), "the first limit")
            .help("write the same `limit`, `burst`, `by` and `shared`, or another `name`");
    }
}

/// Refuses what only a known caller has where no caller is known. `location`: of the key.
pub(super) fn check(route: &Route, location: Location, diagnostics: &Diagnostics) {
    let Some(rate) = &route.rate else { return };
    match &route.callers {
        None if rate.by.needs_caller() => {
            diagnostics
                .error(location, "`rate` counts by the caller, and the route has no `callers`")
                .help("add `callers: NAME`, or count `by: client` or `by: header.NAME`");
        }
        Some(source) if matches!(rate.by, RateKey::Claim(_)) && !source.has_claims => {
            diagnostics
                .error(location, format!("callers of `{}` have no claims", source.name))
                .help("write `by: caller`");
        }
        _ => {}
    }
}
