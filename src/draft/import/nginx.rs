//! nginx: `proxy_cache` and its companions in `location` blocks.

use super::{
    DraftRoute, MAX_DEPTH, MAX_STATEMENTS, ask, duration, exclude, plain_pattern, push_route, route_path,
};
use crate::draft::{Draft, Setting, scalar, sequence};

/// A directive with its arguments, and the directives of its block.
#[derive(Debug)]
struct NginxDirective {
    line: usize,
    words: Vec<String>,
    block: Vec<NginxDirective>,
}

/// Directives about caching that need no key in larder.
const BUILT_IN: [&str; 7] = [
    "proxy_cache",
    "proxy_cache_lock",
    "proxy_cache_lock_timeout",
    "proxy_cache_revalidate",
    "proxy_cache_path",
    "proxy_cache_background_update",
    "proxy_cache_valid",
];

/// Directives that decide who gets a response, or how many.
const ACCESS_CONTROL: [&str; 7] =
    ["auth_request", "auth_basic", "auth_jwt", "allow", "deny", "internal", "limit_req"];

/// Directives that decide nothing about responses, or are read elsewhere.
const UNRELATED: [&str; 22] = [
    "access_log",
    "client_max_body_size",
    "default_type",
    "error_log",
    "gzip",
    "http2",
    "index",
    "keepalive_timeout",
    "limit_req_zone",
    "listen",
    "location",
    "log_format",
    "proxy_connect_timeout",
    "proxy_http_version",
    "proxy_ignore_headers",
    "proxy_pass",
    "proxy_read_timeout",
    "proxy_send_timeout",
    "sendfile",
    "server",
    "server_name",
    "upstream",
];

pub(super) fn draft(text: &str) -> Result<Draft, String> {
    let mut parser = Parser { rest: text, line: 1, count: 0 };
    let root = parser.block(0)?;
    let mut draft = Draft::default();
    let http = root.iter().find(|directive| directive.name() == "http").map_or(&root, |http| &http.block);
    let addresses = find_upstreams(http);
    if let Some((address, _)) = addresses.first() {
        draft.settings.push(Setting::new("upstream", scalar(address), "`proxy_pass`"));
    }
    for (other, text) in addresses.iter().skip(1) {
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
    }
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

struct Parser<'t> {
    rest: &'t str,
    line: usize,
    count: usize,
}

enum NginxToken {
    Word(String),
    Open,
    Close,
    End,
}

impl Parser<'_> {
    /// Reads directives up to the end of the block.
    fn block(&mut self, depth: usize) -> Result<Vec<NginxDirective>, String> {
        let (mut directives, mut words) = (Vec::new(), Vec::new());
        loop {
            let token = self.token()?;
            let line = self.line;
            if self.count > MAX_STATEMENTS || depth > MAX_DEPTH {
                return Err(format!("line {line}: the file is too large or too deeply nested"));
            }
            match token {
                Some(NginxToken::Word(word)) => words.push(word),
                Some(NginxToken::End) if words.is_empty() => {}
                Some(NginxToken::End) => {
                    self.count += 1;
                    directives.push(NginxDirective {
                        line,
                        words: std::mem::take(&mut words),
                        block: Vec::new(),
                    });
                }
                Some(NginxToken::Open) => {
                    self.count += 1;
                    let words = std::mem::take(&mut words);
                    // Code of another language is not read.
                    let block = match words.first().is_some_and(|name| name.ends_with("_by_lua_block")) {
                        true => self.skip_block()?,
                        false => self.block(depth + 1)?,
                    };
                    directives.push(NginxDirective { line, words, block });
                }
                Some(NginxToken::Close) if depth > 0 => return Ok(directives),
                None if depth == 0 && words.is_empty() => return Ok(directives),
                Some(NginxToken::Close) | None => {
                    return Err(format!("line {line}: `}}` or `;` is not where nginx expects it"));
                }
            }
        }
    }

    fn skip_block(&mut self) -> Result<Vec<NginxDirective>, String> {
        let mut open = 1;
        while let Some(next) = self.next_char() {
            open += i32::from(next == '{') - i32::from(next == '}');
            if open == 0 {
                return Ok(Vec::new());
            }
        }
        Err(format!("line {}: a block has no end", self.line))
    }

    fn next_char(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.rest = &self.rest[next.len_utf8()..];
        self.line += usize::from(next == '\n');
        Some(next)
    }

    fn token(&mut self) -> Result<Option<NginxToken>, String> {
        while let Some(next) = self.rest.chars().next() {
            match next {
                '#' => while self.next_char().is_some_and(|c| c != '\n') {},
                c if c.is_whitespace() => _ = self.next_char(),
                _ => break,
            }
        }
        let Some(first) = self.next_char() else { return Ok(None) };
        Ok(Some(match first {
            '{' => NginxToken::Open,
            '}' => NginxToken::Close,
            ';' => NginxToken::End,
            '"' | '\'' => NginxToken::Word(self.quoted(first)?),
            first => {
                let mut word = String::from(first);
                while let Some(next) = self.rest.chars().next() {
                    // `${name}` is a variable.
                    if next.is_whitespace() || next == ';' || next == '{' && !word.ends_with('$') {
                        break;
                    }
                    word.extend(self.next_char());
                }
                NginxToken::Word(word)
            }
        }))
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut word = String::new();
        while let Some(next) = self.next_char() {
            match next {
                '\\' => word.extend(self.next_char()),
                next if next == quote => return Ok(word),
                next => word.push(next),
            }
        }
        Err(format!("line {}: a quotation has no end", self.line))
    }
}

impl NginxDirective {
    fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    fn text(&self) -> String {
        format!("line {}: `{}`", self.line, self.words.join(" "))
    }
}

