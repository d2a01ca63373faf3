//! Souin: `default_cache`, `urls`, and `surrogate_keys`.

use std::collections::VecDeque;

use serde_json::Value;

use super::region::{PathSet, Region};
use super::{CATCH_ALL, DraftRoute, Import, ask, duration, exclude, push_route};
use crate::draft::{Setting, flow_item, scalar, sequence};

pub(super) fn draft(root: &Value) -> Result<Import, String> {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let Some((root, default)) = find_section(root) else {
        return Err("there is no `default_cache`; is it the configuration of Souin?".into());
    };
    let mut draft = Import::default();
    if let Some(url) = text(root, "reverse_proxy_url").filter(|url| url.starts_with("http")) {
        draft.settings.push(Setting::new(
            "upstream",
            scalar(url.trim_end_matches('/')),
            "`reverse_proxy_url`",
        ));
    }
    if let Some(url) = default.pointer("/redis/url").and_then(Value::as_str) {
        let url = if url.contains("://") { url.to_owned() } else { format!("redis://{url}") };
        draft.settings.push(Setting::new("store", format!("{{redis: {}}}", flow_item(&url)), "`redis.url`"));
    }
    for (pattern, settings) in root.get("urls").and_then(Value::as_object).into_iter().flatten() {
        let settings = read_settings(&mut draft, &[settings, default]);
        let paths = paths_of_url(pattern);
        let about = format!("`{pattern}`");
        match &paths.route {
            Some(path) => {
                let route =
                    DraftRoute { path: path.clone(), about: vec![about.clone()], settings: settings.clone() };
                push_route(&mut draft, route);
            }
            None => ask(&mut draft, format!("{about}: a regular expression. Which paths are these?")),
        }
        draft.regions.push(Region { paths, settings: Some(settings), about, is_stronger: false });
    }
    let about = vec!["Everything else: `default_cache`.".to_owned()];
    let settings = read_settings(&mut draft, &[default]);
    push_route(&mut draft, DraftRoute { path: CATCH_ALL.into(), about, settings });
    if let Some(excluded) = default.pointer("/regex/exclude") {
        let paths = excluded.as_str().map_or_else(PathSet::unknown, PathSet::from_pattern);
        exclude(&mut draft, paths, &format!("`default_cache.regex.exclude: {excluded}`"), "`regex.exclude`");
    }
    for (name, key) in root.get("surrogate_keys").and_then(Value::as_object).into_iter().flatten() {
        let url = text(key, "url").unwrap_or_default();
        let path = paths_of_url(&url).route;
        // Other keys than `url` choose among its responses; a brace is a part of a template.
        let is_for_all = key.as_object().is_some_and(|key| key.len() == 1) && !name.contains(['{', '}']);
        match draft.routes.iter_mut().find(|route| is_for_all && Some(&route.path) == path.as_ref()) {
            Some(route) => tag(route, name),
            None => draft
                .questions
                .push(format!("`surrogate_keys.{name}` for `{url}`: give that route `tags: [{name}]`.")),
        }
        draft.questions.push(format!(
            "`surrogate_keys.{name}`: which writes change this? Give their routes `purges: [{name}]`."
        ));
    }
    for (place, why) in [
        (
            "/default_cache/key",
            "the key of larder has method, host, path and query; `query` leaves parameters out",
        ),
        ("/default_cache/allowed_http_verbs", "`methods` of a route names reads by POST and QUERY"),
        ("/cache_keys", "`query`, `headers` and `cookies` of a route make its key"),
        ("/default_cache/cdn", "larder purges no CDN"),
    ] {
        if root.pointer(place).is_some() {
            draft.questions.push(format!("`{}`: {why}.", place[1..].replace('/', ".")));
        }
    }
    const READ: [&str; 6] =
        ["default_cache", "urls", "surrogate_keys", "cache_keys", "reverse_proxy_url", "api"];
    const READ_OF_CACHE: [&str; 8] =
        ["ttl", "stale", "headers", "regex", "redis", "key", "allowed_http_verbs", "cdn"];
    ask_for_others(&mut draft, "", root, &READ);
    ask_for_others(&mut draft, "default_cache.", default, &READ_OF_CACHE);
    for (pattern, settings) in root.get("urls").and_then(Value::as_object).into_iter().flatten() {
        ask_for_others(&mut draft, &format!("urls.{pattern}: "), settings, &["ttl", "stale", "headers"]);
    }
    Ok(draft)
}

