//! `larder lint`: what bites whoever uses a configuration that is not wrong. Exits with 1 if there is anything.

use std::path::Path;
use std::process::ExitCode;

use super::{USAGE, fail};
use crate::config::{Config, Finding};

/// What findings can be, besides what `larder check` says too.
const NAMES: [&str; 7] = [
    "advice",
    "never-cached",
    "no-effect",
    "tag-never-carried",
    "tag-never-purged",
    "tag-never-resolves",
    "unknown-credential",
];

/// `allowed`: names of findings that are meant so.
pub fn run(path: &Path, allowed: &[String]) -> ExitCode {
    if let Some(unknown) = allowed.iter().find(|name| !NAMES.contains(&name.as_str())) {
        return fail(USAGE, format_args!("`{unknown}` is no finding; there are {}", NAMES.join(", ")));
    }
    let findings = match Config::lint_file(path) {
        Ok(findings) => findings,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::FAILURE;
        }
    };
    let is_allowed = |finding: &Finding| allowed.iter().any(|name| name == finding.name);
    let (allowed, found): (Vec<_>, Vec<_>) = findings.into_iter().partition(is_allowed);
    for finding in &found {
        eprintln!("{}", finding.text);
    }
    let but = if allowed.is_empty() { String::new() } else { format!(", and {} allowed", allowed.len()) };
    let file = path.display();
    match found.len() {
        0 => println!("{file}: nothing found{but}"),
        1 => println!("{file}: 1 finding{but}"),
        many => println!("{file}: {many} findings{but}"),
    }
    if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
