//! Warnings: what can be meant so, and mostly isn't. Never refuses anything.

use std::collections::BTreeSet;

use super::problem::Problems;
use super::routes::Checked;
use super::suggest::nearest;

pub fn give(routes: &[Checked], problems: &Problems) {
    let tags = routes.iter().flat_map(|checked| &checked.route.tags);
    let known: BTreeSet<String> = tags.map(|tag| tag.shape()).collect();
    for checked in routes {
        warn_of_private_for_all(checked, problems);
        warn_of_a_caller_in_shared_tags(checked, problems);
        warn_of_unknown_tags(checked, &known, problems);
    }
}

fn warn_of_private_for_all(checked: &Checked, problems: &Problems) {
    if let Some(overrides) = checked.own.overrides.as_ref().filter(|overrides| overrides.value.private)
        && checked.route.per.is_none()
    {
        problems
            .warning(overrides.place, "responses that the upstream calls `private` are given to everybody")
            .help("say `per: authorization` (or another credential), unless the upstream is wrong");
    }
}

/// A tag of the caller on a response for everybody: most likely `per` was meant.
fn warn_of_a_caller_in_shared_tags(checked: &Checked, problems: &Problems) {
    let of_the_caller = |tag: &str| tag.contains("{jwt.") || tag.contains("{cookie.");
    if checked.route.shared
        && let Some(tag) = checked.route.tags.iter().map(|tag| tag.as_str()).find(|tag| of_the_caller(tag))
    {
        problems
            .warning(
                checked.path_place,
                format!("the tag `{tag}` names a caller, and `shared: true` gives the response to all"),
            )
            .help("say `per: authorization` if the response depends on who asks");
    }
}

/// A misspelt tag purges nothing. Tags may come from response fields too, so this only warns, and only where a tag
/// of a route is near.
fn warn_of_unknown_tags(checked: &Checked, known: &BTreeSet<String>, problems: &Problems) {
    for purged in &checked.purges {
        let written = purged.value.shape();
        let below = format!("{written}/");
        let is_above = known.range(below.clone()..).next().is_some_and(|tag| tag.starts_with(&below));
        if is_above || known.contains(&written) {
            continue;
        }
        if let Some(near) = nearest(&written, known.iter().map(String::as_str)) {
            problems
                .warning(purged.place, format!("no route has a tag like `{}`", purged.value.as_str()))
                .help(format!(
                    "did you mean `{near}`? It is right if responses carry it in `Surrogate-Key` or the like"
                ));
        }
    }
}
