//! Drafts from the configurations of other caches: what maps becomes keys, the rest questions with their line.
//!
//! These readers know the words that caching needs, not the whole languages.

mod nginx;
mod nginx_text;
mod nginx_upstream;
mod region;
mod souin;
mod vcl;
mod vcl_passes;
mod vcl_text;

use std::ops::{Deref, DerefMut};

use region::{Region, caches_more, exclude, restrain};
use serde_json::Value;

use super::{DEFAULT_UPSTREAM, Draft, DraftRoute, Setting, scalar};

/// Most statements of a configuration.
const MAX_STATEMENTS: usize = 50_000;

/// Deepest nesting of blocks.
const MAX_DEPTH: usize = 32;

/// A draft, and what the other cache does with paths that no route says exactly.
#[derive(Default)]
struct Import {
    draft: Draft,
    regions: Vec<Region>,
}

impl Deref for Import {
    type Target = Draft;

    fn deref(&self) -> &Draft {
        &self.draft
    }
}

impl DerefMut for Import {
    fn deref_mut(&mut self) -> &mut Draft {
        &mut self.draft
    }
}

/// # Errors
/// The text is no configuration of nginx.
pub(crate) fn from_nginx(text: &str, source: &str) -> Result<Draft, String> {
    Ok(finish(nginx::draft(text)?, source))
}

/// # Errors
/// The text is no VCL.
pub(crate) fn from_vcl(text: &str, source: &str) -> Result<Draft, String> {
    Ok(finish(vcl::draft(text)?, source))
}

/// # Errors
/// The document is no configuration of Souin.
pub(crate) fn from_souin(root: &Value, source: &str) -> Result<Draft, String> {
    Ok(finish(souin::draft(root)?, source))
}

/// Adds the head of the file, and an upstream if there is none. Routes of one path become one.
fn finish(mut draft: Import, source: &str) -> Draft {
    draft.about.push(format!(
        "Imported by `larder import` from {source}. Nothing is cached while `defaults` has `mode: observe`. \
         What does not map stands at the end."
    ));
    if draft.settings.iter().all(|setting| setting.key != "upstream") {
        draft.settings.push(Setting::new("upstream", scalar(DEFAULT_UPSTREAM), "not found: a guess"));
    }
    draft.settings.push(Setting::new("defaults", "{mode: observe}", "everything passes; remove it to cache"));
    check_upstream(&mut draft);
    let mut routes: Vec<DraftRoute> = Vec::new();
    for route in std::mem::take(&mut draft.routes) {
        match routes.iter_mut().find(|known| known.path == route.path) {
            // A route that caches nothing wins.
            Some(known) if is_off(&route) || is_off(known) => {
                known.about.extend(route.about.iter().cloned());
                known.settings = if is_off(known) { known.settings.clone() } else { route.settings };
            }
            Some(known) => {
                ask(&mut draft, format!("{}: it occurs twice; the first one counts.", route.path));
                if caches_more(&known.settings, &route.settings) {
                    known.settings.push(Setting::new("mode", "observe", "the second one caches less"));
                }
            }
            None => routes.push(route),
        }
    }
    for route in &mut routes {
        let settings = std::mem::take(&mut route.settings);
        for setting in settings {
            route.settings.retain(|known| known.key != setting.key);
            route.settings.push(setting);
        }
    }
    restrain(&mut routes, &draft.regions);
    draft.draft.routes = routes;
    draft.draft
}

fn is_off(route: &DraftRoute) -> bool {
    route.settings.iter().any(|setting| setting.key == "mode" && setting.value == "off")
}

/// Replaces an upstream that no configuration takes, and asks for it.
fn check_upstream(draft: &mut Import) {
    let Some(upstream) = draft.settings.iter().position(|setting| setting.key == "upstream") else { return };
    let alone = Draft { settings: vec![draft.settings[upstream].clone()], ..Draft::default() };
    // The name of a variable is no host.
    let has_variable = draft.settings[upstream].value.contains('$');
    if has_variable || alone.write().is_err() {
        let guess = Setting::new("upstream", scalar(DEFAULT_UPSTREAM), "not found: a guess");
        let unread = std::mem::replace(&mut draft.settings[upstream], guess);
        ask(draft, format!("The upstream {} can't be read. Which address has the API?", unread.value));
    }
}

/// Adds a question once.
fn ask(draft: &mut Import, question: String) {
    if draft.questions.len() < MAX_QUESTIONS && !draft.questions.contains(&question) {
        draft.questions.push(question);
        if draft.questions.len() == MAX_QUESTIONS {
            draft.questions.push("There are more questions than are written here.".into());
        }
    }
}

/// The path of every request.
const CATCH_ALL: &str = "/{*rest?}";

/// Most questions of a draft.
const MAX_QUESTIONS: usize = 300;

/// The path of a route for a prefix, or for the one path.
fn route_path(path: &str, is_prefix: bool) -> String {
    match path.trim_end_matches('/') {
        trimmed if is_prefix => format!("{trimmed}/{{*rest?}}"),
        "" => "/".into(),
        _ => path.into(),
    }
}

/// The path of a regular expression that only names a beginning (`^/api`) or a whole path (`^/api$`).
fn plain_pattern(pattern: &str) -> Option<String> {
    let inner = pattern.strip_prefix('^')?;
    let (inner, is_whole) = match inner.strip_suffix('$') {
        Some(inner) => (inner, true),
        None => (inner.strip_suffix(".*").or_else(|| inner.strip_suffix(".+")).unwrap_or(inner), false),
    };
    let path = inner.replace("\\/", "/").replace("\\.", ".").replace("\\-", "-");
    let is_plain = path.starts_with('/')
        && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_-.".contains(&byte))
        && (!inner.contains('.') || inner.contains("\\."))
        // The beginning of a name, as in `^/first-`.
        && (is_whole || !path.ends_with(['-', '_', '.']));
    is_plain.then(|| route_path(&path, !is_whole))
}

/// A route that checks as a path; the others become questions.
fn push_route(draft: &mut Import, route: DraftRoute) {
    match crate::policy::path::PathTemplate::parse_alternatives(&route.path) {
        Ok(_) => draft.routes.push(route),
        Err(error) => draft.questions.push(format!("{}: {error}", route.path)),
    }
}

/// A duration of nginx, VCL or Go as larder writes it: `10m`, `1h30m`, `90` seconds.
fn duration(text: &str) -> Option<String> {
    const MAX_SECONDS: f64 = 31_536_000.0;
    let millis = (duration_seconds(text)?.min(MAX_SECONDS) * 1e3).round() as u64;
    Some(match millis {
        millis if millis % 3_600_000 == 0 && millis > 0 => format!("{}h", millis / 3_600_000),
        millis if millis % 60_000 == 0 && millis > 0 => format!("{}m", millis / 60_000),
        millis if millis % 1_000 == 0 => format!("{}s", millis / 1_000),
        millis => format!("{millis}ms"),
    })
}

fn duration_seconds(text: &str) -> Option<f64> {
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() || text.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(unit_at);
        let next_at = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(next_at);
        let number: f64 = number.parse().ok().filter(|number: &f64| number.is_finite())?;
        seconds += number * unit_seconds(unit)?;
        rest = after;
    }
    Some(seconds)
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        "w" => 604_800.0,
        "M" => 2_592_000.0,
        "y" => 31_536_000.0,
        _ => return None,
    })
}

#[cfg(test)]
mod caution_tests;
#[cfg(test)]
mod tests;
