//! `larder explain`: explains how larder handles a request. Offline from the configuration, or with `--now` at a running
//! larder, with what is stored there.

use std::path::Path;
use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use super::admin::AdminArgs;
use super::{USAGE, fail, print_result};
use crate::clock::Clock;
use crate::config::Config;
use crate::explain::{self, CallerTrust, ExplainRequest, ExplainResponse, Explainer, parse_fields, to_json};
use crate::policy::routes::Routes;

#[derive(Args, Debug)]
pub(super) struct ExplainArgs {
    /// The request: an optional method (default GET), and a path or URL
    #[arg(value_names = ["METHOD", "URL"], num_args = 1..=2, required = true)]
    request: Vec<String>,
    /// A request header: 'Name: value'; may be repeated
    #[arg(long = "header", short = 'H', value_name = "FIELD")]
    headers: Vec<String>,
    /// The request's body, or @FILE; sent as JSON unless a Content-Type is given
    #[arg(long, short, value_name = "TEXT|@FILE")]
    data: Option<String>,
    /// The status of the upstream's response
    #[arg(long, value_name = "CODE", default_value = "200")]
    status: StatusCode,
    /// A header of the upstream's response: 'Cache-Control: max-age=60'; may be repeated
    #[arg(long = "response", value_name = "FIELD")]
    response: Vec<String>,
    /// A file with the response's body, if tags or times are read from it
    #[arg(long, value_name = "FILE")]
    body: Option<std::path::PathBuf>,
    /// Ask a running larder what it has stored for the request; prints JSON
    #[arg(long, conflicts_with_all = ["data", "status", "response", "body"])]
    pub(super) now: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: &ExplainArgs, config: &Path) -> ExitCode {
    let explained = if args.now { now(args, config) } else { offline(args, config) };
    match explained {
        Ok(text) => print_result(&text),
        Err((code, error)) => fail(code, error),
    }
}

/// The exit code and the message.
type ExplainFailure = (u8, String);

fn offline(args: &ExplainArgs, config: &Path) -> Result<String, ExplainFailure> {
    let usage = |error: String| (USAGE, error);
    let request = build_request(args).map_err(usage)?;
    let response = build_response(args).map_err(usage)?;
    let config =
        Config::load(config).map_err(|errors| usage(format!("the configuration has errors\n{errors}")))?;
    let routes = Routes::new(&config.routes);
    let clock = Clock::system();
    let callers = explain::callers(&config, clock.clone()).map_err(|error| usage(error.to_string()))?;
    let explainer = Explainer::new(&config, &routes, CallerTrust::Verify(&callers), clock.now());
    let explanation = explainer.explain(&request, &response);
    Ok(match args.json {
        true => format!("{:#}\n", to_json(&explanation, &routes)),
        false => explainer.text(&explanation).to_string(),
    })
}

fn now(args: &ExplainArgs, config: &Path) -> Result<String, ExplainFailure> {
    let (method, target) = method_and_target(args);
    let names_host = args.headers.iter().any(|line| line.to_ascii_lowercase().starts_with("host:"));
    if target.starts_with('/') && !names_host {
        let help = format!(
            "{target} has no host, and the key contains the host\n\
             write the URL that clients use, such as http://api.example{target}, or add -H 'Host: api.example'"
        );
        return Err((USAGE, help));
    }
    let headers: Vec<Value> = args.headers.iter().map(|line| json!(line)).collect();
    let request = json!({"method": method, "url": target, "headers": headers});
    let client = args.admin.client(config).map_err(|error| (1, error))?;
    let answer = client.send(Method::POST, "/explain", Some(&request)).map_err(|error| (1, error))?;
    Ok(format!("{answer:#}\n"))
}

fn method_and_target(args: &ExplainArgs) -> (&str, &str) {
    match args.request.as_slice() {
        [method, target, ..] => (method, target),
        [target] => ("GET", target),
        [] => ("GET", "/"),
    }
}

fn build_request(args: &ExplainArgs) -> Result<ExplainRequest, String> {
    let (method, target) = method_and_target(args);
    let mut headers = parse_fields(args.headers.iter().map(String::as_str))?;
    let body = match args.data.as_deref().map(|data| (data, data.strip_prefix('@'))) {
        None => Bytes::new(),
        Some((_, Some(file))) => read(Path::new(file))?,
        Some((text, None)) => Bytes::copy_from_slice(text.as_bytes()),
    };
    if !body.is_empty() {
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    }
    ExplainRequest::new(method, target, headers, body)
}

fn build_response(args: &ExplainArgs) -> Result<ExplainResponse, String> {
    let headers = parse_fields(args.response.iter().map(String::as_str))?;
    let body = args.body.as_deref().map(read).transpose()?;
    Ok(ExplainResponse { status: args.status, headers, body }.with_default_type())
}

fn read(file: &Path) -> Result<Bytes, String> {
    std::fs::read(file).map(Bytes::from).map_err(|error| format!("{} can't be read: {error}", file.display()))
}
