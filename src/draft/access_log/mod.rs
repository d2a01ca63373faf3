//! A draft from an access log: which paths are read and written how often, and how many hits a lifetime gives at most.
//!
//! A log says nothing of contents and callers, so both become questions. Memory is bounded, whatever the log contains.

mod line;
mod templates;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, Read as _};

use self::line::LoggedRequest;
use self::templates::Templates;
use super::openapi::{PathItem, ReadOperation, RouteSource, WriteOperation, add_routes};
use super::{Draft, Setting, scalar};

/// Most lines that are read.
const MAX_LINES: usize = 5_000_000;

/// Most templates, and most different requests, that are followed.
const MAX_TEMPLATES: usize = 2_000;
const MAX_REQUESTS: usize = 200_000;

/// Most routes of a draft, and fewest reads of one.
const MAX_ROUTES: usize = 100;
const MIN_READS: u64 = 2;

/// Passes over the log to find out which segments are values.
const MAX_PASSES: usize = 4;

const MAX_QUERY_NAMES: usize = 12;

/// Lifetimes whose hits are estimated, in seconds.
const LIFETIMES: [(u64, &str); 4] = [(10, "10s"), (60, "1m"), (300, "5m"), (3_600, "1h")];

/// Requests of one template.
#[derive(Debug, Default)]
struct TemplateStats {
    reads: u64,
    hits: [u64; LIFETIMES.len()],
    writes: BTreeMap<String, u64>,
    query_names: BTreeSet<String>,
}

/// Drafts a configuration. `open` starts at the first line of the log each time.
///
/// # Errors
/// The log can't be read, or has no requests.
pub(crate) fn draft<R: BufRead>(
    open: impl Fn() -> io::Result<R>,
    source: &str,
    upstream: &str,
) -> Result<Draft, String> {
    let unreadable = |error: io::Error| format!("{source} can't be read: {error}");
    let mut templates = Templates::default();
    for _ in 0..MAX_PASSES {
        let mut has_changed = false;
        let learn = |request: LoggedRequest| has_changed |= templates.learn(&request.path);
        each_request(open().map_err(unreadable)?, learn).map_err(unreadable)?;
        if !has_changed {
            break;
        }
    }
    let mut traffic = Traffic::default();
    let read = each_request(open().map_err(unreadable)?, |request| traffic.add(&templates, &request));
    let lines = read.map_err(unreadable)?;
    if traffic.stats.is_empty() {
        return Err(format!(
            "{source} has no requests that succeeded in its {lines} lines; expected the combined format, or JSON with \
             `method`, `path` and `status` (or `request` and `status`), or as Caddy and Traefik write it"
        ));
    }
    Ok(traffic.into_draft(source, upstream))
}

/// Reads the requests that count as reads or writes; returns the number of lines.
fn each_request<R: BufRead>(mut log: R, mut add: impl FnMut(LoggedRequest)) -> io::Result<usize> {
    /// Longer lines are read in parts, none of which is a request.
    const MAX_READ: u64 = 128 * 1024;
    let mut line = Vec::new();
    for lines in 0..MAX_LINES {
        line.clear();
        if log.by_ref().take(MAX_READ).read_until(b'\n', &mut line)? == 0 {
            return Ok(lines);
        }
        let request = LoggedRequest::parse(String::from_utf8_lossy(&line).trim());
        if let Some(request) = request.filter(|request| request.is_read() || request.is_write()) {
            add(request);
        }
    }
    Ok(MAX_LINES)
}

#[derive(Default)]
struct Traffic {
    stats: HashMap<String, TemplateStats>,
    /// When a request was last fetched, for each lifetime, in seconds.
    fetched: HashMap<u64, [u64; LIFETIMES.len()]>,
}

