//! Finds names of request fields that no request has, since `underscores` drops or refuses them.

use http::HeaderName;

use super::Underscores;
use super::callers::{CallerMethod, CallerSettings};
use super::diagnostics::{Diagnostics, Location};
use super::parsed_route::ParsedRoute;
use crate::policy::credential::Credential;
use crate::policy::rate_limit::RateKey;
use crate::policy::{is_ambiguous_name, with_dashes};

pub(super) fn check_routes(routes: &[ParsedRoute], underscores: Underscores, diagnostics: &Diagnostics) {
    for parsed in routes {
        let own = &parsed.own;
        let headers = own.headers.as_ref().map_or(parsed.path_location, |headers| headers.location);
        for name in &parsed.route.headers {
            check("headers", name, (headers, underscores), diagnostics);
        }
        if let Some(RateKey::Header(name)) = parsed.route.rate.as_ref().map(|rate| &rate.by) {
            let location = own.rate.as_ref().map_or(parsed.path_location, |rate| rate.location);
            check("rate", name, (location, underscores), diagnostics);
        }
    }
}

pub(super) fn check_callers(
    callers: &[CallerSettings],
    place: (Location, Underscores),
    diagnostics: &Diagnostics,
) {
    for entry in callers {
        let (key, credentials) = match &entry.method {
            CallerMethod::Jwt(jwt) => ("from", std::slice::from_ref(&jwt.from)),
            CallerMethod::Ask(ask) => ("forward", ask.forward.as_slice()),
        };
        for name in credentials.iter().filter_map(Credential::field) {
            check(key, &name, place, diagnostics);
        }
    }
}

fn check(
    key: &str,
    name: &HeaderName,
    (location, underscores): (Location, Underscores),
    diagnostics: &Diagnostics,
) {
    let what = match underscores {
        Underscores::Drop => "drops",
        Underscores::Refuse => "refuses",
        Underscores::Pass => return,
    };
    if is_ambiguous_name(name) {
        let dashed = with_dashes(name);
        diagnostics
            .error(location, format!("`{key}` names `{name}`, which `underscores` {what} in requests"))
            .help(format!("write `{dashed}`, or set `underscores: pass` if the API reads `{name}`"));
    }
}
