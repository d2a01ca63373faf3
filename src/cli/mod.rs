//! The command line: what it accepts, and who carries it out.

mod admin;
mod check;
pub mod demo;
mod explain;
mod inherited;
mod lint;
mod run;
mod schema;
mod service_manager;
mod signals;
mod test;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// What was asked for can't be understood: the command line, or the configuration.
const USAGE: u8 = 2;

/// Without a command, larder runs.
#[derive(Debug, Parser)]
#[command(name = "larder", version, about = "A sidecar caching reverse proxy", max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy; so does larder without a command
    Run(run::RunArgs),
    /// Read a configuration and say everything that is wrong with it
    Check {
        /// The configuration
        #[arg(value_name = "FILE", env = "LARDER_CONFIG", default_value = DEFAULT_CONFIG)]
        file: PathBuf,
        #[command(flatten)]
        over: run::OverArgs,
    },
    /// Find what bites in a configuration that is not wrong: tags that nothing purges, keys without effect
    Lint {
        /// The configuration
        #[arg(value_name = "FILE", env = "LARDER_CONFIG", default_value = DEFAULT_CONFIG)]
        file: PathBuf,
        /// A kind of finding that is meant so, by its name in brackets; may be repeated
        #[arg(long = "allow", value_name = "NAME")]
        allowed: Vec<String>,
    },
    /// Try a configuration: requests with what is expected of each, out of a file
    Test {
        /// The tests (docs/explain.md)
        #[arg(value_name = "RULES")]
        file: PathBuf,
        /// The configuration to test [default: the one that RULES names]
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Say what larder makes of a request, and why: route, key, tags, lifetime, purges
    Explain(explain::ExplainArgs),
    /// Print what the configuration may say: a JSON Schema for editors, or a page for people
    Schema {
        #[arg(long, value_enum, default_value_t)]
        format: schema::Format,
    },
    /// Show what larder does: a sample API, larder in front of it, and requests to try
    Demo(demo::DemoArgs),
    /// Purge by tag, URL or prefix, at a larder that runs
    Purge(admin::PurgeArgs),
    /// The last purges at a larder that runs: what, when, why
    Purges(admin::PurgesArgs),
    /// Hits and misses of a larder that runs, by route
    Stats(admin::StatsArgs),
    /// Exit with 0 if a larder runs and takes requests; for container health checks
    Health(admin::HealthArgs),
}

const DEFAULT_CONFIG: &str = "proxy.yaml";

#[derive(Args, Clone, Debug)]
struct ConfigArg {
    /// The configuration
    #[arg(long, short, value_name = "FILE", env = "LARDER_CONFIG", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

/// Carries out the process's command line.
pub fn main() -> ExitCode {
    let Cli { command, run } = Cli::parse();
    let code = match command.unwrap_or(Command::Run(run)) {
        Command::Run(args) => run::run(&args),
        Command::Check { file, over } => check::run(&file, &over.overrides()),
        Command::Lint { file, allowed } => lint::run(&file, &allowed),
        Command::Test { file, config } => test::run(&file, config.as_deref()),
        Command::Explain(args) => explain::run(&args),
        Command::Schema { format } => schema::run(format),
        Command::Demo(args) => demo::run(&args),
        Command::Purge(args) => admin::purge(&args),
        Command::Purges(args) => admin::purges(&args),
        Command::Stats(args) => admin::stats(&args),
        Command::Health(args) => admin::health(&args),
    };
    crate::logging::flush();
    code
}

/// Says what went wrong, in one place and one form.
fn fail(code: u8, message: impl std::fmt::Display) -> ExitCode {
    crate::logging::flush();
    eprintln!("larder: {message}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests;