impl Traffic {
    fn add(&mut self, templates: &Templates, request: &LoggedRequest) {
        let template = templates.apply(&request.path);
        if self.stats.len() >= MAX_TEMPLATES && !self.stats.contains_key(&template) {
            return;
        }
        let stats = self.stats.entry(template).or_default();
        match request.is_read() {
            true => {
                stats.reads += 1;
                let names = request.query.iter().flat_map(|query| query.split('&'));
                for name in names.filter_map(|pair| pair.split('=').next()).filter(|name| !name.is_empty()) {
                    if stats.query_names.len() < MAX_QUERY_NAMES {
                        stats.query_names.insert(super::yaml_text::one_line(name));
                    }
                }
                let mut hasher = DefaultHasher::new();
                (&request.path, &request.query).hash(&mut hasher);
                let (key, now) = (hasher.finish(), request.at.map(|at| at.as_secs()));
                count_hits(&mut self.fetched, stats, key, now);
            }
            false => *stats.writes.entry(request.method.clone()).or_default() += 1,
        }
    }

    fn into_draft(self, source: &str, upstream: &str) -> Draft {
        let mut draft = Draft {
            about: vec![format!(
                "Suggested by `larder suggest` from {source}. Nothing is cached while `defaults` has `mode: observe`."
            )],
            settings: vec![
                Setting::new("upstream", scalar(upstream), ""),
                Setting::new("defaults", "{mode: observe}", "everything passes; remove it to cache"),
            ],
            ..Draft::default()
        };
        let mut templates: Vec<_> = self.stats.into_iter().collect();
        templates.sort_by(|(one, a), (other, b)| b.reads.cmp(&a.reads).then_with(|| one.cmp(other)));
        let is_worth_it = |stats: &TemplateStats| stats.reads >= MIN_READS || !stats.writes.is_empty();
        templates.retain(|(_, stats)| is_worth_it(stats));
        templates.truncate(MAX_ROUTES);
        let mut items = Vec::new();
        for (template, stats) in templates {
            match stats.into_item(&template) {
                Ok(item) => items.push(item),
                Err(error) => {
                    draft.questions.push(format!("{template}: {error}. Write a route for it by hand?"))
                }
            }
        }
        add_routes(&mut draft, &items, RouteSource::Log);
        draft.questions.push(
            "A log does not tell callers apart. Which of these responses are the same for everyone? The others need `per`."
                .into(),
        );
        draft
    }
}

/// Counts a read as a hit for each lifetime within which the same was fetched.
fn count_hits(
    fetched: &mut HashMap<u64, [u64; LIFETIMES.len()]>,
    stats: &mut TemplateStats,
    key: u64,
    now: Option<u64>,
) {
    let Some(now) = now else { return };
    if fetched.len() >= MAX_REQUESTS && !fetched.contains_key(&key) {
        return;
    }
    let known = fetched.entry(key).or_insert([0; LIFETIMES.len()]);
    for ((last, (lifetime, _)), hits) in known.iter_mut().zip(LIFETIMES).zip(&mut stats.hits) {
        // A log is not quite in order.
        match *last != 0 && now.saturating_sub(*last) < lifetime {
            true => *hits += 1,
            false => *last = now,
        }
    }
}

impl TemplateStats {
    fn into_item(self, template: &str) -> Result<PathItem, String> {
        let writes = self.writes.iter().map(|(method, count)| WriteOperation {
            method: method.clone(),
            name: format!("{count} times"),
            partial_path: None,
        });
        let read = (self.reads >= MIN_READS).then(|| ReadOperation::unknown(self.describe_reads()));
        PathItem::from_template(template, read, writes.collect())
    }

    fn describe_reads(&self) -> String {
        let mut text = format!("{} times", self.reads);
        let share = |hits: u64| hits * 100 / self.reads.max(1);
        if self.hits.iter().any(|hits| *hits > 0) {
            let hits = self
                .hits
                .iter()
                .zip(LIFETIMES)
                .map(|(hits, (_, name))| format!("{} % at {name}", share(*hits)));
            text.push_str(&format!("; hits without writes: {}", hits.collect::<Vec<_>>().join(", ")));
        }
        if !self.query_names.is_empty() {
            let names: Vec<&str> = self.query_names.iter().map(String::as_str).collect();
            text.push_str(&format!("; parameters {}", names.join(", ")));
        }
        text
    }
}

#[cfg(test)]
mod tests;
