//! `larder top`: the routes of all replicas, live on a terminal, or as one table where the output is none.

mod figures;
mod poll;
mod screen;
mod session;
mod terminal;

use std::io::{IsTerminal as _, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use self::figures::{History, Row};
use self::poll::{StatsSource, Wanted};
use super::admin::{AdminAddress, AdminArgs, aligned};
use super::{USAGE, fail, print_result};
use crate::config::read_duration;

const MIN_INTERVAL: Duration = Duration::from_millis(200);

/// Each is asked by a thread of its own.
const MAX_SOURCES: usize = 64;

#[derive(Args, Debug)]
pub(super) struct TopArgs {
    /// Time between refreshes
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    interval: String,
    /// The column to sort by
    #[arg(long, value_enum, default_value_t)]
    sort: SortColumn,
    /// Maximum number of routes
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
    /// Print one table and exit
    #[arg(long)]
    once: bool,
    /// An admin listener: a URL, host:port, or unix:/path. Repeat it for replicas that share no Redis
    /// [default: from the configuration]
    #[arg(long = "admin", value_name = "URL", env = "LARDER_ADMIN", value_delimiter = ',')]
    admins: Vec<AdminAddress>,
    /// The admin token [default: from the configuration]
    #[arg(long, value_name = "TOKEN", env = "LARDER_ADMIN_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum SortColumn {
    Route,
    Rate,
    #[default]
    Requests,
    Hits,
    P95Hit,
    P95Api,
    ApiTime,
    Purges,
    /// Bytes that were stored since the start, also those that are not any more.
    Written,
    Errors,
    Misses,
}

/// The columns of the table: what sorts by each, and its heading.
const COLUMNS: [(SortColumn, &str); 10] = [
    (SortColumn::Route, "ROUTE"),
    (SortColumn::Rate, "REQ/S"),
    (SortColumn::Requests, "REQUESTS"),
    (SortColumn::Hits, "HITS"),
    (SortColumn::P95Hit, "P95 HIT"),
    (SortColumn::P95Api, "P95 API"),
    (SortColumn::ApiTime, "API TIME"),
    (SortColumn::Purges, "PURGES"),
    (SortColumn::Written, "WRITTEN"),
    (SortColumn::Errors, "ERRORS"),
];

pub(super) fn run(args: &TopArgs, config: &Path) -> ExitCode {
    let interval = match read_duration(&args.interval) {
        Ok(interval) => interval.max(MIN_INTERVAL),
        Err((error, help)) => return fail(USAGE, format_args!("--interval: {error}; {help}")),
    };
    let sources = match args.sources(config) {
        Ok(sources) => sources,
        Err(error) => return fail(1, error),
    };
    let mut history = History::default();
    match poll::read_update(&sources, Wanted::Counters) {
        Ok(update) => history.push(update.sample),
        Err(error) => return fail(1, error),
    }
    if args.once || !stdout().is_terminal() {
        return print_result(&table(&history, args));
    }
    let session = session::Session::new(args.sort, args.limit, history);
    match terminal::run(session, sources, interval) {
        // The exit code by which a shell reports a signal.
        Ok(signal) => signal.map_or(ExitCode::SUCCESS, |number| ExitCode::from(128 + number)),
        Err(error) => {
            fail(1, format_args!("this terminal can't be used ({error}); `--once` prints one table"))
        }
    }
}

impl TopArgs {
    /// The admin listeners to ask, each once.
    fn sources(&self, config: &Path) -> Result<Vec<StatsSource>, String> {
        let mut addresses: Vec<Option<AdminAddress>> = Vec::new();
        for address in self.admins.iter().cloned().map(Some) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            addresses.push(None);
        }
        if addresses.len() > MAX_SOURCES {
            return Err(format!("--admin: give {MAX_SOURCES} addresses at most"));
        }
        let source = |address: Option<AdminAddress>| {
            let name = address.as_ref().map(AdminAddress::to_string).unwrap_or_default();
            let args = AdminArgs { admin: address, token: self.token.clone() };
            Ok(StatsSource { name, client: args.client(config)? })
        };
        addresses.into_iter().map(source).collect()
    }
}

/// One table, of all since the start.
fn table(history: &History, args: &TopArgs) -> String {
    let mut text = history.summary() + "\n";
    for note in history.notes() {
        text.push_str(&format!("! {note}\n"));
    }
    let mut rows = vec![COLUMNS.map(|(_, heading)| heading.to_owned())];
    rows.extend(history.rows(args.sort, false).iter().take(args.limit).map(Row::cells));
    text + "\n" + &aligned(&rows)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: TopArgs,
    }

    #[test]
    fn one_table_is_since_the_start_and_acts_on_no_terminal() {
        let mut history = History::default();
        history.push(figures::tests::sample(0, 120));
        let lines = |arguments: &[&str]| {
            let Line { args } = Line::parse_from([&["top"], arguments].concat());
            let text = table(&history, &args);
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(
            lines(&[]),
            [
                "ok; 2 replicas; 127 requests, 75.0 % hits",
                "! two: look",
                "! three has not reported its counters",
                "",
                "ROUTE REQ/S REQUESTS HITS P95 HIT P95 API API TIME PURGES WRITTEN ERRORS",
                "a\\u{1b}[2J - 120 75.0 % 0.2 ms 98 ms 12 s 3 2.0 KiB 0",
                "b - 7 - - - - 0 0 B 9",
            ]
        );
        assert!(lines(&["--sort", "errors", "--limit", "1"])[5].starts_with("b "));
    }
}
