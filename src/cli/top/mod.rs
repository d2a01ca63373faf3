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
use super::admin::{AdminArgs, aligned};
use super::{USAGE, fail, print_result};
use crate::config::read_duration;

const MIN_INTERVAL: Duration = Duration::from_millis(200);

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
    #[command(flatten)]
    admin: AdminArgs,
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
    Stored,
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
    (SortColumn::Stored, "STORED"),
    (SortColumn::Errors, "ERRORS"),
];

pub(super) fn run(args: &TopArgs, config: &Path) -> ExitCode {
    let interval = match read_duration(&args.interval) {
        Ok(interval) => interval.max(MIN_INTERVAL),
        Err((error, help)) => return fail(USAGE, format_args!("--interval: {error}; {help}")),
    };
    let client = match args.admin.client(config) {
        Ok(client) => client,
        Err(error) => return fail(1, error),
    };
    let mut history = History::default();
    match poll::read_sample(&client) {
        Ok(sample) => history.push(sample),
        Err(error) => return fail(1, error),
    }
    if args.once || !stdout().is_terminal() {
        return print_result(&table(&history, args));
    }
    let session = session::Session::new(args.sort, args.limit, history);
    match terminal::run(session, client, interval) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            fail(1, format_args!("this terminal can't be used ({error}); `--once` prints one table"))
        }
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
                "ROUTE REQ/S REQUESTS HITS P95 HIT P95 API API TIME PURGES STORED ERRORS",
                "a\\u{1b}[2J - 120 75.0 % 0.2 ms 98 ms 12 s 3 2.0 KiB 0",
                "b - 7 - - - - 0 0 B 9",
            ]
        );
        assert!(lines(&["--sort", "errors", "--limit", "1"])[5].starts_with("b "));
    }
}
