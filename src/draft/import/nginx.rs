//! nginx: `proxy_cache` and its companions in `location` blocks.

use super::nginx_text::{NginxDirective, parse};
use super::nginx_upstream::{ask_about_servers, find_upstreams};
use super::region::{PathSet, Region};
use super::{DraftRoute, Import, ask, duration, push_route};
use crate::draft::{Setting, sequence};

/// Directives about caching that need no key in larder.
const BUILT_IN: [&str; 6] = [
    "proxy_cache",
    "proxy_cache_lock",
    "proxy_cache_lock_timeout",
    "proxy_cache_revalidate",
    "proxy_cache_background_update",
    "proxy_cache_valid",
];

/// Directives that decide who gets a response, or how many.
const ACCESS_CONTROL: [&str; 17] = [
    "auth_request",
    "auth_basic",
    "auth_jwt",
    "auth_digest",
    "auth_gss",
    "auth_ldap",
    "auth_pam",
    "allow",
    "deny",
    "internal",
    "limit_req",
    "secure_link",
    "secure_link_md5",
    "secure_link_hmac",
    "valid_referers",
    "js_access",
    "perl",
];

/// Directives that decide nothing about responses, or are read elsewhere.
const UNRELATED: [&str; 20] = [
    "access_log",
    "default_type",
    "error_log",
    "http2",
    "index",
    "limit_req_zone",
    "location",
    "log_format",
    "proxy_cache_bypass",
    "proxy_cache_key",
    "proxy_cache_use_stale",
    "proxy_http_version",
    "proxy_ignore_headers",
    "proxy_no_cache",
    "proxy_pass",
    "sendfile",
    "server",
    "server_name",
    "upstream",
    "use",
];

/// Directives with a counterpart that nothing here can fill in.
const COUNTERPARTS: [(&str, &str); 16] = [
    ("client_max_body_size", "larder has no such bound; the API keeps it"),
    ("expires", "`ttl` of a route is for larder's own store; what clients see is the API's"),
    ("add_header", "larder sends what the API sends, and `Cache-Status`"),
    ("gzip", "`compress` of a route"),
    ("keepalive_timeout", "`limits` has the timeouts of clients"),
    ("listen", "`listen`"),
    ("proxy_cache_methods", "`methods` of a route names reads by POST and QUERY"),
    ("proxy_cache_path", "`store` has the bounds of memory, and Redis"),
    ("proxy_connect_timeout", "`upstream: {url: …, connect_timeout: …}`"),
    ("proxy_hide_header", "`drop_response` of a route"),
    ("proxy_read_timeout", "`upstream: {url: …, response_timeout: …}`"),
    ("proxy_send_timeout", "`upstream: {url: …, response_timeout: …}`"),
    ("proxy_set_header", "larder sends the client's own fields on; ask whether the API needs this one"),
    ("ssl_certificate", "`listen: {address: …, tls: …}`"),
    ("ssl_certificate_key", "`listen: {address: …, tls: …}`"),
    ("tcp_nodelay", "larder always sets it"),
];

pub(super) fn draft(text: &str) -> Result<Import, String> {
    let root = parse(text)?;
    let mut draft = Import::default();
    let http = root.iter().find(|directive| directive.name() == "http").map_or(&root, |http| &http.block);
    let addresses = find_upstreams(http);
    ask_about_servers(&mut draft, http);
    if let Some((address, _)) = addresses.first() {
        draft.settings.push(Setting::new("upstream", address, "`proxy_pass`"));
    }
    for (other, text) in addresses.iter().skip(1) {
        let other = other.trim_matches('"');
        ask(
            &mut draft,
            format!("{text}: a second upstream ({other}). larder has one; does the first serve both?"),
        );
    }
    let servers = http.iter().filter(|directive| directive.name() == "server" && !directive.block.is_empty());
    let mut names: Vec<&NginxDirective> = Vec::new();
    for server in servers {
        let name = server.block.iter().find(|directive| directive.name() == "server_name");
        names.extend(name.filter(|name| names.iter().all(|known| known.words != name.words)));
        add_locations(&mut draft, &server.block, &[http, &server.block]);
        add_questions(&mut draft, &server.block);
    }
    // A part of a file that another one includes.
    add_locations(&mut draft, http, &[http]);
    add_questions(&mut draft, http);
    for name in names.iter().skip(1) {
        ask(
            &mut draft,
            format!("{}: a second host. Routes hold for all hosts; are its paths the same?", name.text()),
        );
    }
    match draft.settings.is_empty() && draft.routes.is_empty() {
        true => {
            Err("no `proxy_pass` and no `proxy_cache` were found; is it the configuration of nginx?".into())
        }
        false => Ok(draft),
    }
}

