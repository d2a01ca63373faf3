//! VCL: the first backend, and `beresp.ttl` and `beresp.grace` under a condition on the URL.

use super::{
    CATCH_ALL, DraftRoute, MAX_DEPTH, MAX_STATEMENTS, ask, duration, exact_pattern, exclude, plain_pattern,
    push_route,
};
use crate::draft::{Draft, Setting, scalar, sequence};

/// A statement, or a block with the words before it.
struct Statement {
    line: usize,
    text: String,
    block: Vec<Statement>,
}

/// A lifetime and a grace, as they are set. `None` is not set.
#[derive(Clone, Default)]
struct SetLifetime {
    ttl: Option<VclTime>,
    grace: Option<VclTime>,
    keep_uncached: bool,
}

#[derive(Clone, PartialEq, Eq)]
enum VclTime {
    Positive(String),
    /// 0, or negative.
    None,
    Unread,
}

/// The lifetime of a path, with the statement that sets it first.
struct PathLifetime {
    path: String,
    about: String,
    set: SetLifetime,
}

pub(super) fn draft(text: &str) -> Result<Draft, String> {
    let cleaned = without_comments(text);
    let mut reader = VclReader { rest: &cleaned, line: 1, count: 0 };
    let statements = reader.statements(0)?;
    if !text.contains("vcl ") && !statements.iter().any(|statement| statement.text.starts_with("sub ")) {
        return Err("there is neither `vcl 4.1;` nor a `sub`; is it VCL?".into());
    }
    let mut draft = Draft::default();
    let mut backends = statements.iter().filter(|statement| statement.text.starts_with("backend "));
    if let Some(address) = backends.next().and_then(backend_address) {
        draft.settings.push(Setting::new("upstream", scalar(&address), "the first `backend`"));
    }
    for other in backends {
        ask(
            &mut draft,
            format!("{}: a second upstream. larder has one; does the first serve both?", other.about()),
        );
    }
    let (mut lifetimes, mut headers) = (Vec::new(), Vec::new());
    for sub in statements.iter().filter(|statement| statement.text.starts_with("sub ")) {
        match sub.text.trim_start_matches("sub ").trim() {
            "vcl_backend_response" | "vcl_fetch" => add_lifetimes(&mut draft, &mut lifetimes, &sub.block),
            "vcl_recv" => add_recv(&mut draft, &sub.block),
            "vcl_hash" => read_key(&mut draft, &mut headers, &sub.block),
            _ => {}
        }
    }
    for PathLifetime { path, about, set } in lifetimes {
        let settings = set.to_settings();
        push_route(&mut draft, DraftRoute { path, about: vec![about], settings });
    }
    headers.sort();
    headers.dedup();
    if !headers.is_empty() {
        let setting = Setting::new("headers", sequence(headers.iter().map(String::as_str)), "`hash_data`");
        let is_cached = |route: &&mut DraftRoute| !super::is_off(route);
        draft.routes.iter_mut().filter(is_cached).for_each(|route| route.settings.push(setting.clone()));
    }
    Ok(draft)
}

impl Statement {
    fn about(&self) -> String {
        format!("line {}: `{}`", self.line, self.text)
    }
}

/// Replaces comments by white space; lines stay.
fn without_comments(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(['"', '#', '/']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let (kept, length) = match from.as_bytes() {
            [b'"', ..] => {
                let end = from[1..].find(['"', '\n']).map_or(from.len(), |end| end + 2);
                (true, end)
            }
            [b'#', ..] | [b'/', b'/', ..] => (false, from.find('\n').unwrap_or(from.len())),
            [b'/', b'*', ..] => (false, from.find("*/").map_or(from.len(), |end| end + 2)),
            _ => (true, 1),
        };
        match kept {
            true => out.push_str(&from[..length]),
            false => out.extend(from[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' })),
        }
        rest = &from[length..];
    }
    out.push_str(rest);
    out
}

struct VclReader<'t> {
    rest: &'t str,
    line: usize,
    count: usize,
}

impl VclReader<'_> {
    fn statements(&mut self, depth: usize) -> Result<Vec<Statement>, String> {
        let mut statements = Vec::new();
        loop {
            let (text, end) = self.until_end();
            let line = self.line;
            self.count += 1;
            if self.count > MAX_STATEMENTS || depth > MAX_DEPTH {
                return Err(format!("line {line}: the file is too large or too deeply nested"));
            }
            let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for word in ["elsif", "elseif", "elif"] {
                if let Some(condition) = text.strip_prefix(word) {
                    text = format!("else if {}", condition.trim_start());
                }
            }
            match end {
                Some('{') => {
                    let block = self.statements(depth + 1)?;
                    statements.push(Statement { line, text, block });
                }
                Some('}') if depth > 0 => return Ok(statements),
                None if depth == 0 => return Ok(statements),
                Some(';') if text.is_empty() => {}
                Some(';') => statements.push(Statement { line, text, block: Vec::new() }),
                _ => return Err(format!("line {line}: `}}` is not where VCL expects it")),
            }
        }
    }

    /// The text up to the next `{`, `}` or `;` outside of quotation marks.
    fn until_end(&mut self) -> (String, Option<char>) {
        let (mut text, mut is_quoted) = (String::new(), false);
        for (at, c) in self.rest.char_indices() {
            self.line += usize::from(c == '\n');
            match c {
                '"' => is_quoted = !is_quoted,
                '{' | '}' | ';' if !is_quoted => {
                    self.rest = &self.rest[at + 1..];
                    return (text, Some(c));
                }
                _ => {}
            }
            text.push(c);
        }
        self.rest = "";
        (text, None)
    }
}

