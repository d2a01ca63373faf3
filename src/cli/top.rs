//! `larder top`: the routes of a running larder with their rates, drawn again and again.

use std::collections::HashMap;
use std::io::{IsTerminal as _, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use http::Method;
use serde_json::Value;

use super::admin::{AdminArgs, aligned};
use super::{USAGE, fail, print, print_result};
use crate::config::read_duration;

/// Moves the cursor home and clears what is below: no other state of the terminal changes.
const REDRAW: &str = "\x1b[H\x1b[J";

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
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit: usize,
    /// Print one table and exit
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum SortColumn {
    #[default]
    Requests,
    Hits,
    Misses,
    Errors,
    Purges,
}

/// The counters of one moment.
struct Sampled {
    at: Instant,
    data: Value,
}

pub(super) fn run(args: &TopArgs, config: &Path) -> ExitCode {
    let interval = match read_duration(&args.interval) {
        Ok(interval) => interval.max(MIN_INTERVAL),
        Err((error, help)) => return fail(USAGE, format_args!("--interval: {error}; {help}")),
    };
    let client = match args.admin.client(config) {
        Ok(client) => client,
        Err(error) => return fail(1, error),
    };
    let read =
        || client.send(Method::GET, "/dashboard/data", None).map(|data| Sampled { at: Instant::now(), data });
    let is_live = stdout().is_terminal() && !args.once;
    let mut before = None;
    loop {
        let now = match read() {
            Ok(now) => now,
            Err(error) => return fail(1, error),
        };
        let picture = render(before.as_ref(), &now, args);
        if !is_live {
            return print_result(&picture);
        }
        if let Err(code) = print(&format!("{REDRAW}{picture}")) {
            return code;
        }
        before = Some(now);
        sleep(interval);
    }
}

fn render(before: Option<&Sampled>, now: &Sampled, args: &TopArgs) -> String {
    let overview = &now.data["overview"];
    let mut text = format!(
        "larder {}: {}, {} requests, {} hits, {} connections\n",
        plain(&now.data["version"]),
        plain(&now.data["status"]),
        overview["requests"],
        percent(&overview["hitRate"]),
        overview["connections"],
    );
    for note in now.data["notes"].as_array().into_iter().flatten() {
        text.push_str(&format!("! {}\n", plain(&note["text"])));
    }
    let seconds = before.map(|before| now.at.duration_since(before.at).as_secs_f64().max(0.001));
    let known: HashMap<&str, &Value> = before.map(|before| by_name(&before.data)).unwrap_or_default();
    let mut routes: Vec<&Value> = overview["routes"].as_array().into_iter().flatten().collect();
    let key = args.sort.key();
    routes.sort_by_key(|route| std::cmp::Reverse(route[key].as_u64()));
    let mut rows = vec![
        ["ROUTE", "REQ/S", "REQUESTS", "HITS", "P95 HIT", "P95 API", "PURGES", "ERRORS"].map(String::from),
    ];
    for route in routes.into_iter().take(args.limit) {
        let earlier = route["name"]
            .as_str()
            .and_then(|name| known.get(name))
            .and_then(|known| known["requests"].as_u64());
        let rate = match (route["requests"].as_u64(), earlier, seconds) {
            (Some(now), Some(before), Some(seconds)) => {
                format!("{:.1}", now.saturating_sub(before) as f64 / seconds)
            }
            _ => "-".into(),
        };
        rows.push([
            plain(&route["name"]),
            rate,
            route["requests"].to_string(),
            percent(&route["hitRate"]),
            millis(&route["fromStore"]["p95"]),
            millis(&route["fromUpstream"]["p95"]),
            route["invalidations"].to_string(),
            route["errors"].to_string(),
        ]);
    }
    text + "\n" + &aligned(&rows)
}

fn by_name(data: &Value) -> HashMap<&str, &Value> {
    let routes = data["overview"]["routes"].as_array().into_iter().flatten();
    routes.filter_map(|route| Some((route["name"].as_str()?, route))).collect()
}

impl SortColumn {
    fn key(self) -> &'static str {
        match self {
            SortColumn::Requests => "requests",
            SortColumn::Hits => "hits",
            SortColumn::Misses => "misses",
            SortColumn::Errors => "errors",
            SortColumn::Purges => "invalidations",
        }
    }
}

/// A text without what acts on a terminal.
fn plain(value: &Value) -> String {
    value.as_str().unwrap_or("-").escape_debug().to_string()
}

fn percent(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".into(), |fraction| format!("{:.1} %", fraction * 100.0))
}

fn millis(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".into(), |seconds| format!("{:.1} ms", seconds * 1e3))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: TopArgs,
    }

    fn sampled(at: Instant, requests: u64) -> Sampled {
        let route = |name: &str, requests: u64, errors: u64| {
            json!({
                "name": name, "requests": requests, "hits": 1, "misses": 1, "errors": errors, "hitRate": 0.5,
                "invalidations": 3, "fromStore": {"p95": 0.0002}, "fromUpstream": {"p95": null},
            })
        };
        let routes = [route("a\u{1b}[2J", requests, 0), route("b", 7, 9)];
        let overview = json!({"requests": requests + 7, "hitRate": 0.5, "connections": 2, "routes": routes});
        Sampled {
            at,
            data: json!({"version": "1", "status": "ok", "notes": [{"text": "look"}], "overview": overview}),
        }
    }

    #[test]
    fn rates_come_from_two_samples_and_nothing_acts_on_the_terminal() {
        let start = Instant::now();
        let (before, now) = (sampled(start, 100), sampled(start + Duration::from_secs(2), 120));
        let lines = |arguments: &[&str]| {
            let Line { args } = Line::parse_from([&["top"], arguments].concat());
            render(Some(&before), &now, &args)
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            lines(&[]),
            [
                "larder 1: ok, 127 requests, 50.0 % hits, 2 connections",
                "! look",
                "",
                "ROUTE REQ/S REQUESTS HITS P95 HIT P95 API PURGES ERRORS",
                "a\\u{1b}[2J 10.0 120 50.0 % 0.2 ms - 3 0",
                "b 0.0 7 50.0 % 0.2 ms - 3 9",
            ]
        );
        assert!(lines(&["--sort", "errors", "--limit", "1"])[4].starts_with("b "));
        let Line { args } = Line::parse_from(["top"]);
        let alone = render(None, &now, &args);
        let row = alone.lines().find(|line| line.starts_with("b ")).expect("the route");
        assert_eq!(row.split_whitespace().nth(1), Some("-"), "one sample has no rate");
    }
}
