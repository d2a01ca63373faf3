//! `larder lint`: reports valid but suspicious settings, and who shares the responses of each route. Exits with 1 if there
//! are findings.

use std::io::stderr;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::output::{OutputFormat, ReportEntry, Severity, colorize, render, render_errors};
use super::sharing::describe_sharing;
use super::{USAGE, fail, print};
use crate::config::{self, Config, FindingName};

/// Findings of the kinds in `allowed` are left out.
pub(super) fn run(path: &Path, allowed: &[String], format: OutputFormat) -> ExitCode {
    let names: Vec<&str> = FindingName::ALL.iter().map(|name| name.as_str()).collect();
    if let Some(unknown) = allowed.iter().find(|name| !names.contains(&name.as_str())) {
        let names = names.join(", ");
        return fail(USAGE, format_args!("unknown finding `{unknown}`; expected one of {names}"));
    }
    let (config, findings) = match Config::lint_file(path) {
        Ok(read) => read,
        Err(errors) => {
            _ = print(&render_errors(format, &errors));
            return ExitCode::FAILURE;
        }
    };
    let is_allowed = |finding: &config::Finding| allowed.iter().any(|name| name == finding.diagnostic.name);
    let (allowed, found): (Vec<_>, Vec<_>) = findings.into_iter().partition(is_allowed);
    let file = path.display().to_string();
    let reported: Vec<_> = found
        .iter()
        .map(|finding| ReportEntry {
            severity: Severity::Warning,
            code: finding.diagnostic.name,
            file: &file,
            diagnostic: &finding.diagnostic,
        })
        .collect();
    let sharing: Vec<_> =
        config.routes.iter().map(|route| (route.path.as_str(), describe_sharing(route))).collect();
    let as_json = |(path, sharing): &(&str, String)| json!({"path": path, "sharing": sharing});
    let more = json!({"allowed": allowed.len(), "routes": sharing.iter().map(as_json).collect::<Vec<_>>()});
    let out = render(format, &reported, &more).unwrap_or_else(|| {
        for finding in &found {
            eprintln!("{}", colorize(&finding.text, &stderr()));
        }
        let but = if allowed.is_empty() { String::new() } else { format!(", and {} allowed", allowed.len()) };
        let width = sharing.iter().map(|(path, _)| path.chars().count()).max().unwrap_or(0).min(60);
        let lines = sharing.iter().map(|(path, sharing)| format!("  {path:width$}  {sharing}\n"));
        let count = match found.len() {
            0 => "nothing found".to_owned(),
            1 => "1 finding".to_owned(),
            many => format!("{many} findings"),
        };
        format!("{}{file}: {count}{but}\n", lines.collect::<String>())
    });
    match print(&out) {
        Ok(()) if found.is_empty() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(failure) => failure,
    }
}
