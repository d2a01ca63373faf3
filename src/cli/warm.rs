//! `larder warm` and `larder refresh`: start background requests of a running larder, and show their progress.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use super::admin::{AdminArgs, StreamEvent};
use super::progress::ProgressBar;
use super::{fail, parse_duration_text, print_result};

#[derive(Args, Debug)]
pub(super) struct WarmArgs {
    /// The name of an entry of `warm` in the configuration
    #[arg(value_name = "NAME", required_unless_present_any = ["urls", "route", "from"])]
    #[arg(conflicts_with_all = ["urls", "route", "values", "from"])]
    name: Option<String>,
    /// A path to fetch; {name} stands for the values of --value, {} for those of --each; may be repeated
    #[arg(long = "url", value_name = "PATH")]
    urls: Vec<String>,
    /// A route by its name or path
    #[arg(long, value_name = "ROUTE")]
    route: Option<String>,
    /// Values of a placeholder or of a parameter of the route; may be repeated
    #[arg(long = "value", value_name = "NAME=VALUE,…", value_parser = parse_values)]
    values: Vec<(String, Vec<String>)>,
    /// The path of a JSON response that lists what to fetch
    #[arg(long, value_name = "PATH", requires = "each")]
    from: Option<String>,
    /// The values in it: a JSONPath
    #[arg(long, value_name = "JSONPATH", requires = "from")]
    each: Option<String>,
    /// Read the list to this end: --from is the first page, or has {page} for the page's number
    #[arg(long, requires = "from")]
    until: Option<Until>,
    /// The field of a page that has the URL of the next one: a JSONPath
    #[arg(long, value_name = "JSONPATH", requires = "until")]
    next: Option<String>,
    #[command(flatten)]
    output: RunOutput,
}

/// The end of a list.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Until {
    #[value(name = "last_page")]
    LastPage,
}

#[derive(Args, Debug)]
pub(super) struct RefreshArgs {
    /// Refresh what would expire within this time, such as 10m
    #[arg(long, value_name = "DURATION", value_parser = parse_duration_text)]
    expiring_within: String,
    /// Only responses of the routes with this name or path
    #[arg(long, value_name = "ROUTE")]
    route: Option<String>,
    /// Only responses with this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    #[command(flatten)]
    output: RunOutput,
}

#[derive(Args, Debug)]
struct RunOutput {
    /// Print the JSON of the admin listener
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

fn parse_values(text: &str) -> Result<(String, Vec<String>), String> {
    match text.split_once('=') {
        Some((name, values)) if !name.is_empty() => {
            Ok((name.to_owned(), values.split(',').map(str::to_owned).collect()))
        }
        _ => Err("write `id=1,2,3`".to_owned()),
    }
}

pub(super) fn warm(args: &WarmArgs, config: &Path) -> ExitCode {
    let mut values = BTreeMap::<&str, Vec<&str>>::new();
    for (name, given) in &args.values {
        values.entry(name).or_default().extend(given.iter().map(String::as_str));
    }
    let until = args.until.map(|Until::LastPage| "last_page");
    let WarmArgs { name, urls, route, from, each, next, .. } = args;
    let request = json!({
        "name": name, "urls": urls, "route": route, "values": values, "from": from, "each": each, "until": until,
        "next": next,
    });
    args.output.run("/warm", &request, config)
}

pub(super) fn refresh(args: &RefreshArgs, config: &Path) -> ExitCode {
    let RefreshArgs { expiring_within, route, tag, .. } = args;
    let request = json!({"expiring_within": expiring_within, "route": route, "tag": tag});
    args.output.run("/refresh", &request, config)
}

impl RunOutput {
    /// Starts the run, shows its progress, and prints its end. Fails if a request failed, or all were refused.
    fn run(&self, path: &str, request: &Value, config: &Path) -> ExitCode {
        let mut bar = if self.json { ProgressBar::new(None) } else { ProgressBar::on_stderr() };
        let mut last = None;
        let followed = self.admin.client(config).and_then(|client| {
            let followed = client.follow(Method::POST, path, Some(request), |event| {
                let StreamEvent::Event(event, data) = event else { return true };
                let data: Value = serde_json::from_str(data).unwrap_or_default();
                bar.draw(count_done(&data), data["requests"].as_u64().unwrap_or_default(), "");
                let is_done = event == "done";
                last = is_done.then_some(data);
                !is_done
            });
            Ok(followed?)
        });
        drop(bar);
        let tally = match (followed, last) {
            (Ok(()), Some(tally)) => tally,
            (Ok(()), None) => return fail(1, "larder ended before the run did"),
            (Err(error), _) => return fail(1, error),
        };
        let printed = match self.json {
            true => print_result(&format!("{tally:#}\n")),
            false => print_result(&describe_end(&tally)),
        };
        if has_succeeded(&tally) { printed } else { ExitCode::FAILURE }
    }
}

/// Whether no request failed, and not all were refused.
fn has_succeeded(tally: &Value) -> bool {
    let is_refused = tally["refused"] != 0 && tally["refused"] == count_done(tally);
    tally["failed"] == 0 && !is_refused
}

/// The number of requests that have ended.
fn count_done(tally: &Value) -> u64 {
    ["fetched", "fresh", "notStored", "refused", "failed"]
        .iter()
        .filter_map(|name| tally[name].as_u64())
        .sum()
}

fn describe_end(tally: &Value) -> String {
    let count = |name: &str| tally[name].as_u64().unwrap_or_default();
    let mut text = format!(
        "{} request{}: {} fetched, {} fresh, {} not stored, {} refused, {} failed\n",
        count("requests"),
        if count("requests") == 1 { "" } else { "s" },
        count("fetched"),
        count("fresh"),
        count("notStored"),
        count("refused"),
        count("failed"),
    );
    for (reason, number) in tally["reasons"].as_object().into_iter().flatten() {
        text += &format!("  {number} {}\n", reason.escape_debug());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_says_what_failed_and_why() {
        let tally =
            json!({"requests": 2, "fetched": 1, "failed": 1, "reasons": {"it was\u{1b} answered 500": 1}});
        let text = "2 requests: 1 fetched, 0 fresh, 0 not stored, 0 refused, 1 failed\n  1 it was\\u{1b} answered 500\n";
        assert_eq!(describe_end(&tally), text);
    }

    #[test]
    fn a_run_that_was_refused_has_failed() {
        for (refused, fetched, failed, expected) in
            [(0, 0, 0, true), (1, 0, 0, false), (1, 1, 0, true), (0, 1, 0, true), (0, 1, 1, false)]
        {
            let tally =
                json!({"requests": 2, "fetched": fetched, "refused": refused, "failed": failed, "fresh": 0});
            assert_eq!(has_succeeded(&tally), expected, "{tally}");
        }
        assert!(describe_end(&json!({"requests": 1})).starts_with("1 request:"));
    }

    #[test]
    fn values_have_a_name() {
        assert_eq!(parse_values("id=1,x y"), Ok(("id".to_owned(), vec!["1".to_owned(), "x y".to_owned()])));
        assert!(parse_values("1,2").is_err() && parse_values("=1").is_err());
    }
}
