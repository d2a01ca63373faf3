//! `docs/cases.md`: runs every command in order and compares its answer with the lines below it.
//!
//! A block is a session: `$ NAME=value` sets a variable, `$ curl …` sends a request, `# 30 seconds later` moves the
//! clock. Lines below a command are lines of its answer, in order.

use std::collections::HashMap;

use super::{Case, path, text, token};
use crate::documents::sessions::line_matches;
use crate::support::Reply;
use crate::support::markdown::{Block, blocks};

/// Where the documents' larder listens.
const PROXY: &str = "localhost:8080";
const ADMIN: &str = "localhost:9090";

#[tokio::test]
async fn every_session_in_the_cases_goes_as_it_is_written() {
    let sections = text("docs/cases.md");
    let starts = sections.lines().enumerate().filter(|(_, line)| line.starts_with("## "));
    let starts: Vec<_> = starts.map(|(at, _)| at + 1).collect();
    let mut played = Vec::new();
    for block in blocks(&path("docs/cases.md"), "console") {
        let start = starts.iter().filter(|start| **start < block.line).max().expect("a section");
        let (file, case) = find_case(sections.lines().nth(*start - 1).expect("a heading"));
        let jwt = |user| token(user).trim_start_matches("Bearer ").to_owned();
        let variables = [("$ANN", jwt("ann")), ("$BEN", jwt("ben"))];
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Session { case: &case, block: &block, variables }.play().await;
        played.push(file);
    }
    assert_eq!(played, ["analytics", "courses", "catalogue", "productivity", "signed-urls"]);
}

#[test]
fn every_route_in_the_cases_stands_in_its_file() {
    let files = ["analytics", "courses", "catalogue", "productivity", "signed-urls"];
    let blocks = blocks(&path("docs/cases.md"), "yaml");
    assert_eq!(blocks.len(), files.len());
    for (block, file) in blocks.iter().zip(files) {
        let (callers, routes) = block.text.split_once("routes:\n").expect("routes");
        let file = text(&format!("config/{file}.yaml"));
        for part in [callers].into_iter().chain(routes.split("\n\n")) {
            assert!(file.contains(part.trim_end()), "not in the file:\n{part}");
        }
    }
}

fn find_case(heading: &str) -> (&'static str, Case) {
    let file = heading.split('`').nth(1).expect("a heading names its file");
    let as_shipped = |variable, api| Case::as_shipped(file, variable, api);
    match file {
        "config/analytics.yaml" => ("analytics", as_shipped("ANALYTICS_API", super::analytics::api())),
        "config/courses.yaml" => ("courses", as_shipped("COURSES_API", super::courses::api())),
        "config/catalogue.yaml" => ("catalogue", super::catalogue::catalogue()),
        "config/productivity.yaml" => ("productivity", as_shipped("APP_API", super::productivity::api())),
        "config/signed-urls.yaml" => ("signed-urls", super::signed_urls::signed_urls()),
        _ => panic!("no case is called {file}"),
    }
}

struct Session<'b> {
    case: &'b Case,
    block: &'b Block,
    variables: HashMap<String, String>,
}

impl Session<'_> {
    async fn play(mut self) {
        let mut answer = String::new();
        let mut commands = 0;
        for (at, line) in self.block.text.lines().enumerate() {
            let place = format!("{}:{}", self.block.file.display(), self.block.line + at);
            if let Some(command) = line.strip_prefix("$ ") {
                answer = self.carry_out(command, &place).await;
                commands += 1;
            } else if let Some(later) = line.strip_prefix("# ") {
                self.case.larder.after(seconds(later).unwrap_or_else(|| panic!("{place}: {later}")));
            } else {
                let found = answer.lines().position(|answered| line_matches(line, answered));
                let at = found.unwrap_or_else(|| panic!("{place}: no `{line}` in{answer}"));
                // The next line stands further below.
                answer = answer.lines().skip(at + 1).flat_map(|line| [line, "\n"]).collect();
            }
        }
        assert!(commands > 3, "{commands} commands");
    }

    /// The answer, each of its lines after a line feed.
    async fn carry_out(&mut self, command: &str, place: &str) -> String {
        let words = self.words(command);
        match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["curl", arguments @ ..] => written(&self.curl(arguments, place).await),
            [assignment] => {
                let (name, value) = assignment.split_once('=').expect("an assignment");
                self.variables.insert(format!("${name}"), value.to_owned());
                String::new()
            }
            _ => panic!("{place}: what is this?"),
        }
    }

    async fn curl(&self, arguments: &[&str], place: &str) -> Reply {
        let (mut method, mut headers, mut body, mut url) = (None, Vec::new(), None, None);
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || *arguments.next().unwrap_or_else(|| panic!("{place}: a value is missing"));
            match *argument {
                "-i" | "-s" => {}
                "-X" => method = Some(value()),
                "-H" => headers.push(value().split_once(": ").expect("a field")),
                "-d" => body = Some(value().to_owned()),
                _ => url = Some(*argument),
            }
        }
        let url = url.unwrap_or_else(|| panic!("{place}: no URL"));
        let (client, target) = match (url.strip_prefix(PROXY), url.strip_prefix(ADMIN)) {
            (Some(target), _) => (&*self.case.larder, target),
            (_, Some(target)) => (&self.case.larder.admin, target),
            _ => panic!("{place}: {url}"),
        };
        let method = method.unwrap_or(if body.is_some() { "POST" } else { "GET" });
        let request = client.request(method, target).body(body.unwrap_or_default());
        headers.into_iter().fold(request, |request, (name, value)| request.header(name, value)).await
    }

    /// The words that a shell reads, as far as the documents need it: quotes, and variables.
    fn words(&self, command: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quote = None;
        for letter in command.chars() {
            match (quote, letter) {
                (Some(open), _) if open == letter => quote = None,
                (None, '\'' | '"') => quote = Some(letter),
                (None, ' ') => words.push(String::new()),
                _ => words.last_mut().expect("never empty").push(letter),
            }
        }
        let fill = |word: String| {
            self.variables.iter().fold(word, |word, (name, value)| word.replace(name.as_str(), value))
        };
        words.into_iter().map(fill).collect()
    }
}

/// The reply in the form of `curl -i`.
fn written(reply: &Reply) -> String {
    let fields = reply.headers.iter();
    let fields: String = fields
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let status = http::StatusCode::from_u16(reply.status).expect("a status");
    format!("\nHTTP/1.1 {status}\n{fields}\n{}\n", reply.text())
}

/// `30 seconds later`, `4 minutes later`.
fn seconds(later: &str) -> Option<u64> {
    let [number, unit, "later"] = *later.split(' ').collect::<Vec<_>>() else { return None };
    let unit = match unit.trim_end_matches('s') {
        "second" => 1,
        "minute" => 60,
        "hour" => 60 * 60,
        _ => return None,
    };
    Some(number.parse::<u64>().ok()? * unit)
}
