//! Checks of the keys of a route that say who may have a hit, against `callers` at the top level.

use super::callers::CallerSettings;
use super::diagnostics::{Diagnostics, Location};
use super::fields::Located;
use super::route_fields::RouteFields;
use super::suggest::nearest;
use crate::policy::credential::Credential;
use crate::policy::route::{Anonymous, Route, Shared};
use crate::policy::template::Template;

/// Finds the entry that the route names. `callers`: `None` if they have errors.
pub(super) fn resolve(
    route: &mut Route,
    named: &Located<Option<String>>,
    callers: Option<&[CallerSettings]>,
    diagnostics: &Diagnostics,
) {
    let (Some(name), Some(callers)) = (&named.value, callers) else { return };
    match callers.iter().position(|entry| *entry.name == **name) {
        Some(index) => route.callers = Some(callers[index].source(index)),
        None => {
            let known: Vec<&str> = callers.iter().map(|entry| &*entry.name).collect();
            let help = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => {
                    format!("add it at the top level: `callers: {{{name}: {{jwt: {{…}}}}}}`")
                }
                None => format!("`callers` has {}", known.join(", ")),
            };
            diagnostics.error(named.location, format!("`callers` has no entry `{name}`")).help(help);
        }
    }
}

/// Refuses keys that need a known caller where no caller is known.
pub(super) fn check(
    route: &Route,
    own: &RouteFields,
    (path, templates): (Location, &[&Located<Template>]),
    diagnostics: &Diagnostics,
) {
    let located = |given: Option<Location>| given.unwrap_or(path);
    let per = located(own.per.as_ref().map(|per| per.location));
    let Some(source) = &route.callers else {
        let needing = [
            (
                route.per.as_ref().is_some_and(Credential::is_verified),
                per,
                "`per` with a claim or `identity`",
            ),
            (
                route.shared == Shared::SignedIn,
                located(own.shared.as_ref().map(|it| it.location)),
                "`shared: signed-in`",
            ),
            (
                route.anonymous == Anonymous::Share,
                located(own.anonymous.as_ref().map(|it| it.location)),
                "`anonymous: share`",
            ),
        ];
        for (_, location, what) in needing.iter().filter(|(needs, ..)| *needs) {
            diagnostics
                .error(*location, format!("{what} needs to know the caller, and the route has no `callers`"))
                .help("add `callers: NAME`, and an entry NAME in `callers` at the top level");
        }
        return;
    };
    if source.has_claims {
        return;
    }
    const HELP: &str = "write `identity` or `{caller}`: what the service's answer names the caller by";
    if matches!(route.per, Some(Credential::Claims(_))) {
        diagnostics.error(per, format!("callers of `{}` have no claims", source.name)).help(HELP);
    }
    for tag in templates.iter().filter(|tag| tag.value.claims().next().is_some()) {
        diagnostics.error(tag.location, format!("callers of `{}` have no claims", source.name)).help(HELP);
    }
}
