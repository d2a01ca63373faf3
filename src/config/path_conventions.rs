//! Findings about what paths usually mean: the list above an item, the caller (`/me`), a login.

use super::diagnostics::Diagnostics;
use super::events::ParsedSource;
use super::finding_name::FindingName;
use super::parsed_route::ParsedRoute;
use crate::policy::Route;
use crate::policy::path::{Segment, is_caller_segment};
use crate::policy::query::QueryRule;
use crate::policy::route::{Shared, Ttl};
use crate::policy::template::Template;

/// Last segments before a parameter that most likely names a user.
const USER_SEGMENTS: [&str; 8] =
    ["customers", "members", "people", "players", "profile", "profiles", "user", "users"];

/// Last segments of paths whose responses are for one caller, once.
const LOGIN_SEGMENTS: [&str; 13] = [
    "login",
    "logout",
    "log-in",
    "log-out",
    "signin",
    "signout",
    "sign-in",
    "sign-out",
    "token",
    "csrf",
    "csrf-token",
    "oauth",
    "refresh-token",
];

/// Words that other tools write for the type of a parameter.
const TYPE_WORDS: [&str; 9] =
    ["any", "string", "number", "integer", "int", "boolean", "bool", "required", "optional"];

pub(super) fn check(routes: &[ParsedRoute], sources: &[ParsedSource], diagnostics: &Diagnostics) {
    for parsed in routes {
        if parsed.route.caches() {
            check_shared_caller(parsed, routes, diagnostics);
            check_login(parsed, diagnostics);
            check_defaults(parsed, diagnostics);
            check_list_above(parsed, (routes, sources), diagnostics);
        }
    }
}

/// Warns of `shared: true` for what most likely is one caller's.
fn check_shared_caller(parsed: &ParsedRoute, routes: &[ParsedRoute], diagnostics: &Diagnostics) {
    let route = &parsed.route;
    if route.shared == Shared::No || !route.headers.is_empty() || !route.cookies.is_empty() {
        return;
    }
    let location = parsed.own.shared.as_ref().map_or(parsed.path_location, |shared| shared.location);
    if let Some(name) = literals(route).find(|name| is_caller_segment(name)) {
        diagnostics
            .warning(
                location,
                format!("`{name}` stands for the caller, and `shared` gives one response to all of them"),
            )
            .help("write `per: authorization` (or `per: cookie.NAME`) in place of `shared`")
            .name(FindingName::SharedCaller);
    } else if let Some(path) = find_path_of_caller(route, routes) {
        diagnostics
            .warning(
                location,
                format!(
                    "`{}` also matches `{path}`, which is one caller's: with a credential it is forwarded, and not cached",
                    route.path.as_str()
                ),
            )
            .help(format!("write a route for `{path}`, with `per: authorization` (or `per: cookie.NAME`), or with `ttl: never`"))
            .name(FindingName::SharedCaller);
    }
}

/// `/users/me` for `/users/{id}`, unless a route spells it out.
fn find_path_of_caller(route: &Route, routes: &[ParsedRoute]) -> Option<String> {
    let segments = route.path.segments();
    let is_user = |two: &[Segment]| match two {
        [Segment::Literal(above), Segment::Parameter(_)] => {
            USER_SEGMENTS.iter().any(|known| above.eq_ignore_ascii_case(known))
        }
        _ => false,
    };
    let (before, after) = segments.split_at(segments.windows(2).position(is_user)? + 1);
    let is_spelled_out =
        |other: &ParsedRoute| match other.route.path.segments().split_at_checked(before.len()) {
            Some((start, [Segment::Literal(name), end @ ..])) => {
                has_shape(start, before) && is_caller_segment(name) && has_shape(end, &after[1..])
            }
            _ => false,
        };
    if routes.iter().any(is_spelled_out) {
        return None;
    }
    let mut path: Vec<&str> = route.path.as_str().split('/').collect();
    *path.get_mut(before.len() + 1)? = "me";
    Some(path.join("/"))
}

/// Warns of a lifetime for the answers to logins and the like.
fn check_login(parsed: &ParsedRoute, diagnostics: &Diagnostics) {
    let route = &parsed.route;
    let Some(Segment::Literal(last)) = route.path.segments().last() else { return };
    if is_login_segment(last) && route.ttl != Ttl::Upstream && route.per.is_none() {
        let location = parsed.own.ttl.as_ref().map_or(parsed.path_location, |ttl| ttl.location);
        diagnostics
            .warning(
                location,
                format!("`{last}` most likely answers for one caller, and is stored for others here"),
            )
            .help("write `ttl: never`, or `ttl: upstream` if the API says what may be stored")
            .name(FindingName::StoredLogin);
    }
}

