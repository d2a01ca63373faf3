//! `larder test`: runs the request/expectation tests of a file. Exits with 1 if one fails.

use std::fmt::Write as _;
use std::io::stdout;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::output::{OutputFormat, ReportEntry, Severity, colorize, render, render_errors};
use super::{USAGE, fail, print};
use crate::clock::Clock;
use crate::config::rules::Rules;
use crate::config::{Config, ConfigErrors};
use crate::explain::rules::TestOutcome;
use crate::explain::{CallerTrust, Explainer};
use crate::policy::routes::Routes;

/// `config` replaces the configuration that the test file names.
pub(super) fn run(file: &Path, config: Option<&Path>, format: OutputFormat) -> ExitCode {
    let refuse = |what: &str, errors: ConfigErrors| match format {
        OutputFormat::Text => fail(USAGE, format_args!("{what} can't be read\n{errors}")),
        _ => {
            _ = print(&render_errors(format, &errors));
            ExitCode::from(USAGE)
        }
    };
    let rules = match Rules::load(file) {
        Ok(rules) => rules,
        Err(errors) => return refuse("the test file", errors),
    };
    let config = match Config::load(config.unwrap_or(&rules.config)) {
        Ok(config) => config,
        Err(errors) => return refuse("the configuration under test", errors),
    };
    let routes = Routes::new(&config.routes);
    let outcomes =
        Explainer::new(&config, &routes, CallerTrust::Assume, Clock::system().now()).run_tests(&rules);
    let failures = outcomes.iter().flat_map(|outcome| &outcome.failures);
    let findings: Vec<_> = failures
        .map(|diagnostic| ReportEntry {
            severity: Severity::Error,
            code: "test-failed",
            file: rules.source(),
            diagnostic,
        })
        .collect();
    let out = render(format, &findings, &json!({"tests": test_results(&outcomes)}))
        .unwrap_or_else(|| text_report(&rules, &outcomes));
    match print(&out) {
        Ok(()) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(failure) => failure,
    }
}

/// The report of the tests, and whether all passed.
pub(super) fn report_tests(rules: &Rules, config: &Config) -> (String, bool) {
    let routes = Routes::new(&config.routes);
    let outcomes =
        Explainer::new(config, &routes, CallerTrust::Assume, Clock::system().now()).run_tests(rules);
    let is_ok = outcomes.iter().all(|outcome| outcome.failures.is_empty());
    (text_report(rules, &outcomes), is_ok)
}

fn test_results(outcomes: &[TestOutcome<'_>]) -> Vec<Value> {
    let result = |outcome: &TestOutcome<'_>| json!({"name": outcome.test.name, "line": outcome.test.location.line(), "ok": outcome.failures.is_empty()});
    outcomes.iter().map(result).collect()
}

/// A report like that of `cargo test`.
fn text_report(rules: &Rules, outcomes: &[TestOutcome<'_>]) -> String {
    let verdict = |is_ok: bool| if is_ok { "ok" } else { "FAILED" };
    let (passed, failed): (Vec<_>, Vec<_>) = outcomes.iter().partition(|outcome| outcome.failures.is_empty());
    let plural = if outcomes.len() == 1 { "" } else { "s" };
    // Writing to a string can't fail.
    let mut out = format!("\nrunning {} test{plural}\n", outcomes.len());
    for outcome in outcomes {
        let _ = writeln!(out, "test {} ... {}", outcome.test.name, verdict(outcome.failures.is_empty()));
    }
    if !failed.is_empty() {
        out.push_str("\nfailures:\n");
    }
    for outcome in &failed {
        let failures = outcome.failures.iter().map(|failure| rules.render_failure(failure));
        let failures = failures.collect::<Vec<_>>().join("\n");
        let _ = writeln!(out, "\n---- {} ----\n{}", outcome.test.name, colorize(&failures, &stdout()));
    }
    let result = verdict(failed.is_empty());
    let _ = writeln!(out, "\ntest result: {result}. {} passed; {} failed\n", passed.len(), failed.len());
    out
}
