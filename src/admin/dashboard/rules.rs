//! `GET /dashboard/rules`: the rules of one route, or those that concern one tag.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use crate::admin::AdminState;
use crate::admin::query::query_pairs;
use crate::admin::response::{AdminError, AdminResponse, json as json_response};
use crate::config::show_duration;
use crate::explain::{find_purging_routes, routes_with_tag};
use crate::policy::Route;
use crate::policy::query::QueryRule;
use crate::policy::route::{Collapse, RouteMode, Shared, Ttl};
use crate::policy::template::Template;

const QUERY_USAGE: &str = "write `?route=NAME` or `?tag=TAG`";

pub(crate) fn describe_rules(state: &AdminState, query: Option<&str>) -> Result<AdminResponse, AdminError> {
    let pairs = query_pairs(query)?;
    let told = match &*pairs {
        [(kind, name)] if kind == "route" => describe_route(state, name)?,
        [(kind, name)] if kind == "tag" => describe_tag(state, name),
        _ => return Err(AdminError::bad_request("neither a route nor a tag is named", QUERY_USAGE)),
    };
    Ok(json_response(StatusCode::OK, &told))
}

/// Several routes may share a name.
fn describe_route(state: &AdminState, name: &str) -> Result<Value, AdminError> {
    let rules: Vec<Value> = state
        .routes
        .iter()
        .filter(|route| *route.name == *name)
        .map(|route| {
            json!({
                "path": route.path.as_str(),
                "caches": route.caches(),
                "settings": settings(route),
                "purgedBy": find_purging_routes(&state.routes, &[], &route.tags),
            })
        })
        .collect();
    if rules.is_empty() {
        let error = format!("no route is called `{name}`");
        return Err(AdminError::new(StatusCode::NOT_FOUND, error, "`GET /stats` lists the routes"));
    }
    Ok(json!({"route": name, "rules": rules, "file": state.config.source}))
}

fn describe_tag(state: &AdminState, tag: &str) -> Value {
    json!({
        "tag": tag,
        "carriedBy": routes_with_tag(&state.routes, tag),
        "purgedBy": find_purging_routes(&state.routes, &[tag.to_owned()], &[]),
    })
}

/// The keys that decide what is stored, for whom and for how long, without those that have their default.
fn settings(route: &Route) -> Vec<(&'static str, String)> {
    let mut settings = vec![("ttl", ttl(route.ttl))];
    let mut add = |key, value: Option<String>| settings.extend(value.map(|value| (key, value)));
    add("mode", mode(route.mode));
    add("tags", list(route.tags.iter().map(Template::as_str)));
    add("purges", route.purges.as_ref().map(|rules| purges(rules.iter().map(|rule| &rule.template))));
    add("per", route.per.as_ref().map(ToString::to_string));
    add("shared", shared(route.shared));
    add("callers", route.callers.as_ref().map(|callers| callers.name.to_string()));
    add("query", query(&route.query));
    add("headers", list(route.headers.iter().map(|name| name.as_str())));
    add("cookies", list(route.cookies.iter().map(String::as_str)));
    add("languages", list(route.languages.iter().map(String::as_str)));
    let statuses = route.status.iter().map(|(status, ttl)| format!("{status}: {}", show_duration(*ttl)));
    add("status", list(statuses));
    add("stale_while_revalidate", duration(route.stale_while_revalidate));
    add("stale_if_error", duration(route.stale_if_error));
    add("refresh_ahead", duration(route.refresh_ahead));
    add("collapse", collapse(route.collapse));
    add("guard", route.guard.then(|| "true".to_owned()));
    settings
}

fn ttl(ttl: Ttl) -> String {
    match ttl {
        Ttl::For(lifetime) => show_duration(lifetime),
        Ttl::Upstream => "upstream".to_owned(),
        Ttl::UntilPurged => "none".to_owned(),
        Ttl::Never => "never".to_owned(),
    }
}

fn mode(mode: RouteMode) -> Option<String> {
    let word = match mode {
        RouteMode::On => return None,
        RouteMode::Observe => "observe",
        RouteMode::Off => "off",
    };
    Some(word.to_owned())
}

fn shared(shared: Shared) -> Option<String> {
    let word = match shared {
        Shared::No => return None,
        Shared::All => "true",
        Shared::SignedIn => "signed-in",
    };
    Some(word.to_owned())
}

fn collapse(collapse: Collapse) -> Option<String> {
    let word = match collapse {
        Collapse::Local => return None,
        Collapse::No => "false",
        Collapse::Replicas => "replicas",
    };
    Some(word.to_owned())
}

fn query(rule: &QueryRule) -> Option<String> {
    match rule {
        QueryRule::All => None,
        QueryRule::Only(names) => Some(format!("[{}]", join(names.iter().map(|(name, _)| name)))),
        QueryRule::Ignore(names) => Some(format!("{{ignore: [{}]}}", join(names))),
    }
}

/// `[]` means that a write purges nothing, so it is shown too.
fn purges<'t>(templates: impl Iterator<Item = &'t Template>) -> String {
    format!("[{}]", join(templates.map(Template::as_str)))
}

fn duration(duration: Duration) -> Option<String> {
    (!duration.is_zero()).then(|| show_duration(duration))
}

fn list(items: impl Iterator<Item = impl AsRef<str>>) -> Option<String> {
    let joined = join(items);
    (!joined.is_empty()).then(|| format!("[{joined}]"))
}

fn join(items: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    items.into_iter().map(|item| item.as_ref().to_owned()).collect::<Vec<_>>().join(", ")
}
