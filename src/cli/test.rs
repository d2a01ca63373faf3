//! `larder test`: a table of requests against a configuration, with what is expected of each. Exits with 1 if one fails.

use std::path::Path;
use std::process::ExitCode;

use super::{USAGE, fail};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::rules::Rules;
use crate::explain::Explainer;
use crate::policy::routes::Routes;

/// `config`: in place of the one that the file names.
pub fn run(file: &Path, config: Option<&Path>) -> ExitCode {
    let rules = match Rules::load(file) {
        Ok(rules) => rules,
        Err(errors) => return fail(USAGE, format_args!("the tests can't be read\n{errors}")),
    };
    let config = match Config::load(config.unwrap_or(&rules.config)) {
        Ok(config) => config,
        Err(errors) => return fail(USAGE, format_args!("what is to be tested can't be read\n{errors}")),
    };
    let routes = Routes::new(&config.routes);
    let outcomes = Explainer::new(&config, &routes, Clock::system().now()).test(&rules);
    match outcomes.len() {
        1 => println!("\nrunning 1 test"),
        many => println!("\nrunning {many} tests"),
    }
    for outcome in &outcomes {
        let said = if outcome.failures.is_empty() { "ok" } else { "FAILED" };
        println!("test {} ... {said}", outcome.test.name);
    }
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.failures.is_empty()).collect();
    if !failed.is_empty() {
        println!("\nfailures:");
    }
    for outcome in &failed {
        println!("\n---- {} ----\n{}", outcome.test.name, outcome.failures.join("\n"));
    }
    let (passed, failed) = (outcomes.len() - failed.len(), failed.len());
    let said = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {said}. {passed} passed; {failed} failed\n");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