fn add_locations(draft: &mut Import, directives: &[NginxDirective], outer: &[&[NginxDirective]]) {
    for location in directives.iter().filter(|directive| directive.name() == "location") {
        let scopes: Vec<&[NginxDirective]> =
            outer.iter().copied().chain([location.block.as_slice()]).collect();
        add_locations(draft, &location.block, &scopes);
        let has = |name: &str| location.block.iter().any(|directive| directive.name() == name);
        if has("proxy_cache_purge") {
            ask(draft, format!("{}: larder has PURGE of a URL, and `POST /purge`.", location.text()));
            // Without an upstream it purges alone; with one, as NGINX Plus has it, requests by another method do.
            if !has("proxy_pass") {
                continue;
            }
        }
        if location.arguments().iter().any(|name| name.starts_with('@')) {
            ask(draft, format!("{}: no request has this name. What leads to it?", location.text()));
        } else {
            add_location(draft, location, &scopes);
        }
    }
}

fn add_location(draft: &mut Import, location: &NginxDirective, scopes: &[&[NginxDirective]]) {
    let (paths, is_stronger) = location_paths(location.arguments());
    let cache = find(scopes, "proxy_cache").and_then(|cache| cache.arguments().first());
    let is_cached = cache.is_some_and(|zone| zone != "off");
    let uncached = find_obstacle(draft, location, scopes)
        .or_else(|| (!is_cached).then(|| "no `proxy_cache` is in effect".to_owned()));
    let about = location.text();
    let settings = match &uncached {
        Some(why) => vec![Setting::new("mode", "off", why.as_str())],
        None => settings(draft, scopes),
    };
    match &paths.route {
        Some(path) => {
            let route =
                DraftRoute { path: path.clone(), about: vec![about.clone()], settings: settings.clone() };
            push_route(draft, route);
        }
        None => {
            let is_excluded = if uncached.is_none() { "" } else { ", not to be cached" };
            ask(draft, format!("{about}: a regular expression{is_excluded}. Which paths are these?"));
        }
    }
    let settings = uncached.is_none().then_some(settings);
    draft.regions.push(Region { paths, settings, about, is_stronger });
}

/// Why larder must not cache a location whatever `proxy_cache` says. Each reason but the last is a question, too.
fn find_obstacle(
    draft: &mut Import,
    location: &NginxDirective,
    scopes: &[&[NginxDirective]],
) -> Option<String> {
    let is_on =
        |directive: &&NginxDirective| directive.arguments().first().is_none_or(|first| first != "off");
    let control = ACCESS_CONTROL.iter().filter_map(|name| find(scopes, name)).find(is_on);
    let all = || scopes.iter().flat_map(|scope| scope.iter());
    if let Some(control) = control.or_else(|| all().find(|directive| decides_access(directive))) {
        let question = match refuses_methods(control) {
            true => "larder forwards all methods, so writes would reach the API. Who refuses them then?",
            false => "larder does not do this, and its route is not cached. Who may read it?",
        };
        ask(draft, format!("{}: {question}", control.text()));
        return Some(format!("`{}`", control.name()));
    }
    let Some(pass) = location.block.iter().find(|directive| directive.name() == "proxy_pass") else {
        ask(
            draft,
            format!("{} has no `proxy_pass`; larder would ask the API. Is it in front?", location.text()),
        );
        return Some("no `proxy_pass`".into());
    };
    let target = pass.arguments().first().and_then(|target| target.split_once("://"));
    let path = target.and_then(|(_, rest)| match rest.strip_prefix("unix:") {
        Some(socket) => socket.split_once(':').map(|(_, path)| path).filter(|path| !path.is_empty()),
        None => rest.char_indices().skip(1).find(|(_, c)| "/$".contains(*c)).map(|(at, _)| &rest[at..]),
    });
    let is_same =
        |path: &str| path == "$request_uri" || location.arguments().last().is_some_and(|name| name == path);
    let changed = path.filter(|path| !is_same(path)).map(|_| pass);
    if let Some(changed) = changed.or_else(|| all().find(|directive| directive.name() == "rewrite")) {
        ask(
            draft,
            format!(
                "{} changes the path; larder sends it on as it is. Can the API take the client's path?",
                changed.text()
            ),
        );
        return Some(format!("`{}` changes the path", changed.name()));
    }
    let is_always = |directive: &&NginxDirective| {
        directive.arguments().iter().any(|word| !word.starts_with('$') && word != "0" && !word.is_empty())
    };
    let never = find(scopes, "proxy_no_cache").filter(is_always);
    never.map(|directive| format!("`{}`", directive.words.join(" ")))
}

