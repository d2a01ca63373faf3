//! Describes the callers that share the stored responses of a route, and the keys that say so.

use crate::policy::Route;
use crate::policy::route::{Anonymous, RouteMode, Shared};

/// The callers that get the same stored response, and the reason.
pub(super) fn describe_sharing(route: &Route) -> String {
    if !route.caches() {
        let why = if route.mode == RouteMode::Off { "mode: off" } else { "ttl: never" };
        return format!("not stored ({why})");
    }
    if !route.caller_parts().is_empty() {
        return "shared by all, but for each caller's own part (overlay)".to_owned();
    }
    let known = route.callers.as_ref().map(|callers| &*callers.name);
    let (who, why) = match (&route.per, route.shared, known) {
        (Some(per), _, known) => {
            let known = known.map(|name| format!(", callers: {name}")).unwrap_or_default();
            ("not shared: one for each value".to_owned(), format!("per: {per}{known}"))
        }
        (None, Shared::All, None) => ("shared by all".to_owned(), "shared: true".to_owned()),
        (None, Shared::All, Some(name)) => {
            ("shared by all known callers".to_owned(), format!("shared: true, callers: {name}"))
        }
        (None, Shared::SignedIn, name) => (
            "shared by all known callers".to_owned(),
            format!("shared: signed-in, callers: {}", name.unwrap_or("none")),
        ),
        (None, Shared::No, name) => {
            let callers = name.map(|name| format!("callers: {name}, ")).unwrap_or_default();
            return format!(
                "shared by requests without a credential; with one only what the API marks as for all \
                 ({callers}neither `per` nor `shared`)"
            );
        }
    };
    let apart = match route.anonymous {
        Anonymous::Share => "; anonymous ones share another",
        Anonymous::Pass => "",
    };
    format!("{who}{apart} ({why})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, SettingOverrides};

    #[test]
    fn each_route_says_who_shares_it() {
        let text = "upstream: http://127.0.0.1:3000
callers: {app: {jwt: {secret: 0123456789abcdef0123456789abcdef}}}
defaults: {ttl: 1m}
routes:
  - {path: /a, ttl: never}
  - {path: /b, mode: off}
  - {path: /c, shared: true}
  - {path: /d, shared: true, callers: app}
  - {path: /e, shared: signed-in, callers: app, anonymous: share}
  - {path: /f, per: authorization}
  - {path: /g, per: jwt.sub, callers: app}
  - {path: /h}
";
        let config =
            Config::parse(text, "proxy.yaml", &|_| None, &SettingOverrides::default()).expect("a right file");
        let said: Vec<_> = config.routes.iter().map(|route| describe_sharing(route)).collect();
        assert_eq!(
            said,
            [
                "not stored (ttl: never)",
                "not stored (mode: off)",
                "shared by all (shared: true)",
                "shared by all known callers (shared: true, callers: app)",
                "shared by all known callers; anonymous ones share another (shared: signed-in, callers: app)",
                "not shared: one for each value (per: authorization)",
                "not shared: one for each value (per: jwt.sub, callers: app)",
                "shared by requests without a credential; with one only what the API marks as for all (neither `per` \
                 nor `shared`)",
            ]
        );
    }
}