fn backend_address(backend: &Statement) -> Option<String> {
    let value = |name: &str| {
        let line = backend
            .block
            .iter()
            .find(|line| line.text.split('=').next().is_some_and(|key| key.trim() == name))?;
        Some(line.text.split_once('=')?.1.trim().trim_matches('"').to_owned())
    };
    let host = value(".host")?;
    Some(match value(".port") {
        Some(port) => format!("http://{host}:{port}"),
        None => format!("http://{host}"),
    })
}

/// The path of `if (bereq.url ~ "^/api")`; `None` for other conditions, and for patterns that `read` refuses.
fn condition_path(text: &str, read: fn(&str) -> Option<String>) -> Option<String> {
    let condition = text.trim_start_matches("else").trim().strip_prefix("if")?.trim();
    let condition = condition.strip_prefix('(')?.strip_suffix(')')?.trim();
    let (field, pattern) = condition
        .split_once(['~', '='])
        .map(|(field, rest)| (field.trim(), rest.trim_start_matches('=').trim()))?;
    let quoted = pattern.strip_prefix('"')?.strip_suffix('"')?;
    let is_url = ["req.url", "bereq.url"].contains(&field) && !quoted.contains('"');
    let is_whole = condition.contains("==");
    match is_url {
        true if is_whole => read(&format!("^{}$", quoted.replace('.', "\\."))),
        true => read(quoted),
        false => None,
    }
}

fn add_lifetimes(draft: &mut Draft, lifetimes: &mut Vec<PathLifetime>, block: &[Statement]) {
    for statement in block {
        let is_condition = statement.text.starts_with("if") || statement.text.starts_with("else");
        let (path, statements) = match is_condition {
            true => (condition_path(&statement.text, plain_pattern), statement.block.as_slice()),
            false => (Some(CATCH_ALL.to_owned()), std::slice::from_ref(statement)),
        };
        if is_condition {
            for nested in statement.block.iter().filter(|nested| sets_lifetime(&nested.block)) {
                ask(draft, format!("{} sets a lifetime. Which paths are these?", nested.about()));
            }
        }
        let set = read_lifetime(draft, statements);
        if set.ttl.is_none() && set.grace.is_none() && !set.keep_uncached {
            continue;
        }
        let Some(path) = path else {
            ask(draft, format!("{} sets a lifetime. Which paths are these?", statement.about()));
            continue;
        };
        match lifetimes.iter_mut().find(|known| known.path == path) {
            Some(known) => known.set.merge(set),
            None => lifetimes.push(PathLifetime { path, about: statement.about(), set }),
        }
    }
}

fn sets_lifetime(block: &[Statement]) -> bool {
    block.iter().any(|line| line.text.starts_with("set beresp.") || sets_lifetime(&line.block))
}

fn read_lifetime(draft: &mut Draft, statements: &[Statement]) -> SetLifetime {
    let mut set = SetLifetime::default();
    for statement in statements {
        let Some((name, value)) = statement.text.strip_prefix("set ").and_then(|text| text.split_once('='))
        else {
            continue;
        };
        let time = |draft: &mut Draft| match duration(value.trim()) {
            Some(time) if time != "0s" => VclTime::Positive(time),
            None if !value.trim().starts_with('-') => {
                ask(draft, format!("{}: which time is this?", statement.about()));
                VclTime::Unread
            }
            _ => VclTime::None,
        };
        match name.trim() {
            "beresp.ttl" => set.ttl = Some(time(draft)),
            "beresp.grace" => set.grace = Some(time(draft)),
            "beresp.uncacheable" => set.keep_uncached = value.trim() == "true",
            _ => {}
        }
    }
    set
}

impl SetLifetime {
    /// The last setting counts.
    fn merge(&mut self, later: Self) {
        self.ttl = later.ttl.or_else(|| self.ttl.take());
        self.grace = later.grace.or_else(|| self.grace.take());
        self.keep_uncached |= later.keep_uncached;
    }