/// Code, or a condition with an outcome other than a variable's value.
fn decides_access(directive: &NginxDirective) -> bool {
    // Each is in the key, or never cached.
    const HARMLESS: [&str; 5] = ["$scheme", "$https", "$host", "$server_port", "$http_host"];
    let name = directive.name();
    let is_code = ["access_by_", "rewrite_by_", "content_by_", "js_content", "access_handler"];
    let has_outcome =
        directive.block.iter().any(|inner| !["set", "add_header", "access_log"].contains(&inner.name()));
    let condition = directive.arguments().join(" ");
    let variables = condition.split('$').skip(1).map(|text| {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        format!("${}", &text[..end])
    });
    let is_harmless =
        condition.contains('$') && variables.into_iter().all(|name| HARMLESS.contains(&name.as_str()));
    is_code.iter().any(|prefix| name.starts_with(prefix))
        || name == "limit_except"
        || name == "if" && has_outcome && !is_harmless
}

/// Whether a directive refuses requests by their methods.
fn refuses_methods(directive: &NginxDirective) -> bool {
    let is_method = || directive.arguments().iter().any(|word| word.contains("$request_method"));
    directive.name() == "limit_except" || directive.name() == "if" && is_method()
}

/// The paths, and whether they win over longer names.
fn location_paths(arguments: &[String]) -> (PathSet, bool) {
    match arguments {
        [path] if path.starts_with('/') => (PathSet::from_path(path, true), false),
        [how, path] if how == "=" && !path.is_empty() => (PathSet::from_path(path, false), false),
        [how, path] if how == "^~" && !path.is_empty() => (PathSet::from_path(path, true), false),
        [how, pattern] if how == "~" => (PathSet::from_pattern(pattern), true),
        [how, pattern] if how == "~*" => (PathSet::from_pattern(pattern).ignoring_case(), true),
        _ => (PathSet::unknown(), true),
    }
}

/// The innermost directive of this name.
fn find<'d>(scopes: &[&'d [NginxDirective]], name: &str) -> Option<&'d NginxDirective> {
    scopes.iter().rev().find_map(|scope| scope.iter().find(|directive| directive.name() == name))
}

/// All directives of this name in the innermost scope that has one: an array of nginx is inherited only as a whole.
fn find_all<'d>(scopes: &[&'d [NginxDirective]], name: &str) -> Vec<&'d NginxDirective> {
    let scope = scopes.iter().rev().find(|scope| scope.iter().any(|directive| directive.name() == name));
    scope.into_iter().flat_map(|scope| scope.iter()).filter(|directive| directive.name() == name).collect()
}

