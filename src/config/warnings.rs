//! Warnings about valid but suspicious routes.

use std::collections::BTreeSet;

use super::diagnostics::Diagnostics;
use super::routes::ParsedRoute;
use super::suggest::nearest;
use crate::policy::route::Shared;

pub(super) fn add_warnings(routes: &[ParsedRoute], diagnostics: &Diagnostics) {
    let tags = routes.iter().flat_map(|parsed| &parsed.route.tags);
    let known: BTreeSet<String> = tags.map(|tag| tag.shape()).collect();
    for parsed in routes {
        warn_private_shared(parsed, diagnostics);
        warn_caller_tag_on_shared_route(parsed, diagnostics);
        warn_unknown_tags(parsed, &known, diagnostics);
    }
}

fn warn_private_shared(parsed: &ParsedRoute, diagnostics: &Diagnostics) {
    if let Some(overrides) = parsed.own.overrides.as_ref().filter(|overrides| overrides.value.private)
        && parsed.route.per.is_none()
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
