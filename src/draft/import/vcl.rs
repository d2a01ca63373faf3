//! VCL: the first backend, and `beresp.ttl` and `beresp.grace` under a condition on the URL.

use super::region::{PathSet, Region};
use super::vcl_passes::add_passes;
use super::vcl_text::{Statement, parse};
use super::{DraftRoute, Import, ask, duration, duration_seconds, push_route};
use crate::draft::{Setting, scalar, sequence};

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

/// A lifetime that is set for some paths.
struct PathLifetime {
    paths: PathSet,
    about: String,
    set: SetLifetime,
    /// The number of its chain of `if` and `else`. The later of two chains counts, and the first branch of one chain.
    chain: usize,
    branch: usize,
}

pub(super) fn draft(text: &str) -> Result<Import, String> {
    let statements = parse(text)?;
    if !text.contains("vcl ") && !statements.iter().any(|statement| statement.text.starts_with("sub ")) {
        return Err("there is neither `vcl 4.1;` nor a `sub`; is it VCL?".into());
    }
    let mut draft = Import::default();
    add_backends(&mut draft, &statements);
    let mut lifetimes = Lifetimes::default();
    let mut key = VclKey::default();
    for sub in &statements {
        let Some(name) = sub.text.strip_prefix("sub ").map(str::trim) else {
            ask_for_declaration(&mut draft, sub);
            continue;
        };
        match name {
            "vcl_backend_response" | "vcl_fetch" => lifetimes.read(&mut draft, &mut Vec::new(), &sub.block),
            "vcl_hash" => key.read(&mut draft, &sub.block),
            "vcl_recv" | "vcl_hit" | "vcl_miss" | "vcl_backend_fetch" => {}
            _ if name.starts_with("vcl_") => {
                ask(&mut draft, format!("{}: what it does has no counterpart.", sub.about()));
                continue;
            }
            _ => {
                ask(&mut draft, format!("{}: where it is called, its conditions hold too.", sub.about()));
                key.read(&mut draft, &sub.block);
            }
        }
        add_passes(&mut draft, &mut Vec::new(), &sub.block);
        key.read_changes(&sub.block);
        add_questions(&mut draft, &sub.block);
    }
    lifetimes.add_routes(&mut draft);
    key.add_settings(&mut draft);
    match draft.settings.is_empty() && draft.routes.is_empty() && draft.questions.is_empty() {
        true => {
            Err("there is no `backend`, and no `sub` with anything about caching; is it the right file?"
                .into())
        }
        false => Ok(draft),
    }
}

fn add_backends(draft: &mut Import, statements: &[Statement]) {
    let mut backends = statements.iter().filter(|statement| statement.text.starts_with("backend "));
    let first = backends.next();
    if let Some(address) = first.and_then(backend_address) {
        draft.settings.push(Setting::new("upstream", scalar(&address), "the first `backend`"));
    }
    for line in first.into_iter().flat_map(|backend| &backend.block) {
        if ![".host", ".port"].iter().any(|known| line.text.starts_with(known)) {
            ask(draft, format!("{}: `upstream: {{url: …}}` has timeouts and retries.", line.about()));
        }
    }
    for other in backends {
        ask(
            draft,
            format!(
                "{}: a second upstream. If both serve the same, write `upstream: [URL, URL]`; larder has one API.",
                other.about()
            ),
        );
    }
}

