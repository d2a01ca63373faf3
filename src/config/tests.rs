//! The whole way from a text to settings, or to its errors.

mod callers;
mod errors;
mod events;
mod expiry;
mod files;
mod hostile;
mod lint;
mod overlay;
mod redis;
mod repetition;
mod routes;
mod schema;
mod settings;
mod variables;
mod warm;

use super::{Config, ConfigErrors, Location, SettingOverrides};

/// The shortest right file, to which `more` is added.
fn with(more: &str) -> String {
    format!("upstream: http://127.0.0.1:3000\n{more}")
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, "proxy.yaml", &|_| None, &SettingOverrides::default())
}

/// A right file: `more`, beside an upstream.
fn right(more: &str) -> Config {
    let text = with(more);
    parse(&text).unwrap_or_else(|errors| panic!("{text}\n{errors}"))
}

/// Every error of a wrong file: `line:column message (help)`.
fn wrong(text: &str) -> Vec<String> {
    let errors = parse(text).expect_err(text);
    let shown = errors.diagnostics().iter().map(|problem| {
        let place = match problem.location {
            Location::Text { line, column, .. } => format!("{line}:{column} "),
            _ => String::new(),
        };
        format!("{place}{} ({})", problem.message, problem.help.as_deref().unwrap_or_default())
    });
    shown.collect()
}

/// The one error of a file that is right but for `more`; it holds all of `parts`.
fn check_wrong(more: &str, parts: &[&str]) {
    let found = wrong(&with(more));
    assert_eq!(found.len(), 1, "{more}: {found:#?}");
    for part in parts {
        assert!(found[0].contains(part), "{more}: {} has no `{part}`", found[0]);
    }
}
