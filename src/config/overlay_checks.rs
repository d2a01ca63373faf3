//! Checks of `overlay` that need the whole route and the routes that its entries name, and the shared parts.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use super::callers::CallerSettings;
use super::diagnostics::{Diagnostics, Location};
use super::fields::Located;
use super::parsed_route::ParsedRoute;
use crate::policy::Route;
use crate::policy::content_key::ReadMethods;
use crate::policy::credential::Credential;
use crate::policy::overlay::{Overlay, OverlayAs};
use crate::policy::rate_limit::{CountedRequests, RateKey};
use crate::policy::route::SharedPart;
use crate::policy::route::{Anonymous, Shared};
use crate::policy::routes::Routes;

/// Refuses `overlay` in `defaults`: it is about the items of one response.
pub(super) fn refuse_in_defaults(overlay: Option<Located<Vec<Located<Overlay>>>>, diagnostics: &Diagnostics) {
    if let Some(overlay) = overlay.filter(|overlay| !overlay.value.is_empty()) {
        diagnostics
            .error(overlay.location, "`overlay` describes one response, so it can't be a default")
            .help("write it on the route of that response");
    }
}

/// Checks all routes with `overlay`.
pub(super) fn check(parsed: &[ParsedRoute], diagnostics: &Diagnostics) {
    if parsed.iter().all(|parsed| parsed.route.overlay.is_empty()) {
        return;
    }
    let routes: Vec<Arc<Route>> = parsed.iter().map(|parsed| Arc::new(parsed.route.clone())).collect();
    let routes = Routes::new(&routes);
    for parsed in parsed.iter().filter(|parsed| !parsed.route.overlay.is_empty()) {
        check_route(parsed, diagnostics);
        for entry in parsed.own.overlay.iter().flat_map(|overlay| &overlay.value) {
            check_part(entry, &routes, diagnostics);
        }
    }
}

fn check_part(entry: &Located<Overlay>, routes: &Routes, diagnostics: &Diagnostics) {
    let path = entry.value.from.path();
    let (wrong, help) = match routes.find(path) {
        None => ("matches no route", "add a route for it, with `ttl` and `per: authorization` or the like"),
        Some(route) if !route.overlay.is_empty() => {
            ("is a route with `overlay` itself", "name a response that is of one caller alone")
        }
        Some(route) if !route.caches() => ("matches a route that stores nothing", "give that route a `ttl`"),
        Some(route) if route.per.is_none() => (
            "matches a route without `per`: it is not known whose part it is",
            "add `per: authorization` or the like to that route",
        ),
        Some(_) => return,
    };
    diagnostics.error(entry.location, format!("`{path}` {wrong}")).help(help);
}

/// Refuses keys that would make the shared part one of some callers, or have no effect.
fn check_route(parsed: &ParsedRoute, diagnostics: &Diagnostics) {
    let ParsedRoute { route, own, path_location, tags, .. } = parsed;
    let place = |own: Option<Location>| own.unwrap_or(*path_location);
    let error = |location: Location, message: &str, help: &str| {
        diagnostics.error(location, message).help(help);
    };
    if route.per.is_some() {
        let location = place(own.per.as_ref().map(|per| per.location));
        error(
            location,
            "`overlay` on a route with `per`: its response is of one caller already",
            "leave out `per`; that of the route in `from` separates the callers",
        );
    }
    if route.shared == Shared::SignedIn {
        let location = place(own.shared.as_ref().map(|shared| shared.location));
        error(
            location,
            "`shared: signed-in` on a route with `overlay`, which has one shared part for all",
            "leave it out; `anonymous: share` admits those who are nobody",
        );
    }
    if route.methods != ReadMethods::default() {
        let location = place(own.methods.as_ref().map(|methods| methods.location));
        error(location, "`overlay` is merged into responses to GET alone", "leave out `methods`");
    }
    if let Some(compress) = own.compress.as_ref().filter(|compress| !compress.value.is_empty()) {
        let help = "leave it out; a proxy in front of larder can compress it";
        error(compress.location, "a response with `overlay` is not compressed", help);
    }
    if own.no_vary_search.as_ref().is_some_and(|it| it.value) {
        let location = place(own.no_vary_search.as_ref().map(|it| it.location));
        error(location, "`no_vary_search` has no effect on a route with `overlay`", "leave it out");
    }
    let is_open = route.callers.is_none() || route.anonymous == Anonymous::Share;
    if route.overlay_as == OverlayAs::Background && is_open {
        let location = place(own.overlay_as.as_ref().map(|it| it.location));
        error(
            location,
            "`overlay_as: background` would show everybody what only larder's own credential may see",
            "add `callers: NAME` without `anonymous: share`, so that only known callers get it",
        );
    }
    for tag in tags.iter().filter(|tag| tag.value.names_caller()) {
        let help = "write such a tag on the route that `from` names";
        error(tag.location, "the shared part of a route with `overlay` is of no caller", help);
    }
    let counts_misses = |by: &RateKey, counted| counted == CountedRequests::Misses && *by != RateKey::Client;
    if route.rate.as_ref().is_some_and(|rate| counts_misses(&rate.by, rate.counted)) {
        let location = place(own.rate.as_ref().map(|rate| rate.location));
        let help = "write `by: client`, or `count: all`";
        error(location, "misses of a shared part are of no caller that `rate` could count", help);
    }
}

/// Adds the shared part to each route that has `overlay`.
pub(super) fn add_shared_parts(routes: &mut [Route], callers: &[CallerSettings], background: &HeaderMap) {
    let of_routes = routes.iter().flat_map(|route| &route.per).flat_map(Credential::alternatives);
    let of_callers: Vec<Credential> =
        callers.iter().enumerate().flat_map(|(index, entry)| entry.source(index).credentials).collect();
    let names: Vec<HeaderName> = of_routes.chain(&of_callers).filter_map(Credential::field).collect();
    for route in routes.iter_mut().filter(|route| !route.overlay.is_empty()) {
        route.shared_part = Some(Arc::new(SharedPart::new(route, names.clone(), background)));
    }
}