/// `acl`, `probe`, `import` and what else is no `sub`.
fn ask_for_declaration(draft: &mut Import, statement: &Statement) {
    let word = statement.text.split(' ').next().unwrap_or_default();
    if !["backend", "vcl", "import", ""].contains(&word) {
        ask(draft, format!("{} has no counterpart that can be read from here.", statement.about()));
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

/// The lifetimes of a file in its order.
#[derive(Default)]
struct Lifetimes {
    all: Vec<PathLifetime>,
    chains: usize,
}

impl Lifetimes {
    fn read<'s>(&mut self, draft: &mut Import, conditions: &mut Vec<&'s Statement>, block: &'s [Statement]) {
        let (mut chain, mut branch) = (0, 0);
        for statement in block {
            if !statement.is_alternative() {
                self.chains += 1;
                (chain, branch) = (self.chains, 0);
            }
            branch += 1;
            if statement.is_conditional() {
                conditions.push(statement);
                self.read(draft, conditions, &statement.block);
                self.add(draft, conditions, &statement.block, (chain, branch));
                conditions.pop();
            } else if conditions.is_empty() {
                self.add(draft, conditions, std::slice::from_ref(statement), (chain, branch));
            }
        }
    }

    /// Adds what is set in a block, but for the blocks in it.
    fn add(
        &mut self,
        draft: &mut Import,
        conditions: &[&Statement],
        block: &[Statement],
        (chain, branch): (usize, usize),
    ) {
        let set = read_lifetime(draft, block);
        if set.ttl.is_none() && set.grace.is_none() && !set.keep_uncached {
            return;
        }
        let about = conditions
            .last()
            .copied()
            .or(block.first())
            .map(|statement| statement.about())
            .unwrap_or_default();
        let paths = match conditions {
            [] => Some(PathSet::everything()),
            [only] if only.text != "else" => only.only_paths(),
            _ => None,
        };
        let Some(paths) = paths else {
            ask(draft, format!("{about} sets a lifetime. Which paths are these?"));
            if conditions.iter().any(|condition| is_about_response(condition)) {
                return;
            }
            let named = conditions.iter().rev().filter(|condition| condition.text != "else");
            let sets = named.filter_map(|condition| condition.paths()).next();
            for mut paths in sets.unwrap_or_else(|| vec![PathSet::unknown()]) {
                paths.route = None;
                self.all.push(PathLifetime { paths, about: about.clone(), set: set.clone(), chain, branch });
            }
            return;
        };
        match self.all.iter_mut().find(|known| paths.route.is_some() && known.paths.route == paths.route) {
            // The first branch of a chain counts.
            Some(known) if known.chain == chain => {}
            Some(known) => {
                known.set.merge(set);
                (known.chain, known.branch) = (chain, branch);
            }
            None => {
                if paths.route.is_none() {
                    ask(draft, format!("{about} sets a lifetime. Which paths are these?"));
                }
                self.all.push(PathLifetime { paths, about, set, chain, branch });
            }
        }
    }

    fn add_routes(self, draft: &mut Import) {
        for lifetime in &self.all {
            let PathLifetime { paths, about, set, .. } = lifetime;
            let mut settings = set.to_settings();
            if let Some(path) = &paths.route {
                let stronger = self.all.iter().find(|other| {
                    other.is_stronger_than(lifetime)
                        && other.paths.may_contain(path)
                        && set.caches_more(&other.set)
                });
                let is_off = settings.iter().any(|setting| setting.key == "mode");
                if let Some(stronger) = stronger.filter(|_| !is_off) {
                    let why = format!("{} counts for some of its paths", stronger.about);
                    settings.push(Setting::new("mode", "observe", why));
                }
                let route =
                    DraftRoute { path: path.clone(), about: vec![about.clone()], settings: settings.clone() };
                push_route(draft, route);
            }
            let (paths, about) = (paths.clone(), about.clone());
            draft.regions.push(Region { paths, settings: Some(settings), about, is_stronger: false });
        }
    }
}

impl PathLifetime {
    fn is_stronger_than(&self, other: &Self) -> bool {
        self.chain > other.chain || self.chain == other.chain && self.branch < other.branch
    }
}

/// Whether a condition asks for what larder judges by itself: the status, `Set-Cookie` and `Cache-Control`.
fn is_about_response(condition: &Statement) -> bool {
    const JUDGED: [&str; 5] =
        ["status", "http.set-cookie", "http.cache-control", "http.expires", "http.pragma"];
    let text = condition.text.to_ascii_lowercase();
    let is_judged =
        |field: &str| JUDGED.iter().any(|known| field.starts_with(known)) || field.starts_with("ttl <");
    text.contains("beresp.") && !text.contains("req.") && text.split("beresp.").skip(1).all(is_judged)
}

fn read_lifetime(draft: &mut Import, statements: &[Statement]) -> SetLifetime {
    let mut set = SetLifetime::default();
    for statement in statements {
        let Some((name, value)) = statement.text.strip_prefix("set ").and_then(|text| text.split_once('='))
        else {
            continue;
        };
        let time = |draft: &mut Import| match duration(value.trim()) {
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

    /// Whether what is stored under this may be stored under `other` for less time, or not at all.
    fn caches_more(&self, other: &Self) -> bool {
        let seconds = |set: &Self| match &set.ttl {
            _ if set.keep_uncached => Some(0.0),
            Some(VclTime::Positive(ttl)) => duration_seconds(ttl),
            Some(VclTime::None) => Some(0.0),
            Some(VclTime::Unread) | None => None,
        };
        match (seconds(self), seconds(other)) {
            (Some(mine), Some(others)) => mine > others,
            (_, others) => others.is_some() || other.ttl == Some(VclTime::Unread),
        }
    }
}

/// The key of `vcl_hash`, and what `vcl_recv` makes of the fields in it.
#[derive(Default)]
struct VclKey {
    headers: Vec<String>,
    /// Fields that VCL computes, with the statement.
    changed: Vec<(String, String)>,
    /// A part that no key of a route names.
    unread: Option<String>,
}

impl VclKey {
    /// The header fields of the key. Other parts become questions.
    fn read(&mut self, draft: &mut Import, block: &[Statement]) {
        const IN_EVERY_KEY: [&str; 4] = ["req.url", "bereq.url", "req.http.host", "server.ip"];
        for statement in block {
            self.read(draft, &statement.block);
            let Some((_, argument)) = statement.text.split_once("hash_data(") else { continue };
            let argument = argument.trim_end_matches(')').trim().to_ascii_lowercase();
            let name = argument.strip_prefix("req.http.").filter(|name| {
                let is_token = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
                is_token && !["host", "cookie", "authorization"].contains(name)
            });
            match name {
                Some(name) => self.headers.push(name.to_owned()),
                None if IN_EVERY_KEY.contains(&argument.as_str()) => {}
                None => {
                    let question = "`headers`, `cookies` and `per` of a route make its key";
                    ask(draft, format!("{}: {question}.", statement.about()));
                    self.unread.get_or_insert_with(|| statement.about());
                }
            }
        }
    }

    fn read_changes(&mut self, block: &[Statement]) {
        for statement in block {
            self.read_changes(&statement.block);
            let change = statement.text.strip_prefix("set req.http.");
            let name = change.and_then(|change| change.split([' ', '=']).next()).unwrap_or_default();
            if !name.is_empty() {
                self.changed.push((name.to_ascii_lowercase(), statement.about()));
            }
        }
    }

    fn add_settings(mut self, draft: &mut Import) {
        self.headers.sort();
        self.headers.dedup();
        let mut settings = Vec::new();
        if !self.headers.is_empty() {
            let names = sequence(self.headers.iter().map(String::as_str));
            settings.push(Setting::new("headers", names, "`hash_data`"));
        }
        let computed = self.changed.iter().find(|(name, _)| self.headers.contains(name));
        if let Some((name, about)) = computed {
            ask(
                draft,
                format!(
                    "{about} computes `{name}`, which the key has. Name the fields that it is made of in `headers`."
                ),
            );
            self.unread.get_or_insert_with(|| about.clone());
        }
        if let Some(about) = self.unread {
            settings.push(Setting::new("mode", "observe", format!("{about} is in the key")));
        }
        let regions = draft.regions.iter_mut().filter_map(|region| region.settings.as_mut());
        regions
            .for_each(|of_region| of_region.extend(settings.iter().filter(|it| it.key != "mode").cloned()));
        let is_cached = |route: &&mut DraftRoute| !super::is_off(route);
        draft
            .routes
            .iter_mut()
            .filter(is_cached)
            .for_each(|route| route.settings.extend(settings.iter().cloned()));
    }
}

/// Asks for statements that nothing else reads.
fn add_questions(draft: &mut Import, block: &[Statement]) {
    for statement in block {
        add_questions(draft, &statement.block);
        let text = statement.text.as_str();
        let is_read = [
            "set beresp.ttl",
            "set beresp.grace",
            "set beresp.uncacheable",
            "hash_data(",
            "return",
            "error",
            "call ",
        ]
        .iter()
        .any(|known| text.starts_with(known));
        let question = match text {
            _ if is_read || statement.is_conditional() || text.is_empty() => continue,
            text if removes_credential(text) => {
                ": larder sends the field to the API, so a miss is answered for the caller who sent it. Write \
                 `shared: true` on a route only if the API answers alike with and without the field; else let the API \
                 ignore it there."
            }
            text if text.contains("ban(") || text.contains("purge(") => {
                ": `purges` of a route purges by tag, and `POST /purge` by prefix."
            }
            text if text.contains("do_esi") => ": larder does not assemble ESI; its parts are not fetched.",
            text if text.starts_with("set req.url") => {
                ": larder sends the path on as it is; `query` of a route leaves parameters out."
            }
            _ => " has no counterpart that can be read from here.",
        };
        ask(draft, format!("{}{question}", statement.about()));
    }
}

/// Whether a statement takes the caller out of the request before the backend sees it.
fn removes_credential(statement: &str) -> bool {
    let statement = statement.to_ascii_lowercase();
    let field = ["unset ", "remove ", "set "].iter().find_map(|verb| statement.strip_prefix(verb));
    let field = field.and_then(|field| field.split([' ', '=']).next()).unwrap_or_default();
    let request = ["req.http.", "bereq.http."].iter().find_map(|prefix| field.strip_prefix(prefix));
    request.is_some_and(|name| ["cookie", "authorization"].contains(&name))
}