    fn to_settings(&self) -> Vec<Setting> {
        let mut settings = match &self.ttl {
            _ if self.keep_uncached => return vec![Setting::new("mode", "off", "`beresp.uncacheable`")],
            Some(VclTime::None) => return vec![Setting::new("mode", "off", "`beresp.ttl` is not positive")],
            Some(VclTime::Unread) => vec![
                Setting::new("mode", "observe", "`beresp.ttl` can't be read"),
                Setting::new("ttl", "upstream", "the response's own lifetime"),
            ],
            Some(VclTime::Positive(ttl)) => vec![
                Setting::new("ttl", ttl, "`beresp.ttl`"),
                Setting::new("override", "[lifetime]", "VCL sets it whatever the response says"),
            ],
            None => vec![Setting::new("ttl", "upstream", "the response's own lifetime")],
        };
        if let Some(VclTime::Positive(grace)) = &self.grace {
            settings.push(Setting::new("stale_while_revalidate", grace, "`beresp.grace`"));
        }
        settings
    }
}

/// The header fields of the key. Other parts become questions.
fn read_key(draft: &mut Draft, headers: &mut Vec<String>, block: &[Statement]) {
    const IN_EVERY_KEY: [&str; 3] = ["req.url", "req.http.host", "server.ip"];
    for statement in block {
        read_key(draft, headers, &statement.block);
        let Some((_, argument)) = statement.text.split_once("hash_data(") else { continue };
        let argument = argument.trim_end_matches(')').trim().to_ascii_lowercase();
        let name = argument.strip_prefix("req.http.").filter(|name| {
            let is_token = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            is_token && !["host", "cookie", "authorization"].contains(name)
        });
        match name {
            Some(name) => headers.push(name.to_owned()),
            None if IN_EVERY_KEY.contains(&argument.as_str()) => {}
            None => ask(
                draft,
                format!("{}: `headers`, `cookies` and `per` of a route make its key.", statement.about()),
            ),
        }
    }
}

/// The requests that `vcl_recv` passes or refuses, and its changes to requests.
fn add_recv(draft: &mut Draft, block: &[Statement]) {
    add_passes(draft, &mut Vec::new(), block);
    add_questions(draft, block, "unset req.http.Cookie", "`shared: true` gives all callers one response");
    add_questions(
        draft,
        block,
        "unset req.http.Authorization",
        "`shared: true` gives all callers one response",
    );
    add_questions(draft, block, "ban(", "`purges` of a route purges by tag, and `POST /purge` by prefix");
}

/// Excludes what is passed or refused. `conditions` are those around the block.
fn add_passes<'s>(draft: &mut Draft, conditions: &mut Vec<&'s Statement>, block: &'s [Statement]) {
    for (at, statement) in block.iter().enumerate() {
        let action = statement.text.replace(' ', "");
        let is_refusal = action.starts_with("return(synth(") || action.starts_with("error");
        if is_refusal || action.starts_with("return(pass)") || action.starts_with("return(pipe)") {
            add_pass(draft, conditions, statement, is_refusal);
        }
        // An `else` depends on the conditions before it.
        let before = conditions.len();
        if statement.text == "else" {
            let chain = block[..at].iter().rev();
            let first = chain.clone().position(|earlier| earlier.text.starts_with("if"));
            conditions.extend(chain.take(first.map_or(0, |first| first + 1)));
        }
        conditions.push(statement);
        add_passes(draft, conditions, &statement.block);
        conditions.truncate(before);
    }
}

fn add_pass(draft: &mut Draft, conditions: &[&Statement], action: &Statement, is_refusal: bool) {
    let about = conditions.last().map_or_else(|| action.about(), |condition| condition.about());
    let is_else = conditions.last().is_some_and(|condition| condition.text == "else");
    let has = |part: &str| conditions.iter().any(|condition| condition.text.contains(part));
    let why = format!("`{}`", action.text);
    if is_refusal {
        ask(draft, format!("{about} refuses (`{}`). larder does not; who may read it?", action.text));
    }
    let path = conditions.iter().rev().find_map(|condition| condition_path(&condition.text, exact_pattern));
    match path.filter(|_| !is_else) {
        Some(path) => exclude(draft, Some(path), &about, &why),
        None if has("req.url") => exclude(draft, None, &about, &why),
        None if conditions.is_empty() || is_refusal && has("client.ip") && !has("req.method") => {
            exclude(draft, Some(CATCH_ALL.to_owned()), &about, &why);
        }
        None if is_refusal => {}
        None => ask(
            draft,
            format!(
                "{about} passes. larder passes writes and requests with credentials by itself; is more needed?"
            ),
        ),
    }
}

fn add_questions(draft: &mut Draft, block: &[Statement], part: &str, instead: &str) {
    for statement in block {
        if statement.text.contains(part) {
            ask(draft, format!("{}: {instead}.", statement.about()));
        }
        add_questions(draft, &statement.block, part, instead);
    }
}
