//! A draft of `proxy.yaml`: routes with the reason for every line, written out as YAML with comments.
//!
//! A draft comes from evidence about an API. Its text passes `larder check` and `larder lint`, or is not given out.

pub(crate) mod access_log;
pub(crate) mod import;
pub(crate) mod observed;
pub(crate) mod openapi;
pub(crate) mod probed;
mod yaml_text;

use crate::config::{Config, ConfigErrors, Finding, SettingOverrides};
pub(crate) use yaml_text::{flow_item, scalar, sequence};

/// A configuration to propose.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    /// Paragraphs at the head of the file.
    pub about: Vec<String>,
    /// Keys of the top level.
    pub settings: Vec<Setting>,
    pub routes: Vec<DraftRoute>,
    /// Paragraphs at the end of the file: questions that only a person can answer.
    pub questions: Vec<String>,
}

/// A route to propose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DraftRoute {
    pub path: String,
    /// Paragraphs above the route.
    pub about: Vec<String>,
    pub settings: Vec<Setting>,
}

/// A key with its value as YAML, and the reason for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub key: &'static str,
    pub value: String,
    pub why: String,
}

impl Setting {
    pub(crate) fn new(key: &'static str, value: impl Into<String>, why: impl Into<String>) -> Self {
        Self { key, value: value.into(), why: why.into() }
    }
}

impl DraftRoute {
    /// Leaves what its writes purge.
    fn never_cache(&mut self, why: &str) {
        self.settings.retain(|setting| setting.key == "purges");
        self.settings.insert(0, Setting::new("ttl", "never", why));
    }

    /// Whether it caches a path by a parameter.
    fn caches(&self, path: &str) -> bool {
        let has_lifetime =
            self.settings.iter().any(|setting| setting.key == "ttl" && setting.value != "never");
        let (own, other) = (self.path.split('/'), path.split('/'));
        let is_parameter = |segment: &str| segment.starts_with('{') && segment.ends_with('}');
        let is_matched = |(own, other): (&str, &str)| own == other || is_parameter(own);
        has_lifetime && own.clone().count() == other.clone().count() && own.zip(other).all(is_matched)
    }
}

/// The API's address where nothing names it.
pub(crate) const DEFAULT_UPSTREAM: &str = "http://127.0.0.1:3000";

/// The finding of lint about a route that can't cache.
const NEVER_CACHED: &str = "never-cached";

/// The start of the line of a route.
const ROUTE_START: &str = "  - path: ";

/// Columns of a line with its comment.
const WIDTH: usize = 118;

impl Draft {
    /// Writes the file, and checks and lints it. A route of which lint finds that none of its GETs is cached says so.
    ///
    /// # Errors
    /// The text is not a valid configuration.
    pub(crate) fn write(&self) -> Result<(String, Vec<Finding>), ConfigErrors> {
        let (text, findings) = self.lint()?;
        let mut reachable = self.clone();
        let never_cached = findings.iter().filter(|finding| finding.diagnostic.name == NEVER_CACHED);
        for Finding { diagnostic, .. } in never_cached {
            let lines = diagnostic.location.line().map_or(0, |line| line - 1);
            let before = text.lines().take(lines).filter(|line| line.starts_with(ROUTE_START)).count();
            let why =
                diagnostic.message.strip_prefix("no GET is cached here: ").unwrap_or(&diagnostic.message);
            if let Some(route) = reachable.routes.get_mut(before) {
                reachable.questions.push(format!("GET {}: not cached: {why}.", route.path));
                route.never_cache(why);
            }
        }
        if reachable.questions.len() == self.questions.len() {
            Ok((text, findings))
        } else {
            reachable.lint()
        }
    }

    fn lint(&self) -> Result<(String, Vec<Finding>), ConfigErrors> {
        let text = self.render();
        let environment = |name: &str| std::env::var(name).ok();
        let findings = Config::lint(&text, "the draft", &environment, &SettingOverrides::default())?;
        Ok((text, findings))
    }

    /// Adds a route for a path that is not to be cached, if another route would cache it: the most specific one counts.
    pub(in crate::draft) fn leave_uncached(&mut self, path: &str) {
        let has_own = self.routes.iter().any(|route| route.path == path);
        let Some(at) = self.routes.iter().position(|route| route.caches(path)).filter(|_| !has_own) else {
            return;
        };
        let never = Setting::new("ttl", "never", format!("`{}` would cache it", self.routes[at].path));
        self.routes
            .insert(at, DraftRoute { path: path.to_owned(), about: Vec::new(), settings: vec![never] });
    }

    fn render(&self) -> String {
        let mut out = String::new();
        for paragraph in &self.about {
            comment(&mut out, "", paragraph);
        }
        for setting in &self.settings {
            setting_line(&mut out, ("", ""), setting);
        }
        if !self.routes.is_empty() {
            out.push_str("routes:\n");
        }
        for route in &self.routes {
            for paragraph in &route.about {
                comment(&mut out, "  ", paragraph);
            }
            let path = Setting::new("path", scalar(&route.path), "");
            setting_line(&mut out, ("  ", "- "), &path);
            for setting in &route.settings {
                setting_line(&mut out, ("    ", ""), setting);
            }
        }
        if !self.questions.is_empty() {
            out.push('\n');
        }
        for question in &self.questions {
            comment(&mut out, "", &format!("? {question}"));
        }
        out
    }
}

/// Writes a key with its value; the reason stands behind it if the line is wide enough, else above it.
fn setting_line(out: &mut String, (indent, dash): (&str, &str), setting: &Setting) {
    let line = format!("{indent}{dash}{}: {}", setting.key, setting.value);
    let why = yaml_text::one_line(&setting.why);
    match line.chars().count() + 3 + why.chars().count() {
        _ if why.is_empty() => out.push_str(&line),
        ..=WIDTH => out.push_str(&format!("{line}  # {why}")),
        _ => {
            comment(out, indent, &why);
            out.push_str(&line);
        }
    }
    out.push('\n');
}

/// Writes a paragraph as lines of comment.
fn comment(out: &mut String, indent: &str, paragraph: &str) {
    let mut line = format!("{indent}#");
    for word in yaml_text::one_line(paragraph).split(' ') {
        if line.chars().count() + 1 + word.chars().count() > WIDTH && line.len() > indent.len() + 1 {
            out.push_str(&line);
            out.push('\n');
            line = format!("{indent}#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

#[cfg(test)]
mod tests;