fn settings(draft: &mut Import, scopes: &[&[NginxDirective]]) -> Vec<Setting> {
    let mut settings = lifetimes(draft, scopes);
    if let Some(key) = find(scopes, "proxy_cache_key") {
        settings.extend(key_settings(&key.arguments().join(" ")));
        let unread = unread_variables(&key.arguments().join(" "));
        if !unread.is_empty() {
            ask(
                draft,
                format!(
                    "{}: what do {} contain? Until then its route only observes.",
                    key.text(),
                    unread.join(", ")
                ),
            );
            settings.push(Setting::new("mode", "observe", "the key has variables that can't be read"));
        }
    }
    if settings.iter().all(|setting| setting.key != "per") {
        ask(
            draft,
            "nginx gives what it stores to every caller, also with `Cookie` or `Authorization`. larder keeps callers \
             apart: write `shared: true` on a route only if the API answers alike for all of them."
                .into(),
        );
    }
    settings.extend(stale_settings(scopes));
    for ignored in find_all(scopes, "proxy_ignore_headers") {
        let has = |name: &str| ignored.arguments().iter().any(|word| word.eq_ignore_ascii_case(name));
        if has("Cache-Control") || has("Expires") {
            settings.push(Setting::new("override", "[lifetime]", "`proxy_ignore_headers`"));
        }
        if has("Cache-Control") {
            ask(
                draft,
                format!(
                    "{}: nginx stores `no-store`, `private` and `no-cache`, too. `override: [lifetime, private, \
                     no-cache]` stores the last two; nothing overrides `no-store`. Which does the API send?",
                    ignored.text()
                ),
            );
        }
        if has("Vary") {
            let counterpart =
                "larder obeys `Vary`; `ignore_vary` of a route names fields that select no response";
            ask(draft, format!("{}: {counterpart}.", ignored.text()));
        }
        if has("Set-Cookie") {
            settings.push(Setting::new(
                "drop_response",
                "{also: [Set-Cookie]}",
                "`proxy_ignore_headers`; hits have none",
            ));
        }
    }
    for scope in scopes {
        add_questions(draft, scope);
    }
    settings.extend(uncached_requests(draft, scopes));
    settings
}

/// Requests that nginx answers without its cache.
fn uncached_requests(draft: &mut Import, scopes: &[&[NginxDirective]]) -> Option<Setting> {
    // larder forwards such requests, unless a route says otherwise.
    let is_harmless = |word: &String| {
        [
            "$http_authorization",
            "$http_cookie",
            "$cookie_",
            "$http_pragma",
            "$http_cache_control",
            "$upstream_http_set_cookie",
        ]
        .iter()
        .any(|known| word.starts_with(known))
    };
    let names = ["proxy_no_cache", "proxy_cache_bypass"];
    let unread = names
        .iter()
        .filter_map(|name| find(scopes, name))
        .find(|directive| directive.arguments().iter().any(|word| word != "0" && !is_harmless(word)))?;
    ask(draft, format!("{}: which requests are these? Until then its route only observes.", unread.text()));
    Some(Setting::new("mode", "observe", format!("`{}` can't be read", unread.name())))
}

/// Asks for what nothing above reads.
fn add_questions(draft: &mut Import, scope: &[NginxDirective]) {
    for directive in scope {
        let name = directive.name();
        if BUILT_IN.contains(&name) || UNRELATED.contains(&name) {
            continue;
        }
        match COUNTERPARTS.iter().find(|(known, _)| *known == name) {
            Some((_, counterpart)) => ask(draft, format!("{}: {counterpart}.", directive.text())),
            None => {
                ask(draft, format!("{} has no counterpart that can be read from here.", directive.text()))
            }
        }
    }
}

/// `proxy_cache_valid 200 302 10m`, `proxy_cache_valid any 1m`, `proxy_cache_valid 5m`.
fn lifetimes(draft: &mut Import, scopes: &[&[NginxDirective]]) -> Vec<Setting> {
    let (mut ttl, mut statuses) = (None, Vec::new());
    for valid in find_all(scopes, "proxy_cache_valid") {
        let Some((time, codes)) = valid.arguments().split_last() else { continue };
        let Some(time) = duration(time) else {
            ask(draft, format!("{}: which lifetime is this?", valid.text()));
            continue;
        };
        if codes.is_empty() || codes.iter().any(|code| code == "200" || code == "any") {
            ttl.get_or_insert_with(|| time.clone());
        }
        if codes.iter().any(|code| code == "any") {
            ask(draft, format!("{}: `status` of a route names other statuses.", valid.text()));
        }
        let is_other =
            |code: &&String| code.parse::<u16>().is_ok_and(|code| matches!(code, 302 | 307 | 400..=599));
        statuses.extend(
            codes.iter().filter(is_other).filter(|_| time != "0s").map(|code| format!("{code}: {time}")),
        );
    }
    statuses.sort();
    statuses.dedup_by_key(|entry| entry.split(':').next().unwrap_or_default().to_owned());
    let mut settings = vec![match ttl.filter(|ttl| ttl != "0s") {
        Some(ttl) => Setting::new("ttl", ttl, "`proxy_cache_valid`"),
        None => Setting::new("ttl", "upstream", "no `proxy_cache_valid`: what the response says"),
    }];
    if !statuses.is_empty() {
        settings.push(Setting::new("status", format!("{{{}}}", statuses.join(", ")), "`proxy_cache_valid`"));
    }
    settings
}

