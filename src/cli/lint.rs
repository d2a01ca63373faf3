//! `larder lint`: reports valid but suspicious settings. Exits with 1 if there are findings.

use std::io::stderr;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::output::{OutputFormat, ReportEntry, Severity, colorize, render, render_errors};
use super::{USAGE, fail, print};
use crate::config::{self, Config, FindingName};

/// Findings of the kinds in `allowed` are left out.
pub(super) fn run(path: &Path, allowed: &[String], format: OutputFormat) -> ExitCode {
    let names: Vec<&str> = FindingName::ALL.iter().map(|name| name.as_str()).collect();
    if let Some(unknown) = allowed.iter().find(|name| !names.contains(&name.as_str())) {
        let names = names.join(", ");
        return fail(USAGE, format_args!("unknown finding `{unknown}`; expected one of {names}"));
    }
    let findings = match Config::lint_file(path) {
        Ok(findings) => findings,
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
    let out = render(format, &reported, &json!({"allowed": allowed.len()})).unwrap_or_else(|| {
        for finding in &found {
            eprintln!("{}", colorize(&finding.text, &stderr()));
        }
        let but = if allowed.is_empty() { String::new() } else { format!(", and {} allowed", allowed.len()) };
        match found.len() {
            0 => format!("{file}: nothing found{but}\n"),
            1 => format!("{file}: 1 finding{but}\n"),
            many => format!("{file}: {many} findings{but}\n"),
        }
    });
    match print(&out) {
        Ok(()) if found.is_empty() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(failure) => failure,
    }
}