/// The addresses of all `proxy_pass` with the directive; the first server of an `upstream` that one names.
fn find_upstreams(http: &[NginxDirective]) -> Vec<(String, String)> {
    fn add_passes<'d>(directives: &'d [NginxDirective], found: &mut Vec<&'d NginxDirective>) {
        for directive in directives {
            if directive.name() == "proxy_pass" {
                found.push(directive);
            }
            add_passes(&directive.block, found);
        }
    }
    let mut passes = Vec::new();
    add_passes(http, &mut passes);
    let mut addresses: Vec<(String, String)> = Vec::new();
    for pass in passes {
        let address = pass.arguments().first().and_then(|target| upstream_address(http, target));
        if let Some(address) = address.filter(|address| addresses.iter().all(|(known, _)| known != address)) {
            addresses.push((address, pass.text()));
        }
    }
    addresses
}

fn upstream_address(http: &[NginxDirective], target: &str) -> Option<String> {
    let (scheme, rest) = target.split_once("://")?;
    let authority = rest.split('/').next().filter(|authority| !authority.is_empty())?;
    let is_named = |directive: &&NginxDirective| {
        directive.name() == "upstream" && directive.arguments().first().is_some_and(|name| name == authority)
    };
    let servers = http.iter().find(is_named).map(|upstream| upstream.block.as_slice()).unwrap_or_default();
    let server = servers
        .iter()
        .find(|directive| directive.name() == "server")
        .and_then(|server| server.arguments().first());
    let address = server.map_or(authority, String::as_str);
    Some(match address.strip_prefix("unix:") {
        Some(path) => format!("unix:{path}"),
        None => format!("{scheme}://{address}"),
    })
}

fn add_locations(draft: &mut Draft, directives: &[NginxDirective], outer: &[&[NginxDirective]]) {
    for location in directives.iter().filter(|directive| directive.name() == "location") {
        let scopes: Vec<&[NginxDirective]> =
            outer.iter().copied().chain([location.block.as_slice()]).collect();
        add_locations(draft, &location.block, &scopes);
        if location.block.iter().any(|directive| directive.name() == "proxy_pass") {
            add_location(draft, location, &scopes);
        }
    }
}

/// Adds the route of a location that has a `proxy_pass`.
fn add_location(draft: &mut Draft, location: &NginxDirective, scopes: &[&[NginxDirective]]) {
    let cache = find(scopes, "proxy_cache").and_then(|cache| cache.arguments().first());
    let is_cached = cache.is_some_and(|zone| zone != "off");
    let control = ACCESS_CONTROL
        .iter()
        .filter_map(|name| find(scopes, name))
        .find(|directive| directive.arguments().first().is_none_or(|first| first != "off"));
    if let Some(control) = control {
        ask(
            draft,
            format!(
                "{}: larder does not do this, and its route is not cached. Who may read it?",
                control.text()
            ),
        );
    }
    let Some(path) = location_path(location.arguments()) else {
        let is_excluded = if is_cached && control.is_none() { "" } else { ", not to be cached" };
        ask(draft, format!("{}: a regular expression{is_excluded}. Which paths are these?", location.text()));
        return;
    };
    let is_segment =
        path.ends_with("/{*rest?}") && location.arguments().last().is_some_and(|word| !word.ends_with('/'));
    if is_segment && (control.is_some() || !is_cached) {
        ask(
            draft,
            format!("{}: nginx matches longer names too (`/ab` for `/a`); is there one?", location.text()),
        );
    }
    match control {
        Some(control) => exclude(draft, Some(path), &location.text(), &format!("`{}`", control.name())),
        None if !is_cached => exclude(draft, Some(path), &location.text(), "no `proxy_cache` is in effect"),
        None => {
            let settings = settings(draft, scopes);
            push_route(draft, DraftRoute { path, about: vec![location.text()], settings });
        }
    }
}

fn location_path(arguments: &[String]) -> Option<String> {
    match arguments {
        [path] | [_, path] if path.is_empty() => None,
        [path] if path.starts_with('/') => Some(route_path(path, true)),
        [how, path] if how == "=" => Some(route_path(path, false)),
        [how, path] if how == "^~" => Some(route_path(path, true)),
        [how, pattern] if how.starts_with('~') => plain_pattern(pattern),
        _ => None,
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

fn settings(draft: &mut Draft, scopes: &[&[NginxDirective]]) -> Vec<Setting> {
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
    settings.extend(stale_settings(scopes));
    for ignored in find_all(scopes, "proxy_ignore_headers") {
        let has = |name: &str| ignored.arguments().iter().any(|word| word.eq_ignore_ascii_case(name));
        if has("Cache-Control") || has("Expires") {
            settings.push(Setting::new("override", "[lifetime]", "`proxy_ignore_headers`"));
        }
        if has("Set-Cookie") {
            settings.push(Setting::new(
                "drop_response",
                "{also: [Set-Cookie]}",
                "`proxy_ignore_headers`; hits have none",
            ));
        }
    }
    for directive in scopes.iter().flat_map(|scope| scope.iter()) {
        let name = directive.name();
        let is_known =
            BUILT_IN.contains(&name) || ["proxy_cache_key", "proxy_cache_use_stale"].contains(&name);
        if !is_known
            && !UNRELATED.contains(&name)
            && !["ssl_", "tcp_", "proxy_buffer"].iter().any(|prefix| name.starts_with(prefix))
        {
            ask(draft, format!("{} has no counterpart that can be read from here.", directive.text()));
        }
    }
    settings
}

/// `proxy_cache_valid 200 302 10m`, `proxy_cache_valid any 1m`, `proxy_cache_valid 5m`.
fn lifetimes(draft: &mut Draft, scopes: &[&[NginxDirective]]) -> Vec<Setting> {
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