fn key_variables(key: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    key.split('$')
        .skip(1)
        .map(|text| text.trim_start_matches('{'))
        .map(|text| &text[..text.find(|c| !is_name(c)).unwrap_or(text.len())])
        .collect()
}

/// The variables in a key that no key of a route names.
fn unread_variables(key: &str) -> Vec<String> {
    const READ: [&str; 14] = [
        "args",
        "document_uri",
        "host",
        "http_host",
        "is_args",
        "proxy_host",
        "proxy_port",
        "query_string",
        "request_method",
        "request_uri",
        "scheme",
        "server_name",
        "server_port",
        "uri",
    ];
    let has_setting = |name: &str| {
        let prefixes = ["arg_", "http_", "cookie_"];
        READ.contains(&name)
            || prefixes.iter().any(|prefix| name.starts_with(prefix)) && name != "http_cookie"
    };
    let unread = key_variables(key).into_iter().filter(|name| !has_setting(name));
    unread.map(|name| format!("`${name}`")).collect()
}

/// The variables in a key that larder's own key does not contain.
fn key_settings(key: &str) -> Vec<Setting> {
    let variables = key_variables(key);
    let with_prefix = |prefix: &str| -> Vec<String> {
        let mut names: Vec<String> =
            variables.iter().filter_map(|name| name.strip_prefix(prefix)).map(str::to_owned).collect();
        names.sort();
        names.dedup();
        names
    };
    let mut settings = Vec::new();
    let list = |names: &[String]| sequence(names.iter().map(String::as_str));
    let has_query =
        ["request_uri", "args", "query_string", "is_args"].iter().any(|name| variables.contains(name));
    if !has_query {
        settings.push(Setting::new(
            "query",
            list(&with_prefix("arg_")),
            "`proxy_cache_key` has no other parameter; others are not sent on",
        ));
    }
    let mut headers: Vec<String> = with_prefix("http_").iter().map(|name| name.replace('_', "-")).collect();
    if headers.iter().any(|name| name == "authorization") {
        settings.push(Setting::new("per", "authorization", "`$http_authorization` in `proxy_cache_key`"));
    }
    headers.retain(|name| !["authorization", "host", "cookie"].contains(&name.as_str()));
    if !headers.is_empty() {
        settings.push(Setting::new("headers", list(&headers), "`proxy_cache_key`"));
    }
    let cookies = with_prefix("cookie_");
    if !cookies.is_empty() {
        settings.push(Setting::new("cookies", list(&cookies), "`proxy_cache_key`"));
    }
    settings
}

fn stale_settings(scopes: &[&[NginxDirective]]) -> Vec<Setting> {
    let Some(stale) = find(scopes, "proxy_cache_use_stale") else { return Vec::new() };
    let has = |word: &str| stale.arguments().iter().any(|argument| argument == word);
    let mut settings = Vec::new();
    let updates = find(scopes, "proxy_cache_background_update")
        .is_some_and(|update| update.words.get(1).is_some_and(|on| on == "on"));
    if has("updating") && updates {
        settings.push(Setting::new(
            "stale_while_revalidate",
            "1m",
            "`updating`; nginx has no bound, choose one",
        ));
    }
    if ["error", "timeout", "http_500", "http_502", "http_503", "http_504"].iter().any(|word| has(word)) {
        settings.push(Setting::new(
            "stale_if_error",
            "1h",
            "`proxy_cache_use_stale`; nginx has no bound, choose one",
        ));
    }
    settings
}