/// The section that has `default_cache`: the whole file, or the settings of Souin in that of Traefik, Kratos and others.
fn find_section(root: &Value) -> Option<(&Value, &Value)> {
    const MAX_SECTIONS: usize = 1000;
    let mut open = VecDeque::from([root]);
    for _ in 0..MAX_SECTIONS {
        let section = open.pop_front()?;
        if let Some(default) = section.get("default_cache") {
            return Some((section, default));
        }
        open.extend(section.as_object().into_iter().flat_map(|section| section.values()));
    }
    None
}

/// Asks for the keys that are not read.
fn ask_for_others(draft: &mut Import, place: &str, section: &Value, read: &[&str]) {
    for name in section.as_object().into_iter().flat_map(|section| section.keys()) {
        if !read.contains(&name.as_str()) {
            ask(draft, format!("`{place}{name}` has no counterpart that can be read from here."));
        }
    }
}

/// The first of these that has a value counts.
fn read_settings(draft: &mut Import, scopes: &[&Value]) -> Vec<Setting> {
    let find = |name: &str| scopes.iter().find_map(|scope| scope.get(name));
    // It stands for the `Cache-Control` of responses without one.
    let directives = find("default_cache_control").and_then(Value::as_str).unwrap_or_default();
    let withholds = |word: &str| directives.to_ascii_lowercase().contains(word);
    let is_withheld = ["no-store", "no-cache", "private"].into_iter().any(withholds);
    let mut settings = Vec::new();
    match find("ttl").map(|ttl| (ttl, ttl.as_str().and_then(duration))) {
        _ if is_withheld => settings.push(Setting::new(
            "ttl",
            "upstream",
            "`default_cache_control`: without a lifetime not stored",
        )),
        None => settings.push(Setting::new("ttl", "2m", "Souin's own default")),
        Some((_, Some(ttl))) if ttl == "0s" => return vec![Setting::new("mode", "off", "`ttl` is 0")],
        Some((_, Some(ttl))) => settings.push(Setting::new("ttl", ttl, "`ttl`")),
        Some((unread, None)) => {
            ask(draft, format!("`ttl: {unread}`: which lifetime is this?"));
            settings.push(Setting::new("mode", "observe", "`ttl` can't be read"));
            settings.push(Setting::new("ttl", "upstream", "the response's own lifetime"));
        }
    }
    let stale = find("stale").and_then(Value::as_str).and_then(duration);
    if let Some(stale) = stale.filter(|time| time != "0s") {
        settings.push(Setting::new("stale_while_revalidate", stale, "`stale`"));
    }
    let of_key = scopes.iter().find_map(|scope| scope.pointer("/key/headers"));
    let headers: Vec<String> = [find("headers"), of_key]
        .into_iter()
        .flatten()
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|name| Some(name.as_str()?.to_ascii_lowercase()))
        .collect();
    if headers.iter().any(|name| name == "authorization") {
        settings.push(Setting::new("per", "authorization", "`headers`"));
    }
    let others: Vec<&str> = headers
        .iter()
        .map(String::as_str)
        .filter(|name| !["authorization", "cookie"].contains(name))
        .collect();
    if !others.is_empty() {
        settings.push(Setting::new("headers", sequence(others), "`headers`"));
    }
    settings
}

/// The paths of a pattern of URLs. The host is a part of every key anyway.
fn paths_of_url(pattern: &str) -> PathSet {
    let unescaped = pattern.replace("\\/", "/");
    let path = unescaped.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
    path.map_or_else(PathSet::unknown, |path| PathSet::from_pattern(&format!("^{path}")))
}

/// Adds a tag to those that the route has.
fn tag(route: &mut DraftRoute, name: &str) {
    let item = flow_item(name);
    match route.settings.iter_mut().find(|setting| setting.key == "tags") {
        Some(tags) => tags.value.insert_str(tags.value.len() - 1, &format!(", {item}")),
        None => route.settings.push(Setting::new("tags", format!("[{item}]"), "`surrogate_keys`")),
    }
}
