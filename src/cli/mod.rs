//! The command line: its arguments, and the commands.

mod admin;
mod check;
mod connect;
pub mod demo;
mod drain;
mod explain;
mod import;
mod init;
mod lint;
mod man;
mod mcp;
mod output;
mod progress;
mod redis_stats;
mod replay;
mod run;
mod schema;
mod service_manager;
mod sharing;
mod signals;
mod socket_activation;
mod suggest;
mod tail;
mod test;
mod top;
mod warm;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use self::check::CheckOptions;
use self::output::OutputFormat;
use crate::config::{SettingOverrides, read_duration};

/// The exit code for an invalid command line or configuration.
const USAGE: u8 = 2;

/// Without a command, larder runs.
#[derive(Debug, Parser)]
#[command(name = "larder", version, long_version = LONG_VERSION.as_str(), max_term_width = 100)]
#[command(about = "A caching reverse proxy that you run in front of an existing HTTP API")]
struct Cli {
    #[command(flatten)]
    config: ConfigArg,
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    over: run::OverrideArgs,
}

/// The version with the commit, which the build is told as `LARDER_COMMIT` or finds in a repository, and the features.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    let commit = option_env!("LARDER_COMMIT").unwrap_or("unknown");
    let features = if cfg!(feature = "redis-rs") { "redis-rs" } else { "none" };
    format!("{}\ncommit: {commit}\nfeatures: {features}", env!("CARGO_PKG_VERSION"))
});

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy (the default)
    Run {
        #[command(flatten)]
        over: run::OverrideArgs,
    },
    /// Request some paths of the API and write a first configuration
    Init(init::InitArgs),
    /// Convert an nginx, Varnish or Souin configuration
    Import(import::ImportArgs),
    /// Suggest a configuration from an OpenAPI document, an access log or observed traffic
    Suggest(suggest::SuggestArgs),
    /// Report every error and warning in a configuration
    Check {
        /// The configuration file; the same as --config
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// Exit with 1 if there are warnings
        #[arg(long)]
        strict: bool,
        /// Connect to the configured Redis and try every command that larder uses
        #[arg(long)]
        connect: bool,
        #[command(flatten)]
        output: OutputArg,
        #[command(flatten)]
        over: run::OverrideArgs,
    },
    /// Diagnose the configuration, Redis and the API
    Doctor {
        /// The configuration file; the same as --config
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        output: OutputArg,
    },
    /// Warn about valid but suspicious settings: tags that nothing purges, keys without effect
    Lint {
        /// The configuration file; the same as --config
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// Ignore findings of this kind (the name in brackets); may be repeated
        #[arg(long = "allow", value_name = "NAME")]
        allowed: Vec<String>,
        #[command(flatten)]
        output: OutputArg,
    },
    /// Run the request/expectation tests in a file
    Test {
        /// The test file (docs/explain.md); --config replaces the configuration that it names
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        output: OutputArg,
    },
    /// Explain how larder handles a request: route, key, tags, lifetime, purges
    Explain(explain::ExplainArgs),
    /// Print all configuration options as a JSON Schema (for editors) or a Markdown page
    Schema {
        #[arg(long, value_enum, default_value_t)]
        format: schema::Format,
    },
    /// Run a demo: a sample API, larder in front of it, and requests to try
    Demo(demo::DemoArgs),
    /// Purge responses by tag, URL or prefix
    Purge(admin::PurgeArgs),
    /// List the last purges
    Purges(admin::PurgesArgs),
    /// Fetch responses before clients ask, and show the progress
    Warm(warm::WarmArgs),
    /// Fetch again what clients use and what would soon expire
    Refresh(warm::RefreshArgs),
    /// Show hits and misses by route
    Stats(admin::StatsArgs),
    /// Show hits that differed from the API's current response, and why
    Audit(admin::AuditArgs),
    /// Show request rates by route, refreshed continuously
    Top(top::TopArgs),
    /// Stream requests and their cache outcome
    Tail(tail::TailArgs),
    /// Run an MCP server on stdin/stdout; read-only without --allow purge
    Mcp(mcp::McpArgs),
    /// Inspect the configured Redis
    Redis {
        #[command(subcommand)]
        command: RedisCommand,
    },
    /// Drain a running larder: clients are told to close their connections
    Drain(drain::DrainArgs),
    /// Exit with 0 if larder accepts requests; for container health checks
    Health(admin::HealthArgs),
    /// Print a completion script for a shell
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write the pages of all commands
    Man {
        /// Write the pages of all commands to this folder
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

impl Command {
    /// Whether the configuration only tells the address of the larder that the command asks.
    fn asks_running_larder(&self) -> bool {
        use Command::{
            Audit, Drain, Explain, Health, Mcp, Purge, Purges, Redis, Refresh, Stats, Tail, Top, Warm,
        };
        match self {
            Audit(args) => args.replay.is_none(),
            Explain(args) => args.now,
            Redis { command } => matches!(command, RedisCommand::Key(_)),
            Drain(_) | Health(_) | Mcp(_) | Purge(_) | Purges(_) | Refresh(_) | Stats(_) | Tail(_)
            | Top(_) | Warm(_) => true,
            _ => false,
        }
    }
}

#[derive(Debug, Subcommand)]
enum RedisCommand {
    /// Count the keys of a namespace by kind
    Stats(redis_stats::RedisStatsArgs),
    /// Ask a running larder what is stored under a key: its route, path and tags
    Key(admin::KeyArgs),
}

const DEFAULT_CONFIG: &str = "proxy.yaml";

#[derive(Args, Clone, Debug)]
struct ConfigArg {
    /// The configuration file [env: LARDER_CONFIG] [default: proxy.yaml]
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigArg {
    /// Returns whether neither the command line nor the environment names a file.
    fn is_default(&self) -> bool {
        self.config.is_none() && std::env::var_os("LARDER_CONFIG").is_none()
    }

    /// The file of the command line, of `LARDER_CONFIG`, or the default.
    fn path(&self) -> PathBuf {
        let from_environment = || std::env::var_os("LARDER_CONFIG").map(PathBuf::from);
        self.config.clone().or_else(from_environment).unwrap_or_else(|| DEFAULT_CONFIG.into())
    }
}

#[derive(Args, Clone, Copy, Debug)]
struct OutputArg {
    /// The format of the findings
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let Cli { config, command, over } = parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let path = config.path();
    let reads_address = command.as_ref().is_some_and(Command::asks_running_larder);
    if reads_address && config.config.is_some() && !path.exists() {
        return fail(USAGE, admin::describe_missing(&path));
    }
    let code = match command.unwrap_or(Command::Run { over }) {
        Command::Run { over } => run::run(&path, config.is_default(), &over),
        Command::Init(args) => init::run(&args, &path),
        Command::Import(args) => import::run(&args),
        Command::Suggest(args) => suggest::run(&args, &path),
        Command::Check { file, strict, connect, output, over } => {
            let options = CheckOptions { is_strict: strict, connects: connect, is_doctor: false };
            check::run(&file.unwrap_or(path), &over.overrides(), output.output, options)
        }
        Command::Doctor { file, output } => {
            let options = CheckOptions { is_doctor: true, ..CheckOptions::default() };
            check::run(&file.unwrap_or(path), &SettingOverrides::default(), output.output, options)
        }
        Command::Lint { file, allowed, output } => lint::run(&file.unwrap_or(path), &allowed, output.output),
        Command::Test { file, output } => test::run(&file, config.config.as_deref(), output.output),
        Command::Explain(args) => explain::run(&args, &path),
        Command::Schema { format } => schema::run(format),
        Command::Demo(args) => demo::run(&args),
        Command::Purge(args) => admin::purge(&args, &path),
        Command::Purges(args) => admin::purges(&args, &path),
        Command::Warm(args) => warm::warm(&args, &path),
        Command::Refresh(args) => warm::refresh(&args, &path),
        Command::Stats(args) => admin::stats(&args, &path),
        Command::Audit(args) => match &args.replay {
            Some(file) => replay::run(&args, file, &path),
            None => admin::audit(&args, &path),
        },
        Command::Top(args) => top::run(&args, &path),
        Command::Tail(args) => tail::run(&args, &path),
        Command::Mcp(args) => mcp::run(&args, &path),
        Command::Redis { command: RedisCommand::Stats(args) } => redis_stats::run(&args, &path),
        Command::Redis { command: RedisCommand::Key(args) } => admin::describe_key(&args, &path),
        Command::Drain(args) => drain::run(&args, &path),
        Command::Health(args) => admin::health(&args, &path),
        Command::Completions { shell } => man::completions(Cli::command(), shell),
        Command::Man { dir } => man::run(Cli::command(), dir.as_deref()),
    };
    crate::logging::flush();
    code
}

/// Parses the arguments. Flags of `run` before another command are an error, rather than without effect.
fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(arguments)?;
    let is_flag = |matches: &clap::ArgMatches, id: &str| {
        matches.try_contains_id(id).unwrap_or(false)
            && matches.value_source(id) == Some(ValueSource::CommandLine)
    };
    if let Some((name, sub)) = matches.subcommand() {
        let misplaced = ["listen", "upstream", "observe", "admin", "log_level", "log_format"];
        if let Some(id) = misplaced.into_iter().find(|id| is_flag(&matches, id)) {
            let message = format!("write --{} after `{name}`", id.replace('_', "-"));
            return Err(command.error(ErrorKind::ArgumentConflict, message));
        }
        if matches!(name, "check" | "doctor" | "lint") && is_flag(sub, "file") && is_flag(sub, "config") {
            let message = "the configuration is named twice; remove FILE or --config";
            return Err(command.error(ErrorKind::ArgumentConflict, message));
        }
    }
    Cli::from_arg_matches(&matches)
}

/// Checks a duration that is sent as it is written.
fn parse_duration_text(text: &str) -> Result<String, String> {
    let checked = read_duration(text).map(|_| text.to_owned());
    checked.map_err(|(error, help)| format!("{error}; {help}"))
}

/// Reports an error and returns the exit code.
fn fail(code: u8, message: impl std::fmt::Display) -> ExitCode {
    use std::io::Write;
    crate::logging::flush();
    // A failure of this has no other place to go.
    _ = writeln!(std::io::stderr(), "larder: {message}");
    ExitCode::from(code)
}

/// The exit code after a closed pipe (`| head`): that of a program which SIGPIPE ends.
const CLOSED_PIPE: u8 = 141;

/// Prints to standard output at once. A closed pipe is a failure without a message.
fn print(text: &str) -> Result<(), ExitCode> {
    use std::io::Write;
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => ExitCode::from(CLOSED_PIPE),
        _ => fail(1, format_args!("the output can't be written: {error}")),
    })
}

/// Prints the whole result of a command.
fn print_result(text: &str) -> ExitCode {
    print(text).err().unwrap_or(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