/// Whether a path that ends in it most likely answers for one caller, once.
pub(crate) fn is_login_segment(last: &str) -> bool {
    LOGIN_SEGMENTS.iter().any(|known| last.eq_ignore_ascii_case(known))
}

/// Warns of a default that looks like the type of the parameter.
fn check_defaults(parsed: &ParsedRoute, diagnostics: &Diagnostics) {
    let Some(query) = &parsed.own.query else { return };
    let QueryRule::Only(names) = &query.value else { return };
    let is_type = |word: &str| TYPE_WORDS.contains(&word) || word == "*";
    for (name, word) in names.iter().filter_map(|(name, default)| Some((name, default.as_deref()?))) {
        if is_type(word) {
            diagnostics
                .warning(
                    query.location,
                    format!("`{name}: {word}` is a default: a request without `{name}` is sent on as `{name}={word}`"),
                )
                .help(format!("write `{name}: ~` if it has no default; allow this if the API knows the value `{word}`"))
                .name(FindingName::DefaultLikeAType);
        }
    }
}

/// Warns of an item whose writes purge no tag of the list above it, although they purge other tags.
fn check_list_above(
    parsed: &ParsedRoute,
    (routes, sources): (&[ParsedRoute], &[ParsedSource]),
    diagnostics: &Diagnostics,
) {
    let item = &parsed.route;
    let Some((Segment::Parameter(name), above)) = item.path.segments().split_last() else { return };
    // Without tags and purges of its own, a write purges the paths above it; with tags alone, those without tags.
    if item.has_empty_purges() || !item.says_what_writes_purge() {
        return;
    }
    let is_list = |list: &&ParsedRoute| {
        let route = &list.route;
        let is_left = !route.tags.is_empty() || item.purges.is_some();
        route.caches() && is_left && has_shape(route.path.segments(), above)
    };
    let Some(list) = routes.iter().find(is_list) else { return };
    let reaches = |purged: &Template| list.route.tags.iter().any(|tag| purged.may_reach_any(tag));
    // Somebody has thought about the list: an event, or a write below the item.
    let below = |other: &&ParsedRoute| has_shape_below(other.route.path.segments(), item.path.segments());
    let is_known = item.purge_templates().any(reaches)
        || routes.iter().filter(below).any(|other| other.route.purge_templates().any(reaches))
        || sources.iter().flat_map(|source| &source.purge).any(|purged| reaches(&purged.value));
    if !is_known {
        let (path, above) = (item.path.as_str(), list.route.path.as_str());
        let help = match list.route.tags.first().map(Template::as_str) {
            Some(tag) => format!(
                "add `purges: [\"{tag}\"]` here if a PUT, PATCH or DELETE of one `{{{name}}}` changes the list"
            ),
            None => format!(
                "give the list a tag and name it in `purges` here if a PUT, PATCH or DELETE of one `{{{name}}}` changes it"
            ),
        };
        diagnostics
            .warning(
                parsed.path_location,
                format!("a write to `{path}` leaves the list `{above}` as it is: it purges no tag of it"),
            )
            .note(list.path_location, "the list")
            .help(help)
            .name(FindingName::ListNotPurged);
    }
}

fn literals(route: &Route) -> impl Iterator<Item = &str> {
    route.path.segments().iter().filter_map(|segment| match segment {
        Segment::Literal(text) => Some(text.as_str()),
        Segment::Parameter(_) | Segment::Affixed(_) | Segment::Rest(_) => None,
    })
}

/// Whether the paths differ at most in the names of parameters.
fn has_shape(path: &[Segment], other: &[Segment]) -> bool {
    let is_same = |(one, other): (&Segment, &Segment)| match (one, other) {
        (Segment::Literal(one), Segment::Literal(other)) => one == other,
        (Segment::Parameter(_), Segment::Parameter(_)) => true,
        (Segment::Affixed(one), Segment::Affixed(other)) => {
            (&one.prefix, &one.suffix) == (&other.prefix, &other.suffix)
        }
        _ => false,
    };
    path.len() == other.len() && path.iter().zip(other).all(is_same)
}

/// Whether the path lies below the item, or is a method on it: `/courses/{id}/publish`, `/courses/{id}:publish`.
fn has_shape_below(path: &[Segment], item: &[Segment]) -> bool {
    let (longer, last) = (path.get(..item.len()), path.split_last().zip(item.split_last()));
    let is_below = path.len() > item.len() && longer.is_some_and(|path| has_shape(path, item));
    let is_method = last.is_some_and(|((last, above), (_, above_item))| {
        matches!(last, Segment::Affixed(parameter) if parameter.prefix.is_empty())
            && has_shape(above, above_item)
    });
    is_below || is_method
}
