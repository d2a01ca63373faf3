//! Warnings about valid but suspicious routes.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::diagnostics::{Diagnostics, Location};
use super::expect::warn_of_http2;
use super::parsed_route::ParsedRoute;
use super::store::StoreSettings;
use super::suggest::nearest;
use crate::policy::path::Segment;
use crate::policy::route::Shared;

pub(super) fn add_warnings(routes: &[ParsedRoute], diagnostics: &Diagnostics) {
    let tags = routes.iter().flat_map(|parsed| &parsed.route.tags);
    let known: BTreeSet<String> = tags.map(|tag| tag.shape()).collect();
    for parsed in routes {
        warn_literal_star(parsed, diagnostics);
        warn_private_shared(parsed, diagnostics);
        warn_caller_tag_on_shared_route(parsed, diagnostics);
        warn_unknown_tags(parsed, &known, diagnostics);
    }
}

/// Warns of bodies that a route may store by its `max_size`, and for which the memory has no room.
pub(super) fn warn_of_sizes(store: &StoreSettings, routes: &[ParsedRoute], diagnostics: &Diagnostics) {
    let is_too_large = |parsed: &&ParsedRoute| parsed.route.caches() && parsed.route.max_size > store.memory;
    if store.redis.is_some() || store.memory == 0 {
        return;
    }
    if let Some(parsed) = routes.iter().find(is_too_large) {
        let location = parsed.own.max_size.as_ref().map_or(parsed.path_location, |size| size.location);
        diagnostics
            .warning(location, "responses of this route may be larger than `store.memory`, and are not stored then")
            .help("raise `store.memory` to many times the route's `max_size` (8MiB by default), or lower `max_size`");
    }
}

/// Warns of routes that are to forward expectations over HTTP/2.
pub(super) fn warn_of_expectations(routes: &[ParsedRoute], diagnostics: &Diagnostics) {
    for parsed in routes.iter().filter(|parsed| parsed.route.forwards_expect == Some(true)) {
        let own = parsed.own.forwards_expect.as_ref();
        warn_of_http2(own.map_or(parsed.path_location, |it| it.location), diagnostics);
    }
}

/// Warns of networks that trust everybody with the address of a client.
pub(super) fn warn_of_networks(trusted: &[IpNet], location: Location, diagnostics: &Diagnostics) {
    if trusted.iter().any(|network| network.prefix_len() == 0) {
        diagnostics
            .warning(location, "every client may say by `X-Forwarded-For` and the like who it is")
            .help("name the addresses of the proxies in front of larder");
    }
}

/// Warns of a path that most likely is meant as a pattern of another tool: `/a/.*`.
fn warn_literal_star(parsed: &ParsedRoute, diagnostics: &Diagnostics) {
    let is_star = |segment: &Segment| matches!(segment, Segment::Literal(text) if text.contains('*'));
    if let Some(at) = parsed.route.path.segments().iter().position(is_star) {
        let before = parsed.route.path.as_str().split('/').take(at + 1).collect::<Vec<_>>().join("/");
        diagnostics.warning(parsed.path_location, "`*` stands for itself in a path").help(format!(
            "write `{before}/{{name}}` for any one segment, `{before}/{{*rest}}` for all below"
        ));
    }
}

/// Warns of `override: [private]` where callers with credentials share the response.
fn warn_private_shared(parsed: &ParsedRoute, diagnostics: &Diagnostics) {
    if let Some(overrides) = parsed.own.overrides.as_ref().filter(|overrides| overrides.value.private)
        && parsed.route.per.is_none()
        && parsed.route.shared != Shared::No
    {
        diagnostics
            .warning(
                overrides.location,
                "responses that the upstream marks `private` are served to all callers",
            )
            .help("write `per: authorization` (or another credential), unless the upstream is wrong");
    }
}

/// Warns of a tag that names the caller on a shared response: most likely `per` was meant.
fn warn_caller_tag_on_shared_route(parsed: &ParsedRoute, diagnostics: &Diagnostics) {
    let names_caller = |tag: &str| tag.contains("{jwt.") || tag.contains("{cookie.");
    if parsed.route.shared != Shared::No
        && parsed.route.callers.is_none()
        && let Some(tag) = parsed.route.tags.iter().map(|tag| tag.as_str()).find(|tag| names_caller(tag))
    {
        diagnostics
            .warning(
                parsed.path_location,
                format!("the tag `{tag}` names a caller, but `shared: true` serves the response to all"),
            )
            .help("write `per: authorization` if the response depends on the caller");
    }
}

/// Warns of a purged tag that no route has but that is close to one. Tags may come from response fields too, so it is not
/// an error.
fn warn_unknown_tags(parsed: &ParsedRoute, known: &BTreeSet<String>, diagnostics: &Diagnostics) {
    for purged in &parsed.purges {
        let written = purged.value.shape();
        let below = format!("{written}/");
        let is_above = known.range(below.clone()..).next().is_some_and(|tag| tag.starts_with(&below));
        if is_above || known.contains(&written) {
            continue;
        }
        if let Some(near) = nearest(&written, known.iter().map(String::as_str)) {
            diagnostics
                .warning(purged.location, format!("no route has a tag like `{}`", purged.value.as_str()))
                .help(format!(
                    "did you mean `{near}`? Ignore this if responses carry the tag in `Surrogate-Key` or the like"
                ));
        }
    }
}
