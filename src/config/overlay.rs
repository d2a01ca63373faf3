//! `overlay` of a route: its entries, and what they need of the route and of the routes that they name.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Uri};

use super::callers::CallerSettings;
use super::diagnostics::{Diagnostics, Location};
use super::fields::{Fields, Located};
use super::keys::{Kind, Reader, Settings, settings, words};
use super::routes::ParsedRoute;
use super::scalars::{NON_EMPTY, entries, list, parsed, split_help};
use super::warm::{LIST_QUERY, LIST_URL};
use super::yaml::{Value, YamlNode};
use crate::policy::Route;
use crate::policy::content_key::ReadMethods;
use crate::policy::json_query::JsonQuery;
use crate::policy::overlay::{ItemsPath, OnPartError, Overlay, OverlayAs, OverlayMember, SharedPart};
use crate::policy::rate_limit::{CountedRequests, RateKey};
use crate::policy::route::{Anonymous, Credential, Shared};
use crate::policy::routes::Routes;

/// The entries of a route. Each may need a request of its own.
const MAX_ENTRIES: usize = 8;

settings! {
    struct OverlayFields = "overlay" {
        /// The path of the caller's part, a JSON response of a route with `per`.
        from: Uri = LIST_URL, required;
        /// The values in it that select items: `$.enrollments[*].courseId`. Text or whole numbers.
        each: JsonQuery = LIST_QUERY, required;
        /// The items in the route's own response, by names and `[*]` alone: `$.courses[*]`; `$` for the object itself.
        into: ItemsPath = ITEMS, required;
        /// The member of an item that is compared with the values.
        by: String = NON_EMPTY, optional;
        /// The former name of `by`. Tools that read YAML 1.1 (Helm, Ansible, PyYAML) take it for `true`.
        on: String = NON_EMPTY, optional;
        /// The members that the selected items get: `{isEnrolled: true}`. Text, a number, `true`, `false` or `null`.
        set: Vec<(String, String)> = MEMBERS, required;
        /// The members that all other items get, and all items for a caller who is nobody.
        default: Vec<(String, String)> = MEMBERS, default "{}";
        /// If the caller's part can't be had or read: `pass` forwards the request, `default` selects no item.
        on_error: OnPartError = ON_ERROR, default "pass";
    }
}

pub(super) const OVERLAY: Reader<Vec<Located<Overlay>>> = Reader::new(
    Kind::ListOf(&Kind::Mapping(OverlayFields::SECTION)),
    |node, diagnostics| {
        const EXAMPLE: &str = "[{from: /api/me/enrollments, each: \"$.enrollments[*].courseId\", into: \
                               \"$.courses[*]\", by: id, set: {isEnrolled: true}, default: {isEnrolled: false}}]";
        let read = list(node, EXAMPLE, diagnostics, read_entry)?;
        if read.len() > MAX_ENTRIES {
            let message = format!("`overlay` has {} entries; at most {MAX_ENTRIES} are merged", read.len());
            diagnostics.error(node.location, message).help("let the API answer several in one part");
            return None;
        }
        let members =
            |overlay: &Overlay| overlay.members.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
        for (at, entry) in read.iter().enumerate() {
            let same_items = read[..at].iter().filter(|other| other.value.into == entry.value.into);
            let others: Vec<String> = same_items.flat_map(|other| members(&other.value)).collect();
            if let Some(name) = members(&entry.value).into_iter().find(|name| others.contains(name)) {
                diagnostics
                    .error(entry.location, format!("two entries give the same items the member `{name}`"))
                    .help("give each member in one entry");
            }
        }
        Some(read)
    },
);

pub(super) const OVERLAY_AS: Reader<OverlayAs> =
    words!("anonymous" => OverlayAs::Anonymous, "background" => OverlayAs::Background);

const ON_ERROR: Reader<OnPartError> = words!("pass" => OnPartError::Pass, "default" => OnPartError::Default);

const ITEMS: Reader<ItemsPath> = Reader::new(Kind::Matching("^\\$"), |node, diagnostics| {
    parsed(node, "a JSONPath such as `$.items[*]`", diagnostics, |text| {
        ItemsPath::parse(text).map_err(|error| split_help(error, "write `$.items[*]`"))
    })
});

/// The members by name, each with its value as JSON.
const MEMBERS: Reader<Vec<(String, String)>> = Reader::new(Kind::Names(&Kind::Text), |node, diagnostics| {
    let given = entries(node, "{isEnrolled: true}", diagnostics)?;
    let member = |(name, value): &(YamlNode, YamlNode)| {
        let name = parsed(name, "a name", diagnostics, |name| Ok(name.to_owned()))?;
        Some((name, json(value, diagnostics)?))
    };
    let read: Vec<_> = given.iter().filter_map(member).collect();
    (read.len() == given.len()).then_some(read)
});

/// Text that reads as JSON's `true`, `false` or a number is that.
fn json(node: &YamlNode, diagnostics: &Diagnostics) -> Option<String> {
    if node.value == Value::Null {
        return Some("null".to_owned());
    }
    parsed(node, "text, a number, `true`, `false` or `null`", diagnostics, |text| {
        let is_literal =
            matches!(text, "true" | "false") || serde_json::from_str::<serde_json::Number>(text).is_ok();
        Ok(if is_literal { text.to_owned() } else { serde_json::Value::from(text).to_string() })
    })
}

fn read_entry(node: &YamlNode, diagnostics: &Diagnostics) -> Option<Located<Overlay>> {
    let fields = Fields::open(node, OverlayFields::SECTION, diagnostics)?;
    let OverlayFields { from, each, into, by, on, set, default, on_error } = OverlayFields::read(&fields)?;
    let name = if by.is_some() { "by" } else { "on" };
    let on = match (by, on) {
        (Some(_), Some(_)) => {
            diagnostics
                .error(fields.value_location("on"), "`by` and `on` are two names of one key")
                .help("remove `on`");
            return None;
        }
        (Some(name), None) | (None, Some(name)) => name,
        (None, None) => {
            fields.report_missing("by");
            return None;
        }
    };
    let (place, problem) = match () {
        () if set.is_empty() => ("set", "`set` gives the selected items nothing".to_owned()),
        () if set.iter().chain(&default).any(|(name, _)| *name == on) => {
            (name, format!("`{on}` identifies an item, so it can't be set"))
        }
        () => {
            let find = |of: &[(String, String)], name: &str| {
                of.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
            };
            let only_default = default.iter().filter(|(name, _)| find(&set, name).is_none());
            let names = set.iter().chain(only_default).map(|(name, _)| name);
            let member =
                |name: &String| OverlayMember::new(name.clone(), find(&set, name), find(&default, name));
            let members = names.map(member).collect();
            let value = Overlay { from, each, into, on, members, on_error };
            return Some(Located { value, location: fields.value_location("from") });
        }
    };
    diagnostics.error(fields.value_location(place), problem).help("write `set: {isEnrolled: true}`");
    None
}

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
